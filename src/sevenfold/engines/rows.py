"""The newest rows of tables as a whole, texts among them: what events are enriched from.

A row at rest is MessagePack: its event_us, and its values or null for a delete. It lies in the state table
under its view's id like any state, so it is filled, taken over, freed and deleted with the other states.
"""

from __future__ import annotations

import msgspec
import numpy as np
import numpy.typing as npt

from sevenfold.algebra.grouping import group
from sevenfold.errors import StoreError
from sevenfold.features.columns import event_hashes, number_column
from sevenfold.features.plan import ViewPlan
from sevenfold.hashing import key_bytes
from sevenfold.stores.kv import Transaction
from sevenfold.stores.tables import STATE
from sevenfold.types import Column, EventBatch, Ints, Texts

__all__ = ["Row", "keep_rows", "read_rows", "read_rows_among"]

Hashes = npt.NDArray[np.uint64]
Cell = float | str | None
_BEFORE_ALL = -(1 << 63)


class Row(msgspec.Struct, array_like=True):
    """The row that holds for a key: the values of the view's kept fields in order, None for a delete."""

    event_us: int
    values: list[Cell] | None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Row).decode


def keep_rows(txn: Transaction, view: ViewPlan, batch: EventBatch) -> None:
    """Bring the rows that `view` keeps up to the batch, which is in log order.

    Of two rows the one with the later `event_us` holds, of equals the one later in the log.
    """
    hashes = event_hashes(view, batch)
    rows = np.flatnonzero(hashes.any(axis=1))
    if not len(rows):
        return
    ids, firsts = group(np.ascontiguousarray(hashes[rows]))
    order = np.lexsort((np.arange(len(rows)), batch.event_us[rows], ids))
    newest = rows[order[np.append(np.flatnonzero(np.diff(ids[order])), len(rows) - 1)]]
    keys = key_bytes(hashes[rows][firsts], view.view_id)
    before = [_row(view, key, value) for key, value in _stored(txn, keys)]
    after = _rows(view, batch.take(newest))
    txn.put_many(
        STATE,
        sorted(
            (key, _encode(new))
            for key, old, new in zip(keys, before, after, strict=True)
            if old is None or new.event_us >= old.event_us
        ),
    )


def read_rows(txn: Transaction, view: ViewPlan, hashes: Hashes) -> list[Row | None]:
    """The row that holds for each key, uint64 (n, 2); None where there is none or it is deleted."""
    rows = [_row(view, *pair) for pair in _stored(txn, key_bytes(hashes, view.view_id))]
    return [None if row is None or row.values is None else row for row in rows]


def read_rows_among(
    txn: Transaction, view: ViewPlan, asked: tuple[Hashes, Ints], given: tuple[EventBatch, Ints]
) -> tuple[list[Row | None], Ints]:
    """Rows, and which of them holds for each key, where further rows of the table come between.

    `asked` are keys (n, 2) and their places (n,) in the log; `given` the further rows and theirs, all different. What
    holds for a key is what `read_rows` would say once the rows before its place were kept.
    """
    (hashes, places), (batch, row_places) = asked, given
    n, further = len(hashes), event_hashes(view, batch)
    there = np.flatnonzero(further.any(axis=1))
    ids, firsts = group(np.concatenate([hashes, further[there]]))
    known = firsts[: np.searchsorted(firsts, n)]  # keys that are asked for come first
    stored = [_row(view, *one) for one in _stored(txn, key_bytes(hashes[known], view.view_id))]
    newest_us = [_BEFORE_ALL if row is None else row.event_us for row in stored]
    held, out = list(range(len(known))), np.empty(n, dtype=np.int64)
    events_us = batch.event_us[there].tolist()
    order = np.argsort(np.concatenate([places, row_places[there]]))
    order = order[ids[order] < len(known)]
    for i, key in zip(order.tolist(), ids[order].tolist(), strict=True):
        if i < n:
            out[i] = held[key]
        elif events_us[i - n] >= newest_us[key]:
            held[key], newest_us[key] = len(known) + i - n, events_us[i - n]
    used, which = np.unique(out, return_inverse=True)
    old = [stored[i] for i in used[used < len(known)].tolist()]
    new = _rows(view, batch.take(there[used[used >= len(known)] - len(known)]))
    rows = [None if row is None or row.values is None else row for row in [*old, *new]]
    return rows, which.reshape(-1)


def _stored(txn: Transaction, keys: list[bytes]) -> zip[tuple[bytes, bytes | None]]:
    return zip(keys, txn.get_many(STATE, keys), strict=True)


def _row(view: ViewPlan, key: bytes, raw: bytes | None) -> Row | None:
    if raw is None:
        return None
    try:
        row = _decode(raw)
    except msgspec.MsgspecError as error:
        raise StoreError(
            f"the row of {view.name!r} under key {key.hex()} is not one ({error}); the store is "
            "damaged: rebuild the state from the log"
        ) from error
    return row


def _rows(view: ViewPlan, batch: EventBatch) -> list[Row]:
    gone = np.zeros(len(batch), dtype=np.bool_)
    if view.delete is not None:
        gone |= np.nan_to_num(np.asarray(number_column(view.delete, batch), dtype=np.float64)) != 0
    columns = [_cells(batch.fields.get(name), len(batch)) for name in view.kept]
    rows = zip(batch.event_us.tolist(), gone.tolist(), zip(*columns, strict=True), strict=True)
    return [Row(event_us, None if is_gone else list(cells)) for event_us, is_gone, cells in rows]


def _cells(column: Column | None, n: int) -> list[Cell]:
    if column is None:
        return [None] * n
    if isinstance(column, Texts):
        return list(column.to_list())
    return [None if value != value else value for value in _floats(column)]


def _floats(column: npt.NDArray[np.float64] | Ints) -> list[float]:
    return [float(value) for value in column.tolist()]
