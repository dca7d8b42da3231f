"""Features now: state kept as events arrive, read by key."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sevenfold.algebra.grouping import bucket, group
from sevenfold.algebra.packed import first_damaged, read_packed, update_packed
from sevenfold.errors import StoreError
from sevenfold.features.assemble import ViewValues, assemble
from sevenfold.features.columns import view_columns
from sevenfold.features.frame import FeatureFrame, Spine
from sevenfold.features.plan import Plan, Reading, ViewPlan
from sevenfold.features.reach import reading_hashes
from sevenfold.hashing import key_bytes
from sevenfold.stores.kv import Transaction
from sevenfold.types import EventBatch, Ints

__all__ = ["OnlineEngine"]

Hashes = npt.NDArray[np.uint64]
_TABLE = "state"


class OnlineEngine:
    """Keeps one packed state a key and view in a store, and reads them.

    The caller owns the transaction: an ingest commits the states with the log position they reflect.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._readings_for: dict[tuple[str, ...], tuple[Reading, ...]] = {}

    def apply(self, txn: Transaction, batch: EventBatch) -> None:
        """Bring every view of the batch's stream up to the batch, which must be in log order."""
        for view in self.plan.views:
            if view.stream == batch.stream and len(batch):
                _apply(txn, view, batch)

    def read(self, txn: Transaction, names: Sequence[str], spine: Spine) -> FeatureFrame:
        """The features `names` of a request: `spine` has one instant, later than all that was applied.

        A key column of length 1 is read once for all rows; an unknown key gives empty-window values.
        """
        wanted = tuple(names)
        readings = self._readings_for.get(wanted)
        if readings is None:
            self.plan.require(wanted)
            readings = self._readings_for.setdefault(wanted, self.plan.readings_for(wanted))
        t_us = int(spine.t_us[0]) if len(spine) else 0
        found: dict[str, ViewValues] = {}
        for reading in readings:
            hashes = reading_hashes(reading, spine, found)
            found[reading.name] = _read(txn, reading.view, hashes, t_us)
        return assemble(self.plan, wanted, spine, found)


def _apply(txn: Transaction, view: ViewPlan, batch: EventBatch) -> None:
    columns = view_columns(view, batch)
    if not len(columns.hashes):
        return  # no event that counts here
    ids, firsts = group(columns.hashes)
    keys = key_bytes(columns.hashes[firsts], view.view_id)
    old, ends = _packed(view, keys, txn.get_many(_TABLE, keys))
    events = bucket(ids, len(firsts))
    new, new_ends = update_packed(view.layout, old, ends, events, columns.arrays())
    raw = new.tobytes()
    cuts = (new_ends * 8).tolist()
    rows = zip(keys, [0, *cuts[:-1]], cuts, strict=True)
    txn.put_many(_TABLE, sorted((key, raw[begin:end]) for key, begin, end in rows))


def _read(txn: Transaction, view: ViewPlan, hashes: Hashes, t_us: int) -> ViewValues:
    keys = key_bytes(hashes, view.view_id)
    packed, ends = _packed(view, keys, txn.get_many(_TABLE, keys))
    return read_packed(view.layout, packed, ends, t_us)


def _packed(
    view: ViewPlan, keys: Sequence[bytes], values: Sequence[bytes | None]
) -> tuple[Ints, Ints]:
    lengths = np.fromiter((len(v) if v else 0 for v in values), dtype=np.int64, count=len(keys))
    cut = np.flatnonzero(lengths % 8)
    if len(cut):
        damaged = int(cut[0])
    else:
        packed = np.frombuffer(b"".join(v for v in values if v), dtype=np.int64)
        ends = np.cumsum(lengths // 8)
        damaged = first_damaged(view.layout, packed, ends)
        if damaged < 0:
            return packed, ends
    raise StoreError(
        f"the state of view {view.name!r} under key {keys[damaged].hex()} is not one of that view; "
        "the store is damaged: rebuild the state from the log"
    )
