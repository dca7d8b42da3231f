"""Vectors from a row to the log, a segment and a state: null as a whole, float32 and never cut."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sevenfold as sf
from sevenfold.engines.online import OnlineEngine
from sevenfold.features.frame import Spine
from sevenfold.features.plan import compile_plan
from sevenfold.sources.validate import validate
from sevenfold.spec.check_features import source_problems
from sevenfold.stores import log
from sevenfold.stores.memory import MemoryStore
from sevenfold.stores.segment import write_segment
from sevenfold.types import EventBatch, Texts, VectorState

NOW = 1_700_000_000_000_000
item = sf.Entity("item")
stream = sf.Stream("items", time="at", keys=[item], fields={"v": sf.Vector(width=3)})


def taken(*vectors: Any) -> EventBatch:
    rows = [{"at": NOW - 9 + i, "item": f"i{i}", "v": v} for i, v in enumerate(vectors)]
    return validate(stream, rows, NOW).batch


def test_a_vector_is_a_list_of_numbers_as_float32() -> None:
    batch = taken([1, 0.1, -2.5], None, (3e38, 0.0, -0.0))
    assert batch.fields["v"].shape == (3, 3)
    assert batch.fields["v"][0].tolist() == [1.0, float(np.float32(0.1)), -2.5]
    assert np.isnan(batch.fields["v"][1]).all()
    assert batch.fields["v"][2].tolist() == [float(np.float32(3e38)), 0.0, 0.0]


@pytest.mark.parametrize(
    "cell",
    [
        [1, 2],
        [1, 2, 3, 4],
        [1, 2, None],
        [1, 2, math.nan],
        [1, 2, 1e39],
        [1, 2, True],
        "1,2,3",
        3.0,
        {},
    ],
    ids=repr,
)
def test_what_is_no_vector_is_a_dead_letter(cell: Any) -> None:
    found = validate(stream, [{"at": NOW, "item": "i", "v": cell}], NOW)
    assert len(found.batch) == 0
    assert found.letters[0].reason == "wrong_type"
    assert "give a list of 3 finite float32 numbers, or null" in found.letters[0].detail


def test_the_log_gives_vectors_back_and_nulls_where_the_field_came_later() -> None:
    batch = taken([1, 2, 3], None)
    before = EventBatch(
        "items", batch.event_us - 9, batch.known_us - 9, Texts.of(["a", "b"]), batch.keys, {}
    )
    store = MemoryStore()
    with store.write() as txn:
        log.append(txn, before)
        log.append(txn, batch)
    with store.read() as txn:
        again = log.read_stream(txn, "items")
    assert again is not None
    np.testing.assert_array_equal(again.fields["v"][2:], batch.fields["v"])
    assert np.isnan(again.fields["v"][:2]).all()
    assert again.fields["v"].shape == (4, 3)


def test_a_segment_gives_vectors_back(tmp_path: Path) -> None:
    batch = taken([1, 2, 3], None, [4, 5, 6])
    segment = write_segment(tmp_path / "0-3", "items", ("item",), batch)
    for rows in (slice(1, 3), np.array([2, 0])):
        part = segment.batch(rows)
        order = [batch.keys["item"].to_list().index(key) for key in part.keys["item"].to_list()]
        np.testing.assert_array_equal(part.fields["v"], batch.fields["v"][order])


def test_a_state_holds_two_numbers_a_word() -> None:
    wide = sf.Stream("items", time="at", keys=[item], fields={"v": sf.Vector(width=256)})
    plan = compile_plan([sf.attribute(item, wide, "v", ttl="1 min")])
    assert plan.names[0] == "item_items__v_1"
    assert len(plan.names) == 256
    vector = np.arange(256, dtype=np.float64)
    at = np.array([NOW])
    keys = {"item": Texts.of(["i"])}
    engine, store = OnlineEngine(plan), MemoryStore()
    with store.write() as txn:
        engine.apply(
            txn, EventBatch("items", at, at, Texts.of(["e"]), keys, {"v": vector[None, :]})
        )
        ((_, state),) = txn.scan("state")
        assert len(state) == 8 * (1 + 1 + 1 + 128)
        for later, kind in ((1, VectorState.VALUE), (60_000_000, VectorState.STALE)):
            frame = engine.read(txn, plan.names, Spine(at + later, keys))
            assert (frame.states == kind).all()
            expected = vector if kind == VectorState.VALUE else np.full(256, np.nan)
            np.testing.assert_array_equal(frame.values[0], expected)


@pytest.mark.parametrize("kind", ["sum", "distinct", "last"])
def test_a_vector_is_read_or_counted_and_nothing_else(kind: str) -> None:
    (problem,) = source_problems("$.here", stream, "v", kind)
    assert f"is a Vector, of which there is no {kind}" in problem.message
    assert not [
        *source_problems("", stream, "v", "attribute"),
        *source_problems("", stream, "v", "count"),
    ]
