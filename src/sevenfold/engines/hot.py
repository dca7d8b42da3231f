"""States of hot keys in memory: exact copies of what the store holds, never older than it.

Features change with time alone, as windows pass, so values that are kept would be wrong a moment later. States do not:
they change when an event of their key is applied. So states are kept, and values computed from them as of each read, the
same bits as without.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from sevenfold.features.columns import HashedBatch
from sevenfold.features.plan import ViewPlan
from sevenfold.hashing import key_bytes
from sevenfold.stores.kv import Hashes, Transaction, Words, laid_out
from sevenfold.stores.log import position
from sevenfold.types import EventBatch

__all__ = ["HotStates"]

_ENTRY_BYTES = 160  # of an entry beside its state: the key, two objects, a place in the table


class HotStates:
    """The states of some views, the latest read, in at most `max_bytes`.

    It is told of the events that this process commits, and drops what they touch. Anything else that moves the log's end
    (another process that writes) empties it. Not for more than one thread at a time.
    """

    def __init__(self, views: Iterable[ViewPlan], max_bytes: int) -> None:
        self._views = {view.view_id: view for view in views if not view.kept}
        self._max_bytes = max_bytes
        self._states: dict[bytes, bytes] = {}
        self._as_of = -1
        self.bytes = 0
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        """The number of states that are kept."""
        return len(self._states)

    def has(self, view: ViewPlan) -> bool:
        """Whether states of a view are kept."""
        return view.view_id in self._views

    def follow(self, txn: Transaction) -> None:
        """Make sure that what is kept is what a transaction sees; call it before its reads."""
        now = position(txn)
        if now != self._as_of:
            self.clear()
            self._as_of = now

    def observe(self, batch: EventBatch) -> None:
        """Drop what events that are committed have touched."""
        views = [view for view in self._views.values() if view.stream == batch.stream]
        if self._states and views:
            hashed = HashedBatch(batch)
            for view in views:
                for key in set(key_bytes(hashed.hashes(view), view.view_id)):
                    state = self._states.pop(key, None)
                    if state is not None:
                        self.bytes -= len(state) + _ENTRY_BYTES
        self._as_of += len(batch)

    def clear(self) -> None:
        """Drop all."""
        self._states.clear()
        self.bytes = 0

    def words(self, txn: Transaction, table: str, asked: tuple[bytes, Hashes]) -> Words:
        """What `txn.words` gives for keys of a view that `has` states here."""
        keys = key_bytes(asked[1], asked[0])
        found = list(map(self._states.get, keys))
        missing = [place for place, state in enumerate(found) if state is None]
        self.hits += len(keys) - len(missing)
        self.misses += len(missing)
        if missing:
            data, lengths = txn.gather(table, [keys[place] for place in missing])
            raw, end = bytes(data), 0
            for place, length in zip(missing, lengths.tolist(), strict=True):
                found[place] = raw[end : end + length]
                end += length
                self._keep(keys[place], raw[end - length : end])
        states = [state for state in found if state is not None]
        return laid_out(
            bytearray().join(states), np.fromiter(map(len, states), np.int64, len(states))
        )

    def _keep(self, key: bytes, state: bytes) -> None:
        size = len(state) + _ENTRY_BYTES
        if size > self._max_bytes or key in self._states:
            return
        self._states[key] = state
        self.bytes += size
        while self.bytes > self._max_bytes:
            oldest = next(iter(self._states))
            self.bytes -= len(self._states.pop(oldest)) + _ENTRY_BYTES
