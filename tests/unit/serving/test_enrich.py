"""A shop whose sales are enriched from a table of its assortment, over HTTP and through files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sevenfold as sf
from sevenfold.batch.events import load_events
from sevenfold.clock import ManualClock
from sevenfold.engines.online import OnlineEngine
from sevenfold.errors import InputError, SpecError
from sevenfold.features.plan import compile_plan
from sevenfold.serving.ingest import Ingest, read_counts
from sevenfold.spec.lineage import trace
from sevenfold.stores.log import read_stream
from sevenfold.stores.memory import MemoryStore

START_US = 1_700_000_000_000_000


def enriched(stall: sf.System, *fields: str) -> sf.System:
    """The stall with a table of its items: their shelf and their price of the moment go into the sales."""
    customer, item, shelf = *stall.task.query, stall.task.item, sf.Entity("shelf")
    stock = sf.Table(
        "stock",
        item,
        {"shelf": sf.Id(), "price": sf.Number(), "maker": sf.Id()},
        time="at",
        delete="gone",
    )
    made = sf.Stream("made", time="at", keys=[sf.Entity("maker")], fields={"tons": sf.Number()})
    enrich = {name: sf.Lookup(stock, name) for name in fields}
    keys = [customer, item, *([shelf] if "shelf" in fields else [])]
    sales = replace(stall.data[0], enrich=enrich, keys=keys)
    of_maker = sf.aggregate(made.keys[0], made, sf.sum("tons"))
    features = [
        sf.aggregate(item, sales, sf.count(windows=["7 d"]), sf.sum("pieces")),
        sf.aggregate([customer, item], sales, sf.count(), sf.since_last()),
        sf.attribute(item, stock, "price", ttl="1 d", age=True),
        sf.through(stock, "maker", of_maker),
    ]
    if "price" in fields:
        features.append(sf.aggregate(customer, sales, sf.sum("price"), sf.last("price")))
    if "shelf" in fields:
        on_shelf = sf.aggregate(shelf, sales, sf.count(), sf.sum("price"))
        features.append(sf.through(stock, "shelf", on_shelf))
    label = replace(stall.task.label, outcome=sales)
    popular = replace(stall.serving.retrieve[0], stream=sales)
    return replace(
        stall,
        data=[sales, stock, made],
        features=features,
        task=replace(stall.task, label=label),
        serving=replace(stall.serving, retrieve=[popular]),
    )


@pytest.fixture
def plain(anew: Callable[[], sf.System]) -> sf.System:
    """The stall of the other tests."""
    return anew()


def put(stall: Any, stream: str, *rows: dict[str, Any]) -> dict[str, Any]:
    response = stall.post("/v1/events", {"stream": stream, "events": list(rows)})
    assert response.status_code == 200, response.text
    assert not response.json()["refused"], response.text
    return dict(response.json())


def asked(stall: Any, *names: str) -> tuple[list[float | None], list[str]]:
    body = {"rows": [{"customer": "ada", "item": "a"}], "features": list(names)}
    response = stall.post("/v1/features", body)
    assert response.status_code == 200, response.text
    return response.json()["values"][0], response.json()["states"][0]


def at(second: float) -> int:
    return START_US + round(second * 1e6)


def test_a_sale_has_the_price_and_the_shelf_of_its_time(
    make_stall: Callable[..., Any], sale: Callable[..., Any], plain: sf.System
) -> None:
    stall = make_stall(system=enriched(plain, "price", "shelf"))
    stall.sell(sale("0", "a"))
    stall.clock.advance(10_000_000)
    put(stall, "stock", {"item": "a", "at": at(1), "price": 2.0, "shelf": "north"})
    stall.sell(sale("1", "a", at(2)))
    put(stall, "stock", {"item": "a", "at": at(3), "price": 3.0, "shelf": "south"})
    stall.sell(sale("2", "a", at(2)))  # happened before, known after: what holds now is written
    put(stall, "stock", {"item": "a", "at": at(4), "gone": True})
    stall.sell(sale("3", "a", at(5)))
    with stall.store.read() as txn:
        sales = read_stream(txn, "sales")
    assert sales is not None
    assert sales.keys["shelf"].to_list() == [None, "north", "south", None]
    assert repr(sales.fields["price"].tolist()) == "[nan, 2.0, 3.0, nan]"
    assert asked(stall, "customer__sum_price", "customer__last_price")[0] == [5.0, 3.0]
    # The link is gone with the row; one shelf lower it still counts.
    assert asked(stall, "item_shelf__count", "item_stock__price", "item_stock__age") == (
        [0.0, None, None],
        ["VALUE", "MISSING", "MISSING"],
    )
    put(stall, "stock", {"item": "a", "at": at(6), "price": 4.0, "shelf": "north"})
    assert asked(stall, "item_shelf__count", "item_shelf__sum_price")[0] == [1.0, 2.0]


def test_composite_and_reached_keys_over_http(
    make_stall: Callable[..., Any], sale: Callable[..., Any], plain: sf.System
) -> None:
    stall = make_stall(system=enriched(plain))
    stall.sell(sale("0", "a"))
    stall.clock.advance(10_000_000)
    put(stall, "stock", {"item": "a", "at": at(1), "maker": "m"})
    put(stall, "made", {"maker": "m", "at": at(1), "tons": 4})
    assert asked(stall, "customer_x_item__count", "item_maker__sum_tons")[0] == [1.0, 4.0]
    body = {
        "rows": [{"customer": "ada", "item": "b"}, {"customer": "bob", "item": "a"}, {"item": "a"}]
    }
    answer = stall.post("/v1/features", {**body, "features": ["customer_x_item__count"]}).json()
    assert answer["values"] == [[0.0], [0.0], [0.0]]
    refused = stall.post("/v1/features", {"rows": [{"item": "a", "maker": "m"}]})
    assert refused.status_code == 404
    assert "maker" in refused.json()["error"]["message"]


def test_enrichment_that_comes_later_finds_rows_that_were_there(
    make_stall: Callable[..., Any], sale: Callable[..., Any], plain: sf.System
) -> None:
    stall = make_stall(system=enriched(plain))
    put(stall, "stock", {"item": "a", "at": at(-1), "price": 2.0, "shelf": "north"})
    stall.sell(sale("0", "a"))
    later = make_stall(system=enriched(plain, "price", "shelf"))
    later.sell(sale("1", "a"))
    with later.store.read() as txn:
        sales = read_stream(txn, "sales")
    assert sales is not None
    assert sales.keys["shelf"].to_list() == [None, "north"]
    assert repr(sales.fields["price"].tolist()) == "[nan, 2.0]"
    assert asked(later, "customer__sum_price", "item_shelf__count")[0] == [2.0, 1.0]


def test_lineage_follows_what_was_looked_up(plain: sf.System) -> None:
    lineage = trace(enriched(plain, "price"))
    feature = lineage.nodes["feature:customer__sum_price"]
    assert "field:stock.price" in [node.id for node in lineage.upstream(feature)]


def test_a_plan_without_the_rows_takes_no_events(plain: sf.System) -> None:
    system = enriched(plain, "price")
    engine = OnlineEngine(compile_plan(system.features))
    with pytest.raises(SpecError, match="compile the plan with the streams"):
        Ingest(MemoryStore(), system.streams, engine, ManualClock(START_US))


def test_streams_together_are_one_transaction(
    plain: sf.System, sale: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    system, store = enriched(plain, "price"), MemoryStore()
    engine = OnlineEngine(compile_plan(system.features, system.data))
    ingest = Ingest(store, system.streams, engine, ManualClock(START_US + 60_000_000))
    rows: dict[str, Any] = {
        "stock": [
            {"item": "a", "at": at(1), "price": 2.0},
            {"item": "a", "at": at(9), "price": 5.0},
        ],
        "sales": [
            sale("1", "a", at(2)),
            sale("1", "a", at(2)),
            {"line": "2"},
            sale("3", "a", at(9)),
        ],
    }
    results = ingest.accept_together(rows, history=True)
    assert (results["sales"].events, results["sales"].duplicates) == (2, 1)
    assert [refusal.index for refusal in results["sales"].refused] == [2]
    with store.read() as txn:
        sales = read_stream(txn, "sales")
        assert read_counts(txn, ["sales"]).rows_in == 4
    assert sales is not None
    assert sales.fields["price"].tolist() == [
        2.0,
        2.0,
    ]  # the row of the ninth second is known with it
    before = results["sales"].position
    failing = [0]

    def fail(*_: Any) -> None:
        failing[0] += 1
        if failing[0] == 2:
            raise OSError("the disk is full")

    monkeypatch.setattr(engine, "apply", fail)
    with pytest.raises(OSError, match="full"):
        ingest.accept_together(
            {"stock": [{"item": "b", "at": at(20)}], "sales": [sale("5", "b", at(30))]}
        )
    with store.read() as txn:
        assert len(read_stream(txn, "stock") or []) == 2
    assert before == 4


def test_files_of_events_are_enriched_by_one_another(tmp_path: Path, plain: sf.System) -> None:
    system = enriched(plain, "price")
    (tmp_path / "stock.csv").write_text(
        "item,at,price,shelf,maker,gone\n"
        "a,2024-01-01T10:00:00Z,2.5,,,false\na,2024-01-03T10:00:00Z,3.5,,,\n"
    )
    (tmp_path / "sales.csv").write_text(
        "line,sold_at,customer,item,pieces,basket\n"
        "1,2024-01-01T09:00:00Z,u,a,1,b\n2,2024-01-02T09:00:00Z,u,a,1,b\n3,2024-01-04T09:00:00Z,u,a,1,b\n"
    )
    files = {name: str(tmp_path / f"{name}.csv") for name in ("sales", "stock")}
    plan = compile_plan(system.features)

    def quiet(*_: Any) -> None:
        """Nobody watches."""

    events = load_events(system, plan, files, quiet).events
    np.testing.assert_array_equal(events["sales"].fields["price"], [np.nan, 2.5, 3.5])
    with pytest.raises(InputError, match="give its events too, stock="):
        load_events(system, plan, {"sales": files["sales"]}, quiet)
