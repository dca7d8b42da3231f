"""The table of the semantics (section 3), row by row, through both engines."""

from __future__ import annotations

import numpy as np
import pytest

import sevenfold as sf
from sevenfold.engines.offline import read_at
from sevenfold.engines.online import OnlineEngine
from sevenfold.features.frame import Spine
from sevenfold.features.plan import compile_plan
from sevenfold.stores.kv import Store
from sevenfold.types import EventBatch, Ints, Texts

user = sf.Entity("user")
stream = sf.Stream("s", time="at", keys=[user], fields={"x": sf.Number()})
PLAN = compile_plan(
    [sf.aggregate(user, stream, sf.count(windows=["1 h"]), sf.sum("x", windows=["1 h"]))]
)

ROWS = [
    ("10:00:30", 0, 0, 0),
    ("10:00:30", 1, 1, 2),
    ("11:00:59", 0, 1, 2),
    ("11:01:00", 0, 1, 7),
    ("11:03:00", 1, 2, 12),
]
IDS = ["own instant", "a microsecond later", "the tail tile", "left with its tile", "late"]


def us(*times: str) -> Ints:
    return np.array([f"2024-05-05T{t}" for t in times], dtype="datetime64[us]").astype(np.int64)


def events() -> EventBatch:
    """A, C and B, in the order of the log."""
    return EventBatch(
        "s",
        us("10:00:30", "11:00:59", "10:59:59"),
        us("10:00:30", "11:00:59", "11:03:00"),
        Texts.of(["A", "C", "B"]),
        {"user": Texts.of(["u"] * 3)},
        {"x": np.array([2.0, 7.0, 5.0])},
    )


@pytest.mark.parametrize(("time", "plus_us", "count", "total"), ROWS, ids=IDS)
def test_as_of_then(time: str, plus_us: int, count: int, total: int) -> None:
    spine = Spine(us(time) + plus_us, {"user": Texts.of(["u"])})
    assert read_at(PLAN, PLAN.names, spine, {"s": events()}).values.tolist() == [[count, total]]


@pytest.mark.parametrize(("time", "plus_us", "count", "total"), ROWS, ids=IDS)
def test_now(store: Store, time: str, plus_us: int, count: int, total: int) -> None:
    engine, t_us = OnlineEngine(PLAN), us(time) + plus_us
    with store.write() as txn:
        engine.apply(txn, events().take(events().known_us < t_us[0]))
        frame = engine.read(txn, PLAN.names, Spine(t_us, {"user": Texts.of(["u"])}))
    assert frame.values.tolist() == [[count, total]]
