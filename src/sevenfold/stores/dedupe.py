"""Which events are new: a second delivery of an id inside the horizon is known and refused.

An id is known by its hash and by when it was last accepted, for one horizon. See `runs` for how they are kept.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from sevenfold.errors import InputError, StoreError
from sevenfold.hashing import digest, hash128
from sevenfold.stores.kv import Transaction
from sevenfold.stores.runs import Hashes, Runs
from sevenfold.stores.tables import IDS, META
from sevenfold.types import Ints, Texts

__all__ = ["Seen", "fresh"]

Bools = npt.NDArray[np.bool_]


def fresh(
    txn: Transaction, stream: str, event_ids: Texts, known_us: Ints, horizon_us: int
) -> Bools:
    """Which events (n,) are not a second delivery; their ids are remembered from now on.

    The events are in log order and not before any that were asked for earlier. An event is refused when
    the same id was accepted at most `horizon_us` before it, in this batch or an earlier one; a refused
    event does not lengthen the memory of its id.
    """
    if not len(event_ids):
        return np.zeros(0, dtype=np.bool_)
    seen = Seen(txn, stream, event_ids, horizon_us)
    mask = seen.fresh(known_us)
    seen.remember(mask, known_us)
    return mask


class Seen:
    """What is known of the ids of events (n,) of a stream, at least one; nothing is remembered before it is said so.

    `order` (n,) says which of them the events of a call are, in that order, when they are not in the one given.
    """

    def __init__(self, txn: Transaction, stream: str, event_ids: Texts, horizon_us: int) -> None:
        if horizon_us < 0:
            raise InputError(f"the horizon of stream {stream!r} is {horizon_us} us: give 0 or more")
        prefix = _prefix_of(stream)
        _take_over(txn, prefix)
        self._runs = Runs(txn, prefix)
        self._horizon_us = horizon_us
        self._hashes = hash128(event_ids)
        self._latest = self._runs.latest(self._hashes)

    def fresh(self, known_us: Ints, order: Ints | None = None) -> Bools:
        """Which events (n,) are not a second delivery, if that is when they become known."""
        hashes, latest = self._hashes, self._latest
        if order is not None:
            hashes, latest = hashes[order], latest[order]
        mask = known_us - latest > self._horizon_us
        _refuse_repeats(mask, hashes, known_us, self._horizon_us)
        return mask

    def remember(self, mask: Bools, known_us: Ints, order: Ints | None = None) -> None:
        """Remember the events of `mask` (n,)."""
        hashes = self._hashes if order is None else self._hashes[order]
        # What no later batch can still meet inside the horizon need not be written at all.
        oldest_us = int(known_us[-1]) - self._horizon_us
        kept = np.flatnonzero(mask & (known_us >= oldest_us))
        self._runs.add(hashes[kept], known_us[kept], oldest_us)


def _refuse_repeats(mask: Bools, hashes: Hashes, known_us: Ints, horizon_us: int) -> None:
    """Clear from `mask` what an accepted event of the same batch makes a second delivery."""
    rows = np.flatnonzero(mask)
    if len(rows) < 2:
        return
    order = np.argsort(hashes[rows, 0], kind="stable")
    low = hashes[rows, 0][order]
    same = low[1:] == low[:-1]
    if not same.any():
        return
    again = np.zeros(len(rows), dtype=np.bool_)
    again[1:] = same
    again[:-1] |= same
    last: dict[bytes, int] = {}
    for row in np.sort(rows[order[again]]).tolist():
        identity = hashes[row].tobytes()
        known = int(known_us[row])
        before = last.get(identity)
        if before is not None and known - before <= horizon_us:
            mask[row] = False
        else:
            last[identity] = known


@cache
def _prefix_of(stream: str) -> bytes:
    return bytes.fromhex(digest(stream.encode(), 4))


def _take_over(txn: Transaction, prefix: bytes) -> None:
    """Bring the ids of a store that was written by 0.1.0, which kept them in cells, into a run."""
    name = b"ids/" + prefix.hex().encode()
    if txn.get(META, name) is None:
        return
    cells = list(txn.scan(IDS, prefix, prefix + b"\xff" * 9))
    raw = b"".join(value for _, value in cells)
    if len(raw) % 24:
        raise StoreError(
            "the table of event ids is damaged: a cell does not hold whole entries; restore the store"
        )
    for key, _ in cells:
        txn.delete(IDS, key)
    txn.delete(META, name)
    rows: Hashes = np.frombuffer(raw, dtype="<u8").astype(np.uint64, copy=False).reshape(-1, 3)
    if len(rows):
        known_us = rows[:, 0].astype(np.int64)
        Runs(txn, prefix).add(rows[:, 1:], known_us, int(known_us.min()))
