"""A commit of states: what was put is appended to the log, made safe, published, and said in LMDB's transaction.

    copies of what is cleaned, new records | pwrite
    many: fdatasync           few: their bytes in LMDB's transaction, too
    how far is published      in the map that writers share
    slots are set
    head                      in LMDB's transaction, whose commit is what makes all of it seen

Killed before `published` is set, the next writer appends over what was written. Killed after it, slots point beyond the tail: the next
writer sets them back, and leaves the stretch unused, because a reader may stand in it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec
import numpy as np

from sevenfold.errors import StoreError
from sevenfold.stores.state_files import MEMORY, Part, damaged, map_segment
from sevenfold.stores.state_layout import HEAD_KEY, Head, Layout, tail_key
from sevenfold.stores.state_log import StateLog
from sevenfold.stores.state_pending import Kept, Pending
from sevenfold.stores.state_records import DAMAGED, FULL, SEALED
from sevenfold.stores.state_upkeep import enter, lay, lay_kept
from sevenfold.stores.state_view import View, grown, slots_for
from sevenfold.types import Ints

__all__ = ["Commit"]

_SMALL_WORDS = 16 << 10
"""Words of commits that are kept in LMDB until their segment is synced: 128 KiB."""

_OUT_WORDS = 1 << 17

Kernel = Callable[[Any], int]


class Commit:
    """One commit at work: the parts of the layout that it changes, and how far it has come."""

    def __init__(self, log: StateLog, txn: Any, head: Head, view: View) -> None:
        self.log, self.txn, self.head, self.view = log, txn, head, view
        self.folder, self.bits = view.folder, view.layout.bits
        self.shared = log.shared(self.folder)
        self.table = view.table if view.is_true else np.empty(0, dtype=np.int64)
        self.parts = view.parts
        self.open = view.layout.open
        self.changes: dict[str, Any] = {}
        self.cleaning = head.victim, head.looked
        self.end = head.tail
        self.unsynced = head.unsynced
        self.more = 0  # keys that may come new
        self._runs: list[tuple[int, int]] = []
        self._must_sync = False
        self._out = np.empty(0, dtype=np.int64)
        self._bounds = np.zeros(5, dtype=np.int64)
        self._small: bytes | None = None
        self._tally = np.zeros(3, dtype=np.int64)

    def changed(self, name: str) -> Any:
        """A list of the layout, to be changed."""
        if name not in self.changes:
            self.changes[name] = list(getattr(self.view.layout, name))
        return self.changes[name]

    @property
    def layout(self) -> Layout:
        """The layout as it is by now."""
        if not self.changes and self.open == self.view.layout.open:
            return self.view.layout
        return msgspec.structs.replace(self.view.layout, open=self.open, **self.changes)

    @property
    def size(self) -> int:
        """Words of a segment."""
        return 1 << self.bits

    def make_room(self, words: int) -> None:
        """Have room to lay out so many words at once."""
        self._out = np.empty(min(words, _OUT_WORDS), dtype=np.int64)

    def put(self, pending: Pending) -> None:
        """Append what was put."""
        self.more = pending.n_keys
        kept = pending.kept
        for one in kept:
            self.append(0, len(one.keys), partial(self._lay_kept, one))
        for begin, end in [] if kept else pending.stretches():
            self.append(begin, end, partial(self._lay, pending.table))

    def _lay_kept(self, kept: Kept, bounds: Ints) -> int:
        keys, firsts, lengths, slots, _ = kept
        return lay_kept(MEMORY, keys, firsts, lengths, slots, self.table, self._out, bounds)

    def _lay(self, pending: Ints, bounds: Ints) -> int:
        return lay(MEMORY, pending, self.table, self._out, bounds)

    def append(self, begin: int, end: int, kernel: Kernel) -> int:
        """Append what a kernel lays out of the records from `begin` up to `end`; where it has come to."""
        bounds = self._bounds
        bounds[0], bounds[1] = begin, end
        while bounds[0] < bounds[1]:
            left = self.size - (self.end - (self.open << self.bits))
            bounds[3], bounds[4] = min(len(self._out), left), self.end
            told = kernel(bounds)
            if told == DAMAGED:
                raise damaged(self.folder, "a record is not what was written")
            if told > 0:
                self.map(told)
            elif bounds[0] < bounds[1]:
                self._make_way(int(bounds[2]), left)
        return int(bounds[0])

    def out(self) -> Any:
        """Where a kernel lays records out."""
        return self._out

    def map(self, number: int) -> None:
        """Have a segment in memory that a slot points to."""
        if not self.view.has(number):
            self.view.map(number)
        self.table = self.view.table_of(self.parts)

    def _make_way(self, laid: int, left: int) -> None:
        """Go on where the next record has room."""
        if laid:
            self.flush()
        elif len(self._out) < left:
            self._out = np.empty(left, dtype=np.int64)
        elif left < self.size:
            self.next_segment()
        else:
            raise StoreError(
                f"a state has more than {8 * self.size - 64} bytes, more than there may be in the table of states"
            )

    def flush(self) -> None:
        """Write what was laid out."""
        words = int(self._bounds[2])
        if not words:
            return
        raw, offset = self._out[:words].data.cast("B"), 8 * (self.end % self.size)
        self._must_sync |= self._small is not None  # it was not all of the commit
        self._small = bytes(raw) if words <= _SMALL_WORDS else b""
        handle = self.log.handle(self.folder, self.open)
        while raw:
            n = os.pwrite(handle, raw, offset)
            raw, offset = raw[n:], offset + n
        if self._runs and self._runs[-1][1] == self.end:
            self._runs[-1] = self._runs[-1][0], self.end + words
        else:
            self._runs.append((self.end, self.end + words))
        self.end += words
        self._bounds[2] = 0

    def next_segment(self) -> None:
        """Close the segment and begin another, in a file that nobody reads any more if there is one."""
        self.sync()
        self.changed("closed").append((self.open, self.end - (self.open << self.bits)))
        self.open += 1
        self.log.new_segment(self.folder, self.open, self._free_files())
        self.view.hold(self.open, map_segment(self.folder, self.open, self.bits))
        self.table = self.view.table_of(self.parts)
        self.end = self.open << self.bits
        self._must_sync = True

    def _free_files(self) -> int | None:
        """Delete what no snapshot can be of; one segment of it to be used again."""
        oldest = self.log.oldest_reader(self.txn)
        free = [number for number, left in self.changed("waiting") if left <= oldest]
        self.changes["waiting"] = [one for one in self.changes["waiting"] if one[1] > oldest]
        for number in free[1:]:
            (self.folder / f"{number}.seg").unlink(missing_ok=True)
        for part, generation, left in self.changed("void"):
            if left <= oldest:
                Part.path(self.folder, part, generation).unlink(missing_ok=True)
        self.changes["void"] = [one for one in self.changes["void"] if one[2] > oldest]
        return free[0] if free else None

    def sync(self) -> None:
        """Have on disk what was written to the open segment."""
        os.fdatasync(self.log.handle(self.folder, self.open))

    def keep(self) -> None:
        """Make safe what was appended."""
        n = sum(end - begin for begin, end in self._runs)
        if not n:
            return
        if self._must_sync or not self._small or self.unsynced + n > _SMALL_WORDS:
            self.sync()
            self.forget_tails()
        else:
            self.txn.put(tail_key(self._runs[0][0]), self._small, db=self.log.table)
            self.unsynced += n

    def forget_tails(self) -> None:
        """Delete the bytes of small commits: they are in their segments, on disk."""
        for address, _ in self.log.tails(self.txn) if self.unsynced else []:
            self.txn.delete(tail_key(address), db=self.log.table)
        self.unsynced = 0

    def publish(self) -> None:
        """Have slots point to what was appended. From here on others may stand in it."""
        self.shared.published = self.end
        self.shared.table = sum(self.layout.generations)
        live, used, tally = self.shared.live, self.shared.used, self._tally
        for begin, end in self._runs:
            at = begin
            while at != end:
                table = self.table.copy()
                table[SEALED] = False  # it was written a moment ago
                at = int(enter(MEMORY, table, live, used, at, end, tally))
                if tally[1] == FULL:
                    self.widen(int(tally[2]))
                elif tally[1] == DAMAGED:
                    raise damaged(self.folder, "a record is not what was written a moment ago")
                elif tally[1]:
                    self.map(int(tally[1]))

    def widen(self, i: int) -> None:
        """Make a part twice as large, in a new file; snapshots of before go on with the one there is."""
        old = self.parts[i]
        least = slots_for(self.head.keys + self.more)
        wider, used = grown(self.folder, self.table, i, old, old.generation + 1, least)
        self.parts = [*self.parts[:i], wider, *self.parts[i + 1 :]]
        self.table = self.view.table_of(self.parts)
        self.shared.used[i] = used
        self.changed("generations")[i] = wider.generation
        self.shared.table = sum(self.layout.generations)
        self.changed("void").append((i, old.generation, self.txn.id()))

    def say(self) -> None:
        """Put the head into LMDB's transaction."""
        layout = self.layout
        keys, raw = self.head.keys + int(self._tally[0]), self.head.raw_layout
        if layout is not self.view.layout:
            raw = msgspec.msgpack.encode(layout)
        head = Head(self.end, keys, *self.cleaning, self.unsynced, raw)
        self.txn.put(HEAD_KEY, head.encoded(), db=self.log.table)

    def is_nothing(self) -> bool:
        """Whether no record was appended."""
        return not self._runs

    def close(self) -> None:
        """Let go of what a commit that failed has open."""
        with suppress(OSError):
            self.log.let_go()
