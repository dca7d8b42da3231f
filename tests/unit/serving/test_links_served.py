"""Features behind links: audited along the chain, and forgotten where a link leads to whom is forgotten."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import sevenfold as sf
from sevenfold.engines.online import OnlineEngine
from sevenfold.serving import audit as audits
from sevenfold.serving.audit import audit_all
from sevenfold.serving.forgetting import Forgetting
from sevenfold.serving.prediction_log import read_predictions, write_prediction
from sevenfold.stores.log import blocks
from sevenfold.stores.open import open_store


@pytest.fixture
def system(anew: Callable[[], sf.System]) -> sf.System:
    """The stall, whose items have a maker, whose maker has a town, and whose town has fairs."""
    made = anew()
    item = made.task.item
    maker, town = sf.Entity("maker"), sf.Entity("town")
    items = sf.Table("items", item, {"maker": sf.Id()}, time="at", timezone="UTC")
    makers = sf.Table(
        "makers", maker, {"town": sf.Id(), "staff": sf.Integer()}, time="at", timezone="UTC"
    )
    fairs = sf.Stream(
        "fairs", time="at", id="fair", keys=[town], fields={"stands": sf.Integer()}, timezone="UTC"
    )
    of_town = sf.aggregate(town, fairs, sf.sum("stands"), sf.count(windows=["7 d"]))
    of_maker = sf.through(makers, "town", of_town)
    behind = sf.through(items, "maker", of_maker, name="far")
    staff = sf.through(items, "maker", sf.attribute(maker, makers, "staff"), name="near")
    names = ["item__count_7d", "far__sum_stands", "far__count_7d", "near__staff"]
    return replace(
        made,
        data=[*made.data, items, makers, fairs],
        features=[*made.features, behind, staff],
        models=[sf.Rule(by="item__count_7d"), sf.LogisticRegression(features=names)],
        monitoring=sf.Monitoring(audit=sf.Audit(share=1.0)),
    )


@pytest.fixture
def busy(make_stall: Callable[..., Any], system: sf.System, sale: Callable[..., Any]) -> Any:
    """Items that change makers, makers that move, fairs, sales and answers in turns."""
    stall, rng = make_stall(system=system), np.random.default_rng(8)

    def send(stream: str, **row: Any) -> None:
        at = str(
            np.datetime64(stall.clock.now_us() - int(rng.integers(0, 3)) * 3_600_000_000, "us")
        )
        answer = stall.post("/v1/events", {"stream": stream, "event": {"at": at, **row}}).json()
        assert answer["dead_letters"] == 0, answer

    for n in range(120):
        stall.clock.advance(3_600_000_000)
        send("items", item=f"i{rng.integers(4)}", maker=f"m{rng.integers(3)}")
        send(
            "makers",
            maker=f"m{rng.integers(3)}",
            town=f"t{rng.integers(3)}",
            staff=int(rng.integers(9)),
        )
        send("fairs", town=f"t{rng.integers(3)}", stands=int(rng.integers(20)), fair=f"f{n}")
        stall.sell(sale(f"s{n}", f"i{rng.integers(4)}", stall.clock.now_us()))
        stall.clock.advance(1)
        if n % 4 == 3:
            stall.post("/v1/recommend", {"request_id": f"r{n}", "keys": {"customer": "ada"}})
    return stall


def work(stall: Any) -> None:
    """Let the audit work until there is nothing left."""
    job, idle = stall.service.audit, 0
    while idle < 2:
        job._rest_until_s = 0.0
        idle = 0 if job.step() else idle + 1


def state_and_replay(stall: Any) -> tuple[list[tuple[bytes, bytes]], list[tuple[bytes, bytes]]]:
    """All states, and what a replay of the log gives."""
    fresh = open_store("memory:")
    with stall.store.read() as txn, fresh.write() as into:
        for _, batch in blocks(txn):
            OnlineEngine(stall.service.plan).apply(into, batch)
        return list(txn.scan("state")), list(into.scan("state"))


@pytest.mark.parametrize("most", [200_000, 60])
def test_what_lies_behind_links_is_audited_without_all_events(
    busy: Any, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(audits, "_EVENTS", most)
    work(busy)
    totals = busy.service.audit.totals
    assert (totals.different, totals.compared > 60) == (0, True)
    with busy.store.read() as txn:
        answers = list(read_predictions(txn))
    column = busy.service.features.index("far__sum_stands")
    values = np.concatenate([p.logged_vectors()[:, column] for p in answers])
    assert len(np.unique(values[~np.isnan(values)])) > 20, "they are of many sorts"


def test_a_skew_behind_a_link_is_found(busy: Any) -> None:
    column = busy.service.features.index("far__sum_stands")
    with busy.store.write() as txn:
        found = list(read_predictions(txn))[20]
        wrong = found.logged_vectors().copy()
        wrong[:, column] += 1
        found.vectors = wrong.tobytes()
        write_prediction(txn, found)
    with busy.store.read() as txn:
        totals = list(audit_all(txn, busy.service.definition, 1.0))[-1]
    assert totals.by_feature.keys() == {"far__sum_stands"}


@pytest.mark.parametrize(("entity", "key"), [("maker", "m1"), ("town", "t2")])
def test_a_link_to_whom_is_forgotten_leads_nowhere(busy: Any, entity: str, key: str) -> None:
    job = Forgetting(busy.store, busy.service.system, lambda: busy.service.plan.views)
    job.order(entity, key)
    while job.step():
        pass
    now, again = state_and_replay(busy)
    assert now == again
    with busy.store.read() as txn:
        for _, batch in blocks(txn):
            assert key not in [k for keys in batch.keys.values() for k in keys.to_list()]
            if entity in batch.fields:
                assert key not in batch.fields[entity].to_list()


def test_what_was_looked_up_of_the_forgotten_goes_with_the_key(
    make_stall: Callable[..., Any], anew: Callable[[], sf.System], sale: Callable[..., Any]
) -> None:
    made = anew()
    (customer,), item = made.task.query, made.task.item
    fields = {
        "street": sf.Text(pii="contact"),
        "age": sf.Number(pii="demographic"),
        "level": sf.Number(),
    }
    people = sf.Table("people", customer, fields, time="at", timezone="UTC")
    stream = made.data[0]
    for name, field in (("where", "street"), ("years", "age"), ("tier", "level")):
        object.__setattr__(stream, "enrich", {**stream.enrich, name: sf.Lookup(people, field)})
    views = [sf.aggregate(item, stream, sf.mean("years"), sf.sum("tier"), name="of")]
    system = replace(made, data=[stream, people], features=[*made.features, *views])
    stall = make_stall(system=system)
    for n in range(12):
        who = ("ada", "gone")[n % 2]
        row = {
            "at": "2023-11-01T00:00:00",
            "customer": who,
            "street": f"{who} street",
            "age": 30 + n,
            "level": n,
        }
        assert stall.post("/v1/events", {"stream": "people", "event": row}).json()["events"] == 1
        stall.clock.advance(1_000_000)
        stall.sell(sale(f"s{n}", f"i{n % 3}", customer=who))
        stall.clock.advance(1_000_000)
    before = stall.post(
        "/v1/features", {"rows": [{"item": "i1"}], "features": ["of__sum_tier"]}
    ).json()
    stall.service.forget("customer", "gone")
    while stall.service.forgetting.step():
        pass
    now, again = state_and_replay(stall)
    assert now == again
    with stall.store.read() as txn:
        for table in ("log", "state", "meta"):
            assert all(b"gone" not in name + value for name, value in txn.scan(table)), table
        sold = [batch for _, batch in blocks(txn, "sales")]
    ages = np.concatenate([batch.fields["years"] for batch in sold])
    assert np.isnan(ages).sum() == 6
    after = stall.post(
        "/v1/features", {"rows": [{"item": "i1"}], "features": ["of__sum_tier"]}
    ).json()
    assert after["values"] == before["values"], "what is not personal counts on"
