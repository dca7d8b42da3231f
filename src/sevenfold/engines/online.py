"""Features now: state kept as events arrive, read by key."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from sevenfold.algebra.grouping import gather
from sevenfold.algebra.layout import Groups
from sevenfold.algebra.packed import newest_us, read_packed, update_packed
from sevenfold.engines.hot import HotStates
from sevenfold.engines.rows import keep_rows
from sevenfold.errors import StoreError
from sevenfold.features.assemble import ViewValues, assemble
from sevenfold.features.columns import HashedBatch, ViewColumns, view_columns
from sevenfold.features.exact import require_exact
from sevenfold.features.frame import FeatureFrame, Spine
from sevenfold.features.plan import Plan, Reading, ViewPlan
from sevenfold.features.reach import reading_hashes
from sevenfold.hashing import key_bytes
from sevenfold.stores.kv import Hashes, Transaction, Words
from sevenfold.types import EventBatch, Ints

__all__ = ["OnlineEngine"]

_TABLE = "state"


class OnlineEngine:
    """Keeps one packed state a key and view in a store, and reads them.

    The caller owns the transaction: an ingest commits the states with the log position they reflect. With `hot`
    some states are read of memory.
    """

    def __init__(self, plan: Plan, hot: HotStates | None = None) -> None:
        self.plan = plan
        self.hot = hot
        self._rounds_for: dict[tuple[str, ...], list[list[Reading]]] = {}

    def apply(self, txn: Transaction, batch: EventBatch) -> None:
        """Bring every view of the batch's stream up to the batch, which must be in log order."""
        views = [view for view in self.plan.views if view.stream == batch.stream and len(batch)]
        if not views:
            return
        # All is read before anything is written: a page that a transaction has written is slower to find.
        tiled = [view for view in views if not view.kept]
        hashed = HashedBatch(batch)
        touched = [entry for view in tiled if (entry := _touch(view, hashed)) is not None]
        asked = [(entry.view.view_id, entry.hashes) for entry in touched]
        states = [
            _updated(entry, *old)
            for entry, old in zip(touched, txn.words(_TABLE, asked), strict=True)
        ]
        for (prefix, hashes), (words, ends) in zip(asked, states, strict=True):
            txn.keep(_TABLE, prefix, hashes, words, ends)
        for view in views:
            if view.kept:
                keep_rows(txn, view, batch)

    def read(self, txn: Transaction, names: Sequence[str], spine: Spine) -> FeatureFrame:
        """The features `names` of a request: `spine` has one instant, later than all that was applied.

        A key column of length 1 is read once for all rows; an unknown key gives empty-window values. Raises
        InputError for a sum of whole numbers beyond 2^53.
        """
        return self._read(txn, names, spine, None)

    def read_dated(
        self, txn: Transaction, names: Sequence[str], spine: Spine
    ) -> tuple[FeatureFrame, dict[str, Ints]]:
        """The same, and for each view of `names` when the newest event of every row's key happened.

        The instants are int64 (n,); NEVER_US where the view has seen nothing of the key.
        """
        newest: dict[str, Ints] = {}
        frame = self._read(txn, names, spine, newest)
        return frame, {name: np.broadcast_to(at, len(spine)) for name, at in newest.items()}

    def _read(
        self, txn: Transaction, names: Sequence[str], spine: Spine, newest: dict[str, Ints] | None
    ) -> FeatureFrame:
        wanted = names if type(names) is tuple else tuple(names)
        rounds = self._rounds_for.get(wanted)
        if rounds is None:
            self.plan.require(wanted)
            rounds = self._rounds_for.setdefault(wanted, _rounds(self.plan.readings_for(wanted)))
        t_us = int(spine.t_us[0]) if len(spine) else 0
        found: dict[str, ViewValues] = {}
        keys: dict[str, Hashes] = {}
        if self.hot is not None:
            self.hot.follow(txn)
        for together in rounds:
            asked = [
                (reading.view.view_id, reading_hashes(reading, spine, found, keys))
                for reading in together
            ]
            states = _fetched(txn, together, asked, self.hot)
            for reading, hashed, (words, places) in zip(together, asked, states, strict=True):
                values, kinds, damaged = read_packed(reading.view.layout, words, places, t_us)
                if damaged >= 0:
                    raise _damage(reading.view, key_bytes(hashed[1], hashed[0])[damaged])
                found[reading.name] = values, kinds
                if newest is not None:
                    newest[reading.name] = newest_us(words, places)
                if reading.view.whole:
                    require_exact(reading, values)
        return assemble(self.plan, wanted, spine, found)


@dataclass(frozen=True, slots=True, eq=False)
class _Touched:
    """The keys of a view that a batch touches, in the order of a store, and the events of each."""

    view: ViewPlan
    hashes: Hashes
    events: Groups
    columns: ViewColumns


def _touch(view: ViewPlan, hashed: HashedBatch) -> _Touched | None:
    columns = view_columns(view, hashed)
    if not len(columns.hashes):
        return None  # no event that counts here
    # A store is quicker when keys come in its order: neighbours lie on one page.
    firsts, events = gather(columns.hashes)
    return _Touched(view, columns.hashes[firsts], events, columns)


def _updated(entry: _Touched, words: Ints, places: Ints) -> tuple[Ints, Ints]:
    """The states of the keys after their events, and their ends, from where they lie now."""
    layout = entry.view.layout
    new, ends, damaged = update_packed(layout, words, places, entry.events, entry.columns.arrays())
    if damaged >= 0:
        raise _damage(entry.view, key_bytes(entry.hashes, entry.view.view_id)[damaged])
    return new, ends


def _rounds(readings: Sequence[Reading]) -> list[list[Reading]]:
    """The readings that can be fetched together: first those under given keys, then those links lead to."""
    rounds: list[list[Reading]] = []
    place: dict[str, int] = {}
    for reading in readings:
        at = max((place[link.name] + 1 for link in reading.links.values()), default=0)
        place[reading.name] = at
        if at == len(rounds):
            rounds.append([])
        rounds[at].append(reading)
    return rounds


def _fetched(
    txn: Transaction,
    readings: Sequence[Reading],
    asked: Sequence[tuple[bytes, Hashes]],
    hot: HotStates | None,
) -> Iterable[Words]:
    """The states of each reading under its keys, all fetched in one go but for those in memory."""
    if hot is None:
        return txn.words(_TABLE, asked)
    here = [hot.has(reading.view) and not reading.links for reading in readings]
    rest = [one for one, is_hot in zip(asked, here, strict=True) if not is_hot]
    stored = iter(txn.words(_TABLE, rest) if rest else [])
    return [
        hot.words(txn, _TABLE, one) if is_hot else next(stored)
        for one, is_hot in zip(asked, here, strict=True)
    ]


def _damage(view: ViewPlan, key: bytes) -> StoreError:
    return StoreError(
        f"the state of view {view.name!r} under key {key.hex()} is not one of that view; "
        "the store is damaged: rebuild the state from the log"
    )
