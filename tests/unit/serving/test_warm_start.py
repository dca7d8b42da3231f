"""A history loaded with its states deferred leaves what every event one by one leaves, then streams on."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sevenfold as sf
from sevenfold.clock import SystemClock
from sevenfold.engines.online import OnlineEngine
from sevenfold.features.frame import Spine
from sevenfold.features.plan import compile_plan
from sevenfold.serving import backfill
from sevenfold.serving.ingest import Ingest
from sevenfold.stores.log import last_known_us
from sevenfold.stores.memory import MemoryStore
from sevenfold.stores.tables import META, TABLES
from sevenfold.types import Texts
from tests.laws.views import VIEWS, stream

PLAN = compile_plan(VIEWS)
HOUR = 3_600_000_000
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "user": st.sampled_from("ab"),
            "item": st.sampled_from("xy"),
            "x": st.none() | st.floats(-1e9, 1e9),
            "tag": st.none() | st.sampled_from("pq"),
            "at": st.integers(0, 40 * 24).map(lambda hours: hours * HOUR),
        }
    ),
    min_size=1,
    max_size=25,
)


def opened(store: MemoryStore) -> Ingest:
    return Ingest(store, {"s": stream}, OnlineEngine(PLAN), SystemClock())


def kept(store: MemoryStore) -> dict[str, list[tuple[bytes, bytes]]]:
    """All that a store holds but the name of its log, which no other has."""
    with store.read() as txn:
        found = {table: list(txn.scan(table)) for table in TABLES}
    names = [value for key, value in found[META] if key == b"identity"]
    assert len(names) <= 1
    found[META] = [item for item in found[META] if item[0] != b"identity"]
    return found


def batches(rows: list[dict[str, object]]) -> list[list[dict[str, object]]]:
    return [rows[at : at + 4] for at in range(0, len(rows), 4)]


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("slice_events", [3, 1 << 17])
def test_it_equals_pure_replay(
    killed: bool, slice_events: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfill, "_SLICE", slice_events)

    @settings(max_examples=8, suppress_health_check=list(HealthCheck))
    @given(ROWS, ROWS, ROWS)
    def holds(before, history, after) -> None:
        replayed, warmed = MemoryStore(), MemoryStore()
        one_by_one, warm = opened(replayed), opened(warmed)
        for batch in batches(before):
            for ingest in (one_by_one, warm):
                ingest.accept("s", batch, known_us=41 * 24 * HOUR)
        deferred = warm.deferring()
        deferred.__enter__()
        for batch in batches(history):
            for ingest in (one_by_one, warm):
                ingest.accept("s", batch, known_us=42 * 24 * HOUR)
        if killed:
            warm = opened(warmed)
        else:
            deferred.__exit__(None, None, None)
        assert kept(warmed) == kept(replayed)
        for batch in batches(after):
            for ingest in (one_by_one, warm):
                ingest.accept("s", batch, known_us=43 * 24 * HOUR)
        assert kept(warmed) == kept(replayed)

    holds()


def test_what_is_loaded_is_kept_even_when_loading_fails() -> None:
    store = MemoryStore()
    ingest = opened(store)
    row = {"user": "a", "item": "x", "x": 1.0, "tag": None, "at": 0}
    with suppress(KeyError), ingest.deferring():
        ingest.accept("s", [row], known_us=HOUR)
        raise KeyError("a file that is not there")
    with store.read() as txn:
        t_us = np.array([last_known_us(txn) + 1])
        spine = Spine(t_us, {"user": Texts.of(["a"]), "item": Texts.of(["x"])})
        assert OnlineEngine(PLAN).read(txn, ["user__count"], spine).values.tolist() == [[1.0]]


def test_a_read_tells_how_old_its_newest_events_are() -> None:
    """By view and row, also where one key is given for all rows and where nothing was ever seen."""
    store, user, item = MemoryStore(), sf.Entity("user"), sf.Entity("item")
    events = sf.Stream("s", time="at", keys=[user, item], fields={"x": sf.Number()})
    plan = compile_plan(
        [sf.aggregate(user, events, sf.count()), sf.aggregate(item, events, sf.count())]
    )
    ingest = Ingest(store, {"s": events}, OnlineEngine(plan), SystemClock())
    rows = [
        {"user": "a", "item": "x", "x": 1.0, "at": 5_000_000},
        {"user": "a", "item": "y", "x": 2.0, "at": 2_000_000},  # late: not the newest of its user
    ]
    for row in rows:
        ingest.accept("s", [row], known_us=9_000_000)
    with store.read() as txn:
        spine = Spine(
            np.full(3, 10_000_000),
            {"user": Texts.of(["a"]), "item": Texts.of(["x", "nobody", "y"])},
        )
        frame, newest = OnlineEngine(plan).read_dated(txn, plan.names, spine)
    assert frame.values.tolist() == [[2.0, 1.0], [2.0, 0.0], [2.0, 1.0]]
    assert newest["user"].tolist() == [5_000_000] * 3
    assert newest["item"].tolist() == [5_000_000, -(1 << 63), 2_000_000]
