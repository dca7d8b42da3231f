"""Who is forgotten is nowhere; what is known of all others is as it was, and a replay says the same."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sevenfold as sf
from sevenfold.engines.online import OnlineEngine
from sevenfold.errors import InputError, NotFoundError, ServingError
from sevenfold.features.plan import Plan
from sevenfold.serving import forgetting as forgettings
from sevenfold.serving.audit import audit_all
from sevenfold.serving.forgetting import Forgetting, forgotten, orders
from sevenfold.serving.prediction_log import read_predictions
from sevenfold.stores.compact import compact, is_due
from sevenfold.stores.dead_letters import exhume
from sevenfold.stores.kv import Store
from sevenfold.stores.log import blocks, position
from sevenfold.stores.open import open_store

GONE = "gone-person"


def states(store: Store, plan: Plan) -> list[tuple[bytes, bytes]]:
    """The states of a plan's views."""
    names = {view.view_id for view in plan.views}
    with store.read() as txn:
        return [(key, value) for key, value in txn.scan("state") if key[:8] in names]


def replayed(store: Store, plan: Plan) -> list[tuple[bytes, bytes]]:
    """Those states as a new store that has seen the log has them."""
    fresh = open_store("memory:")
    with store.read() as txn, fresh.write() as into:
        for _, batch in blocks(txn):
            OnlineEngine(plan).apply(into, batch)
    return states(fresh, plan)


@pytest.fixture
def system(anew: Callable[[], sf.System]) -> sf.System:
    """The stall with features that read the customer's key and a personal field."""
    made = anew()
    (customer,), item, stream = made.task.query, made.task.item, made.data[0]
    fields = {**stream.fields, "age": sf.Number(), "street": sf.Text()}
    object.__setattr__(stream, "fields", fields)
    features = [
        *made.features,
        sf.aggregate(customer, stream, sf.count(windows=["7 d"]), sf.last("pieces")),
        sf.aggregate(item, stream, sf.distinct("customer"), name="reach"),
        sf.aggregate(item, stream, sf.mean("age"), name="aged"),
        sf.aggregate(item, stream, sf.count(), where=lambda age: age > 30, name="older"),
    ]
    privacy = sf.Privacy(retention="730 d", personal=["age", "street"])
    return replace(
        made, features=features, requirements=replace(made.requirements, privacy=privacy)
    )


@pytest.fixture
def busy(make_stall: Callable[..., Any], system: sf.System, sale: Callable[..., Any]) -> Any:
    """A stall with five customers, one of them to be forgotten."""
    stall, rng = make_stall(system=system), np.random.default_rng(2)
    people = [GONE, "gone-person-2", "ada", "bob", "cy"]
    for n in range(50):
        stall.clock.advance(3_600_000_000)
        who = people[rng.integers(5)]
        more = {"customer": who, "age": 20 + 7 * (n % 4), "street": f"street of {who}"}
        at_us = stall.clock.now_us() - int(rng.integers(0, 8)) * 3_600_000_000
        row = sale(f"{who}/{n}", f"i{rng.integers(4)}", at_us, **more)
        stall.post(
            "/v1/events",
            {
                "stream": "sales",
                "events": [
                    row,
                    {**row, "line": f"x{n}", "pieces": 0},
                    {**row, "line": f"y{n}", "customer": "dee", "street": "elsewhere"},
                ],
            },
        )
        stall.clock.advance(1)
        if n % 3 == 0:
            ask = {"request_id": f"r{n}", "keys": {"customer": people[rng.integers(5)]}}
            stall.post("/v1/recommend", ask)
    return stall


def forget(stall: Any, key: str = GONE) -> None:
    """Forget a customer, to the end."""
    response = stall.post("/v1/forget", {"entity": "customer", "key": key})
    assert response.json()["open"] == 1
    while stall.service.forgetting.step():
        pass


def test_nothing_of_the_key_is_left_and_a_replay_gives_the_states(busy: Any) -> None:
    with busy.store.read() as txn:
        before = {p.request_id for p in read_predictions(txn) if p.keys["customer"] == GONE}
        end, answers = position(txn), len(list(read_predictions(txn)))
        letters = len(exhume(txn, 1_000))
    assert before
    assert states(busy.store, busy.service.plan) == replayed(busy.store, busy.service.plan)
    forget(busy)
    assert states(busy.store, busy.service.plan) == replayed(busy.store, busy.service.plan)
    with busy.store.read() as txn:
        assert position(txn) == end, "every event keeps its place"
        assert len(list(read_predictions(txn))) == answers - len(before)
        for table in ("log", "state", "meta", "dead", "predictions", "requests", "ids"):
            for name, value in txn.scan(table):
                assert GONE.encode() not in (name + value).replace(b"gone-person-2", b""), table
        left = exhume(txn, 1_000)
        assert 0 < len(left) < letters
        assert any(letter.row["customer"] == "gone-person-2" for letter in left)
        assert orders(txn) == []
        total = forgotten(txn)
    assert (total.entities, total.predictions) == (1, len(before))
    assert total.events > 5
    assert busy.get("/v1/forget").json()["events"] == total.events


def test_others_are_as_they_were_but_for_what_read_of_the_person(busy: Any) -> None:
    rows = [{"customer": c, "item": f"i{i}"} for c in ("ada", "gone-person-2") for i in range(4)]
    before = busy.post("/v1/features", {"rows": rows}).json()
    forget(busy)
    after = busy.post("/v1/features", {"rows": rows}).json()
    for i, name in enumerate(before["features"]):
        same = [row[i] for row in before["values"]] == [row[i] for row in after["values"]]
        reads = name.startswith(("reach", "aged", "older", "customer_x_item__since", "customer__"))
        assert same or reads, name
    at = before["features"].index("reach__distinct_customer")
    assert [r[at] - 1 for r in before["values"][:4]] == [r[at] for r in after["values"][:4]]
    mine = busy.post("/v1/features", {"rows": [{"customer": GONE, "item": "i0"}]}).json()
    unknown = busy.post("/v1/features", {"rows": [{"customer": "nobody", "item": "i0"}]}).json()
    assert mine["values"] == unknown["values"]


def test_the_logged_vectors_of_others_are_still_what_the_log_says(busy: Any) -> None:
    with busy.store.read() as txn:
        before = list(audit_all(txn, busy.service.definition, 1.0))[-1]
    forget(busy)
    with busy.store.read() as txn:
        after = list(audit_all(txn, busy.service.definition, 1.0))[-1]
    assert before.different == after.different == 0
    assert 0 < after.compared < before.compared


@pytest.mark.parametrize("steps", [1, 2, 3, 5, 8, 13, 21, 34])
def test_killed_at_any_step_another_process_goes_on(
    busy: Any,
    make_stall: Callable[..., Any],
    system: sf.System,
    sale: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    steps: int,
) -> None:
    for name, value in (("_BLOCKS", 3), ("_ROWS", 4), ("_SLICE", 9)):
        monkeypatch.setattr(forgettings, name, value)
    busy.post("/v1/forget", {"entity": "customer", "key": GONE})
    for step in range(steps):
        busy.service.forgetting.step()
        busy.clock.advance(1_000_000)
        busy.sell(sale(f"new{step}", "i1", customer="bob", age=44))
    again = make_stall(system=system)
    while again.service.forgetting.step():
        pass
    assert states(again.store, again.service.plan) == replayed(again.store, again.service.plan)
    with again.store.read() as txn:
        assert all(p.keys["customer"] != GONE for p in read_predictions(txn))
        for _, batch in blocks(txn):
            assert GONE not in batch.keys["customer"].to_list()
        assert forgotten(txn).entities == 1


def test_events_that_come_while_it_is_forgotten_are_kept_or_go_whole(
    busy: Any, sale: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgettings, "_BLOCKS", 3)
    busy.post("/v1/forget", {"entity": "customer", "key": GONE})
    for n in range(60):
        more = busy.service.forgetting.step()
        busy.clock.advance(1_000_000)
        busy.sell(sale(f"late{n}", "i2", customer=GONE, age=40))
        if not more:
            break
    assert states(busy.store, busy.service.plan) == replayed(busy.store, busy.service.plan)


def test_a_change_under_way_waits_and_is_right_afterwards(
    busy: Any, system: sf.System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgettings, "_BLOCKS", 3)
    (customer,), item, stream = system.task.query, system.task.item, system.data[0]
    more = sf.aggregate([customer, item], stream, sf.sum("pieces"), name="more")
    busy.service.changing._size = 7
    busy.service.change(replace(system, features=[*system.features, more]))
    busy.service.changing.step()
    busy.post("/v1/forget", {"entity": "customer", "key": GONE})
    assert not busy.service.changing.step(), "it waits"
    for _ in range(500):
        for job in busy.service.jobs:
            job.step()
    assert busy.service.changing.status.state == "none"
    assert "more" in [view.name for view in busy.service.plan.views]
    assert states(busy.store, busy.service.plan) == replayed(busy.store, busy.service.plan)


def test_generators_forget_too(busy: Any) -> None:
    class Seen:
        customer = "customer"
        told: tuple[str, ...] = ()

        def forget(self, key: str) -> None:
            self.told = (*self.told, key)

    history = Seen()
    object.__setattr__(busy.service.retrieval, "histories", (history,))
    forget(busy)
    assert history.told == (GONE,)


def test_whom_nobody_knows_and_what_is_served_cannot_be_forgotten(busy: Any) -> None:
    with pytest.raises(NotFoundError, match="no entity 'shop'"):
        busy.service.forget("shop", "x")
    with pytest.raises(ServingError, match="stop the server"):
        busy.service.forget("item", "i1")
    with pytest.raises(InputError, match="names nobody"):
        busy.service.forget("customer", "")
    assert busy.service.forgotten()[0] == 0
    forget(busy, "nobody")
    assert states(busy.store, busy.service.plan) == replayed(busy.store, busy.service.plan)


def test_an_item_is_forgotten_where_nothing_serves(busy: Any) -> None:
    job = Forgetting(busy.store, busy.service.system, lambda: busy.service.plan.views)
    job.order("item", "i1")
    while job.step():
        pass
    assert states(busy.store, busy.service.plan) == replayed(busy.store, busy.service.plan)
    with busy.store.read() as txn:
        assert all("i1" not in p.items for p in read_predictions(txn))


def test_a_compacted_file_holds_no_byte_of_it(busy: Any, tmp_path: Path) -> None:
    path = tmp_path / "store"
    store = open_store(f"lmdb:{path}")
    with busy.store.read() as txn:
        for table in ("log", "state", "meta", "dead", "predictions", "requests", "ids"):
            items = list(txn.scan(table))
            for first in range(0, len(items), 7):
                with store.write() as into:
                    into.put_many(table, items[first : first + 7])
    job = Forgetting(store, busy.service.system, lambda: busy.service.plan.views)
    job.order("customer", GONE)
    while job.step():
        pass
    with store.read() as txn:
        live = {table: list(txn.scan(table)) for table in ("log", "state", "dead", "predictions")}
    store.close()
    raw = (path / "data.mdb").read_bytes()
    assert b"customer" in raw
    assert is_due(path)
    before, after = compact(path)
    assert after < before
    assert not is_due(path)
    for file in path.rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        assert GONE.encode() not in content.replace(b"gone-person-2", b"")
    again = open_store(f"lmdb:{path}", readonly=True)
    with again.read() as txn:
        assert {table: list(txn.scan(table)) for table in live} == live
    again.close()
