"""What is older than its retention leaves; what is read stays as it was."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sevenfold as sf
from sevenfold.engines.online import OnlineEngine
from sevenfold.errors import SpecError
from sevenfold.serving import retention as retentions
from sevenfold.serving.histories import wanted_keys
from sevenfold.serving.prediction_log import find_prediction, read_predictions
from sevenfold.stores.dead_letters import exhume
from sevenfold.stores.history import History
from sevenfold.stores.log import (
    Departed,
    blocks,
    departed,
    generation,
    position,
    read_stream,
    rewrites,
)
from sevenfold.stores.open import open_store

DAY_US = 86_400_000_000
ASKED = {"rows": [{"customer": f"c{c}", "item": f"i{i}"} for c in range(3) for i in range(4)]}


@pytest.fixture
def system(anew: Callable[[], sf.System]) -> sf.System:
    """The stall with a second stream, and a retention of one of them and of the answers."""
    made = anew()
    (customer,), item, sales = made.task.query, made.task.item, made.data[0]
    views = sf.Stream(
        "views",
        time="seen_at",
        id="view",
        keys=[customer, item],
        fields={},
        timezone="UTC",
        retention="10 d",
    )
    return replace(
        made,
        data=[sales, views],
        features=[
            *made.features,
            sf.aggregate(item, views, sf.count(windows=["1 d", "9 d"]), name="seen"),
        ],
        serving=replace(made.serving, log=sf.PredictionLog(retention="80 d")),
    )


@pytest.fixture
def busy(make_stall: Callable[..., Any], system: sf.System, sale: Callable[..., Any]) -> Any:
    """A stall of thirty days, with answers and bad rows every day."""
    stall = make_stall(system=system)
    for n in range(90):
        stall.clock.advance(DAY_US // 3)
        row = sale(f"s{n}", f"i{n % 4}", stall.clock.now_us(), customer=f"c{n % 3}")
        stall.sell(row)
        seen = {"seen_at": row["sold_at"], "customer": f"c{n % 3}", "item": f"i{n % 4}"}
        rows = [{**seen, "view": f"v{n}{i}"} for i in range(4)]
        stall.post("/v1/events", {"stream": "views", "events": [*rows, {"view": "bad"}]})
        stall.clock.advance(1)
        if n % 9 == 0:
            stall.post("/v1/recommend", {"request_id": f"r{n}", "keys": {"customer": "c1"}})
        while stall.service.retention.step():
            pass
    return stall


def work(stall: Any) -> None:
    """Let the job work until nothing is left."""
    stall.service.retention._next_us = -(1 << 62)
    while stall.service.retention.step():
        pass


def test_events_leave_after_the_retention_of_their_stream(busy: Any) -> None:
    before = busy.post("/v1/features", ASKED).json()
    work(busy)
    now_us = busy.clock.now_us()
    with busy.store.read() as txn:
        known = {
            name: [int(k) for _, b in blocks(txn, name) for k in b.known_us]
            for name in ("sales", "views")
        }
        assert position(txn) == 90 * 5
    assert len(known["sales"]) == 90
    assert min(known["views"]) >= now_us - 10 * DAY_US
    assert len(known["views"]) == 4 * 30
    after = busy.post("/v1/features", ASKED).json()
    assert after["values"] == before["values"]


def test_a_replay_of_what_is_left_reads_the_same(
    busy: Any, make_stall: Callable[..., Any], system: sf.System
) -> None:
    work(busy)
    fresh = open_store("memory:")
    engine = OnlineEngine(busy.service.plan)
    with busy.store.read() as txn, fresh.write() as into:
        for _, batch in blocks(txn):
            engine.apply(into, batch)
        for key, value in txn.scan("log"):
            into.put("log", key, value)
        for key, value in txn.scan("meta"):
            into.put("meta", key, value)
    now = busy.post("/v1/features", ASKED).json()
    busy.service.store.__dict__.update(fresh.__dict__)
    assert busy.post("/v1/features", ASKED).json()["values"] == now["values"]


def test_blocks_that_are_old_in_part_are_cut(busy: Any) -> None:
    start_us = busy.clock.now_us()
    rows = [
        {
            "seen_at": str(np.datetime64(start_us + (i + 1) * DAY_US // 50, "us")),
            "customer": "c1",
            "item": "i1",
            "view": f"w{i}",
        }
        for i in range(50)
    ]
    assert busy.service._ingest.accept("views", rows, history=True).events == 50
    lefts = []
    for tenth in range(12):
        busy.clock.set(start_us + 10 * DAY_US + tenth * DAY_US // 10)
        work(busy)
        with busy.store.read() as txn:
            found = list(blocks(txn))
        left = [k for _, batch in found if batch.stream == "views" for k in batch.known_us.tolist()]
        assert all(k >= busy.clock.now_us() - 10 * DAY_US for k in left)
        places = [seq + i for seq, batch in found for i in range(len(batch))]
        assert places == sorted(set(places))
        assert max(places) == 499 or not left, "positions stay what they were"
        lefts.append(len(left))
    assert lefts == [54, 46, 41, 36, 31, 26, 21, 16, 11, 6, 1, 0]


def test_histories_by_key_lose_what_has_left_and_nothing_else(busy: Any, tmp_path: Path) -> None:
    work(busy)
    history = History(tmp_path / "history", wanted_keys(busy.service.plan), segment_events=60)
    history.extend(busy.store, 1)
    sales = {path: path.stat().st_ino for path in history.path.glob("sales/*/0*")}
    with busy.store.read() as txn:
        before, counted, name = departed(txn, "views"), rewrites(txn), generation(txn)
        assert departed(txn, "sales") == Departed()
    assert before.position > 0
    busy.clock.advance(3 * DAY_US)
    work(busy)
    with busy.store.read() as txn:
        now, left = departed(txn, "views"), read_stream(txn, "views")
        assert left is not None
        assert now.position > before.position
        assert now.known_us == busy.clock.now_us() - 10 * DAY_US <= left.known_us[0]
        assert rewrites(txn) == counted + 1, "what was computed from the log may differ now"
        assert generation(txn) == name
        assert history.kept(txn).is_void
    history.extend(busy.store, 1)
    segments, head = history.at(busy.store)["views"].of(("item",))
    assert head is None
    found = [one.batch(slice(0, len(one))).known_us for one in segments]
    assert np.sort(np.concatenate(found)).tolist() == left.known_us.tolist()
    assert {path: path.stat().st_ino for path in history.path.glob("sales/*/0*")} == sales
    busy.clock.advance(DAY_US // 1_000)
    work(busy)
    with busy.store.read() as txn:
        assert rewrites(txn) == counted + 1, "once a day"


def test_answers_leave_after_theirs(busy: Any) -> None:
    with busy.store.read() as txn:
        first = next(iter(read_predictions(txn)))
    busy.clock.set(first.t_us + 80 * DAY_US + 1)
    work(busy)
    with busy.store.read() as txn:
        left = list(read_predictions(txn))
        assert find_prediction(txn, first.request_id) is None
        assert txn.count("requests") == len(left) == 9


def test_dead_letters_leave_with_their_stream(busy: Any) -> None:
    work(busy)
    with busy.store.read() as txn:
        left = len(exhume(txn, 1_000))
    assert 30 <= left <= 31, "one a row, noted once an hour"
    busy.clock.advance(30 * DAY_US)
    work(busy)
    with busy.store.read() as txn:
        assert exhume(txn, 1_000) == []


def test_small_steps_remove_the_same(busy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retentions, "_BLOCKS", 2)
    monkeypatch.setattr(retentions, "_ROWS", 3)
    work(busy)
    with busy.store.read() as txn:
        assert sum(len(b) for _, b in blocks(txn, "views")) == 4 * 30


def test_without_a_retention_nothing_leaves(stall: Any) -> None:
    stall.clock.advance(10_000 * DAY_US)
    assert not stall.service.retention.step()
    with stall.store.read() as txn:
        assert sum(len(b) for _, b in blocks(txn)) == 6


@pytest.mark.parametrize(
    ("aggregate", "said"),
    [
        (sf.count(), "it remembers for ever, and 'views' keeps events for 10 d"),
        (sf.since_last(), "it remembers for ever"),
        (sf.decayed(half_life="1 h"), "it remembers for ever"),
        (sf.count(windows=["1 d", "10 d"]), "it reaches 241h back with its hop"),
        (sf.count(windows=["9 d"], hop="3 d"), "it reaches 12d back with its hop"),
    ],
)
def test_a_feature_may_not_remember_more_than_the_log(
    system: sf.System, aggregate: Any, said: str
) -> None:
    view = sf.aggregate(system.task.item, system.data[1], aggregate, name="long")
    with pytest.raises(SpecError, match=said):
        replace(system, features=[*system.features, view])


def test_answers_and_outcomes_are_kept_until_they_are_learned_from(system: sf.System) -> None:
    with pytest.raises(
        SpecError, match=r"70 d is less than train, gap, valid and the label's window"
    ):
        replace(system, serving=replace(system.serving, log=sf.PredictionLog(retention="70 d")))
