"""What the next writer mends: slots that a commit which never was had set, and a table of another boot of the machine."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from sevenfold.errors import StoreError
from sevenfold.stores.state_commit import Commit
from sevenfold.stores.state_files import MEMORY, Shared
from sevenfold.stores.state_layout import PARTS, Head
from sevenfold.stores.state_log import StateLog
from sevenfold.stores.state_upkeep import retreat, weigh
from sevenfold.stores.state_view import View, made_anew

__all__ = ["is_sound", "settle"]


def is_sound(view: View, shared: Shared, head: Head) -> bool:
    """Whether slots point to what is committed, and to nothing else."""
    is_ours = view.is_true and not view.is_private
    told = shared.told() if is_ours else None
    return told == (head.tail, sum(view.layout.generations))


def settle(log: StateLog, txn: Any) -> tuple[Head, View] | None:
    """Mend what a killed writer or another boot has left: how it is then, in this transaction. None while there never was a state."""
    head = log.head(txn)
    if head is None:
        return None
    view = log.view(txn, head, private=False)
    if is_sound(view, log.shared(view.folder), head):
        return head, view
    with log.faults():
        commit = Commit(log, txn, head, view)
        _make_sound(commit)
        commit.shared.table = sum(commit.layout.generations)
        commit.say()
    mended = log.head(txn)
    assert mended is not None
    # Of files as they are now, and not kept: the transaction may come to nothing.
    return mended, View(view.folder, mended.layout(), mended.raw_layout, None, write=True)


def _make_sound(commit: Commit) -> None:
    view, shared, tail = commit.view, commit.shared, commit.head.tail
    is_ours = view.is_true and not view.is_private and shared.is_true
    if is_ours and shared.published >= tail and _repair(commit):
        return
    _make_anew(commit)


def _repair(commit: Commit) -> bool:
    """Set back what points beyond the tail; False when a record on the way is damaged."""
    published = commit.shared.published
    try:
        for number in range(commit.open + 1, _last(commit, published) + 1):
            commit.map(number)
        used, tally = np.zeros(PARTS, dtype=np.int64), np.zeros(1, dtype=np.int64)
        for part in range(PARTS):
            used[part] = retreat(MEMORY, commit.table, part, commit.head.tail, tally)
            if used[part] < 0:
                return False
    except StoreError:
        return False
    live = commit.shared.live
    live[:] = 0
    for part in range(PARTS):
        weigh(MEMORY, commit.table, part, live)
    commit.shared.used[:] = used
    _leave_unused(commit, published)
    return True


def _last(commit: Commit, published: int) -> int:
    """The segment that was written to last."""
    return max((published - 1) >> commit.bits, commit.open)


def _leave_unused(commit: Commit, published: int) -> None:
    """Go on behind what was published: a reader may stand in it."""
    tail, begin, last = commit.end, commit.open << commit.bits, _last(commit, published)
    if published == tail:
        return
    if last > commit.open:
        commit.sync()
        commit.forget_tails()
        commit.changed("closed").append((commit.open, tail - begin))
        left = commit.txn.id()
        commit.changed("waiting").extend((n, left) for n in range(commit.open + 1, last))
        commit.open, tail = last, last << commit.bits
    commit.changed("gaps").append((tail, published))
    commit.end = published


def _make_anew(commit: Commit) -> None:
    """Make the table of the records, in new files."""
    log, txn, old = commit.log, commit.txn, commit.view
    for address, raw in log.tails(txn):
        handle = log.handle(commit.folder, address >> commit.bits)
        os.pwrite(handle, raw, 8 * (address & (commit.size - 1)))
        os.fdatasync(handle)
    commit.forget_tails()
    commit.unsynced = 0
    left = txn.id()
    voids = [(i, g, left) for i, g in enumerate(old.layout.generations)]
    commit.changes["generations"] = [g + 1 for g in old.layout.generations]
    commit.changed("void").extend(voids)
    view = View(commit.folder, old.layout, b"", None, write=True)
    shared, tail = commit.shared, commit.head.tail
    published = max(tail, shared.published) if shared.is_true else tail
    shared.make()
    used, live = made_anew(view, commit.head, commit.changes["generations"], commit.folder)
    commit.view, commit.parts, commit.table = view, view.parts, view.table
    shared.used[:], shared.live[:] = used, live
    _leave_unused(commit, published)
    shared.published = published
