"""A definition that is new to a store, or changed, has the values of the whole log at once."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import sevenfold as sf
from sevenfold.engines.online import OnlineEngine
from sevenfold.serving.backfill import backfill
from sevenfold.stores.log import blocks
from sevenfold.stores.open import open_store

ASKED = {"rows": [{"customer": "ada", "item": "a"}]}


def widened(system: sf.System) -> sf.System:
    """The stall with the window of a view changed, its feature kept."""
    item, stream = system.task.item, system.data[0]
    view = sf.aggregate(item, stream, sf.count(windows=["7 d"]), sf.sum("pieces"), sf.max("pieces"))
    return replace(system, features=[view, *system.features[1:]])


def values(stall: Any) -> dict[str, float]:
    """The stored features of ada and a."""
    answer = stall.post("/v1/features", ASKED).json()
    return dict(zip(answer["features"], answer["values"][0], strict=True))


def test_a_changed_view_has_seen_the_whole_log(
    stall: Any, make_stall: Callable[..., Any], anew: Callable[[], sf.System]
) -> None:
    before = values(stall)
    after = values(make_stall(system=widened(anew())))
    assert after["item__max_pieces"] == 1.0
    assert {name: after[name] for name in before} == before


def test_a_view_that_was_left_out_for_a_while_has_missed_nothing(
    stall: Any,
    make_stall: Callable[..., Any],
    anew: Callable[[], sf.System],
    sale: Callable[..., Any],
) -> None:
    make_stall(system=widened(anew())).sell(sale("n1", "a"))
    again = make_stall()
    assert values(again)["item__sum_pieces"] == 4.0
    fresh = open_store("memory:")
    engine = OnlineEngine(again.service.plan)
    with again.store.read() as txn, fresh.write() as into:
        for _, batch in blocks(txn):
            engine.apply(into, batch)
        assert list(into.scan("state")) == list(txn.scan("state"))


def test_nothing_is_filled_twice(stall: Any, make_stall: Callable[..., Any]) -> None:
    assert backfill(stall.store, stall.service.plan) == ()
