"""Which events are new: a second delivery of an id inside the horizon is known and refused.

An id is known by its hash and by when it was last accepted, for one horizon. See `runs` for how they are kept.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sevenfold.errors import InputError, StoreError
from sevenfold.hashing import digest, hash128
from sevenfold.stores.kv import Transaction
from sevenfold.stores.runs import Hashes, Runs
from sevenfold.stores.tables import IDS, META
from sevenfold.types import Ints, Texts

__all__ = ["fresh"]

Bools = npt.NDArray[np.bool_]


def fresh(
    txn: Transaction, stream: str, event_ids: Texts, known_us: Ints, horizon_us: int
) -> Bools:
    """Which events (n,) are not a second delivery; their ids are remembered from now on.

    The events are in log order and not before any that were asked for earlier. An event is refused when
    the same id was accepted at most `horizon_us` before it, in this batch or an earlier one; a refused
    event does not lengthen the memory of its id.
    """
    n = len(event_ids)
    if not n:
        return np.zeros(0, dtype=np.bool_)
    if horizon_us < 0:
        raise InputError(f"the horizon of stream {stream!r} is {horizon_us} us: give 0 or more")
    prefix = bytes.fromhex(digest(stream.encode(), 4))
    _take_over(txn, prefix)
    runs = Runs(txn, prefix)
    hashes = hash128(event_ids)
    mask = known_us - runs.latest(hashes) > horizon_us
    _refuse_repeats(mask, hashes, known_us, horizon_us)
    # What no later batch can still meet inside the horizon need not be written at all.
    oldest_us = int(known_us[-1]) - horizon_us
    kept = np.flatnonzero(mask & (known_us >= oldest_us))
    runs.add(hashes[kept], known_us[kept], oldest_us)
    return mask


def _refuse_repeats(mask: Bools, hashes: Hashes, known_us: Ints, horizon_us: int) -> None:
    """Clear from `mask` what an accepted event of the same batch makes a second delivery."""
    rows = np.flatnonzero(mask)
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
