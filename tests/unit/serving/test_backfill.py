"""A definition that is new to a store, or changed, has the values of the whole log at once."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import sevenfold as sf
from sevenfold.algebra.tiles import STATE_FORMAT
from sevenfold.engines.online import OnlineEngine
from sevenfold.features.plan import Plan, compile_plan
from sevenfold.serving.backfill import Filled, backfill, expire, fill, free, kept_views
from sevenfold.stores.kv import Store
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


def test_states_of_an_older_format_are_filled_anew_and_freed(
    stall: Any,
    make_stall: Callable[..., Any],
    anew: Callable[[], sf.System],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as older:
        older.setattr("sevenfold.features.plan.STATE_FORMAT", STATE_FORMAT - 1)
        stall = make_stall(system=anew())
        before, old = values(stall), stall.service.plan
        assert state(stall.store, old)
    stall = make_stall(system=anew())
    plan = stall.service.plan
    assert not {v.view_id for v in plan.views} & {v.view_id for v in old.views}
    assert plan.definition_hashes(plan.names) == old.definition_hashes(old.names)
    assert state(stall.store, plan) == replayed(stall.store, plan)
    assert values(stall) == before
    wanted = {view.view_id for view in plan.views}
    expire(stall.store, wanted, 0, 0)
    while free(stall.store, 10):
        expire(stall.store, wanted, 0, 0)
    assert state(stall.store, old) == []


def state(store: Store, plan: Plan) -> list[tuple[bytes, bytes]]:
    """The states of the views of a plan."""
    names = {view.view_id for view in plan.views}
    with store.read() as txn:
        return [(key, value) for key, value in txn.scan("state") if key[:8] in names]


def replayed(store: Store, plan: Plan) -> list[tuple[bytes, bytes]]:
    """What those states are after a pure replay of the log."""
    fresh = open_store("memory:")
    engine = OnlineEngine(plan)
    with store.read() as txn, fresh.write() as into:
        for _, batch in blocks(txn):
            engine.apply(into, batch)
    return state(fresh, plan)


def test_a_view_that_was_left_out_for_a_while_has_missed_nothing(
    stall: Any,
    make_stall: Callable[..., Any],
    anew: Callable[[], sf.System],
    sale: Callable[..., Any],
) -> None:
    make_stall(system=widened(anew())).sell(sale("n1", "a"))
    again = make_stall()
    assert values(again)["item__sum_pieces"] == 4.0
    assert state(again.store, again.service.plan) == replayed(again.store, again.service.plan)


def test_nothing_is_filled_twice(stall: Any, make_stall: Callable[..., Any]) -> None:
    assert backfill(stall.store, stall.service.plan) == ()


def test_a_view_left_out_goes_on_where_it_was(
    stall: Any, make_stall: Callable[..., Any], anew: Callable[[], sf.System]
) -> None:
    other = compile_plan(widened(anew()).features)
    assert backfill(stall.store, other) == ("item",)
    filled = fill(stall.store, stall.service.plan.views, 1)
    assert filled == Filled(6, 6, complete=True), (
        "no event came in between, so none is applied again"
    )
    assert state(stall.store, stall.service.plan) == replayed(stall.store, stall.service.plan)


@pytest.mark.parametrize("limit", [1, 2, 5, 100])
def test_slices_of_any_size_give_the_states_of_a_replay(
    stall: Any, anew: Callable[[], sf.System], limit: int
) -> None:
    plan = compile_plan(widened(anew()).features)
    before = state(stall.store, stall.service.plan)
    slices = 0
    while True:
        filled = fill(stall.store, plan.views, limit)
        slices += 1
        assert filled.total == 6
        if filled.complete:
            break
        assert filled.done == slices * limit, "a slice is bounded"
        with stall.store.read() as txn:
            assert kept_views(txn) == {v.view_id for v in stall.service.plan.views}
    assert slices == -(-6 // limit)
    assert state(stall.store, plan) == replayed(stall.store, plan)
    assert state(stall.store, stall.service.plan) == before


def test_what_nobody_wants_is_freed_after_the_grace_in_slices(
    stall: Any, anew: Callable[[], sf.System]
) -> None:
    old, new = stall.service.plan, compile_plan(widened(anew()).features)
    backfill(stall.store, new)
    wanted = {view.view_id for view in new.views}
    left_out = Plan(tuple(v for v in old.views if v.view_id not in wanted), ())
    held = len(state(stall.store, left_out))
    assert held == 3, "one an item"
    assert expire(stall.store, wanted, 1_000, 500), "noticed"
    assert not expire(stall.store, wanted, 1_400, 500), "not yet"
    assert len(state(stall.store, left_out)) == held
    assert expire(stall.store, wanted, 1_500, 500)
    assert free(stall.store, 2)
    assert len(state(stall.store, left_out)) == held - 2
    assert expire(stall.store, wanted, 1_500, 500)
    assert free(stall.store, 2)
    assert not expire(stall.store, wanted, 1_500, 500)
    assert not free(stall.store, 2)
    assert state(stall.store, left_out) == []
    assert state(stall.store, new) == replayed(stall.store, new)


def test_a_view_wanted_again_while_it_is_being_freed_is_filled_anew(
    stall: Any, anew: Callable[[], sf.System]
) -> None:
    old, new = stall.service.plan, compile_plan(widened(anew()).features)
    backfill(stall.store, new)
    expire(stall.store, {view.view_id for view in new.views}, 0, 0)
    free(stall.store, 1)
    backfill(stall.store, old)
    assert state(stall.store, old) == replayed(stall.store, old)


def test_views_that_are_behind_by_different_stretches_each_see_every_event_once(
    stall: Any,
    make_stall: Callable[..., Any],
    anew: Callable[[], sf.System],
    sale: Callable[..., Any],
) -> None:
    later = make_stall(system=widened(anew()))  # leaves the item's old view behind at position 6
    later.sell(*(sale(f"n{i}", "abc"[i % 3]) for i in range(3)))
    item, sales = anew().task.item, anew().data[0]
    fresh = sf.aggregate(item, sales, sf.last("pieces"), name="fresh")
    both = compile_plan([*anew().features, fresh])
    done = []
    while not done or done[-1] < 9:
        done.append(fill(stall.store, both.views, 4).done)
    assert done == [4, 6, 9]
    assert state(stall.store, both) == replayed(stall.store, both)
