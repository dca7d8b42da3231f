"""Which events are new: a second delivery of an id inside the horizon is known and refused.

Ids are held in cells, packed. A cell is (stream, slot, bucket): the slot is the stretch of one horizon in
which the id was accepted, the bucket some bits of its hash. An earlier acceptance can then be in two cells
only, a batch reads and writes far fewer values than it has events, and forgetting is the removal of a run
of neighbouring keys, a bounded slice at each call.
"""

from __future__ import annotations

from itertools import islice

import numpy as np
import numpy.typing as npt

from sevenfold.compiled import kernel
from sevenfold.errors import InputError, StoreError
from sevenfold.hashing import digest, hash128
from sevenfold.stores.kv import Transaction
from sevenfold.stores.tables import IDS, META
from sevenfold.types import US_PER_S, Ints, Texts

__all__ = ["fresh"]

Bools = npt.NDArray[np.bool_]
Hashes = npt.NDArray[np.uint64]

_BUCKETS = 2_048
_ENTRY = 24  # bytes in a cell for an id: known_us and the two halves of its hash, little-endian
_SWEEP = 64  # cells forgotten at a call besides twice the size of its batch
_NEVER = -(1 << 62)
_SIGN = np.uint64(1 << 63)  # flips int64 into an order that holds as unsigned bytes


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
    width = max(horizon_us, US_PER_S)
    _keep_width(txn, prefix, width)
    hashes = hash128(event_ids)
    mask = known_us - _latest(txn, prefix, hashes, known_us, width) > horizon_us
    _refuse_repeats(mask, hashes, known_us, horizon_us)
    # What no later batch can still meet inside the horizon need not be written at all.
    kept = np.flatnonzero(mask & (known_us >= known_us[-1] - horizon_us))
    _remember(txn, prefix, hashes[kept], known_us[kept], width)
    _sweep(txn, prefix, int(known_us[-1]) // width - 1, 2 * n + _SWEEP)
    return mask


def _latest(txn: Transaction, prefix: bytes, hashes: Hashes, known_us: Ints, width: int) -> Ints:
    """When each id was last accepted (n,), as far as its slot and the one before know."""
    now = _cells(hashes, known_us, width)
    cells, which = np.unique(np.concatenate([now, now - _BUCKETS]), return_inverse=True)
    values = txn.get_many(IDS, _keys(prefix, cells))
    counts = [0 if value is None else len(value) // _ENTRY for value in values]
    ends = np.cumsum(np.asarray(counts, dtype=np.int64))
    entries = _entries(b"".join([value for value in values if value]))
    latest = np.full(len(now), _NEVER, dtype=np.int64)
    if len(entries):
        places = np.asarray(which, dtype=np.int64).reshape(2, len(now))
        _look_up(entries, ends - counts, ends, places, hashes, latest)
    return latest


@kernel
def _look_up(
    entries: Hashes, begins: Ints, ends: Ints, places: Ints, hashes: Hashes, latest: Ints
) -> None:
    for row in range(len(latest)):
        for side in range(2):
            cell = places[side, row]
            for at in range(begins[cell], ends[cell]):
                if entries[at, 1] == hashes[row, 0] and entries[at, 2] == hashes[row, 1]:
                    latest[row] = max(latest[row], np.int64(entries[at, 0]))


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


def _remember(txn: Transaction, prefix: bytes, hashes: Hashes, known_us: Ints, width: int) -> None:
    """Put the ids at the end of their cells."""
    cells = _cells(hashes, known_us, width)
    order = np.argsort(cells, kind="stable")
    rows = np.empty((len(order), 3), dtype="<u8")
    rows[:, 0] = known_us[order].view(np.uint64)
    rows[:, 1:] = hashes[order]
    raw = rows.tobytes()
    touched, firsts = np.unique(cells[order], return_index=True)
    cuts = [*(firsts * _ENTRY).tolist(), len(raw)]
    keys = _keys(prefix, touched)
    old = txn.get_many(IDS, keys)
    txn.put_many(
        IDS,
        [
            (key, (before or b"") + raw[begin:end])
            for key, before, begin, end in zip(keys, old, cuts[:-1], cuts[1:], strict=True)
        ],
    )


def _sweep(txn: Transaction, prefix: bytes, oldest_slot: int, limit: int) -> None:
    """Forget up to `limit` cells of slots before `oldest_slot`."""
    stop = _keys(prefix, np.array([oldest_slot * _BUCKETS]))[0]
    for key in [key for key, _ in islice(txn.scan(IDS, prefix, stop), limit)]:
        txn.delete(IDS, key)


def _keep_width(txn: Transaction, prefix: bytes, width: int) -> None:
    """Lay the cells out anew when the horizon that the stream declares has changed."""
    name = b"ids/" + prefix.hex().encode()
    declared = width.to_bytes(8, "big")
    before = txn.get(META, name)
    if before == declared:
        return
    txn.put(META, name, declared)
    if before is None:
        return
    cells = list(txn.scan(IDS, prefix, prefix + b"\xff" * 9))
    entries = _entries(b"".join(value for _, value in cells))
    for key, _ in cells:
        txn.delete(IDS, key)
    if len(entries):
        _remember(txn, prefix, entries[:, 1:], entries[:, 0].astype(np.int64), width)


def _cells(hashes: Hashes, known_us: Ints, width: int) -> Ints:
    """The number of each id's cell (n,): ordered by slot, then by bucket."""
    buckets = (hashes[:, 1] & np.uint64(_BUCKETS - 1)).astype(np.int64)
    cells: Ints = known_us // width * _BUCKETS + buckets
    return cells


def _keys(prefix: bytes, cells: Ints) -> list[bytes]:
    raw = (cells.view(np.uint64) ^ _SIGN).astype(">u8").tobytes()
    return [prefix + raw[at : at + 8] for at in range(0, len(raw), 8)]


def _entries(raw: bytes) -> Hashes:
    if len(raw) % _ENTRY:
        raise StoreError(
            "the table of event ids is damaged: a cell does not hold whole entries; restore the store"
        )
    entries: Hashes = np.frombuffer(raw, dtype="<u8").reshape(-1, 3)
    return entries
