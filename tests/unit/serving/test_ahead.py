"""Answers from the table of slates: whole, as old as they may be and no older, and what answers where it has none."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sevenfold as sf
from sevenfold.models.rule import RuleModel
from sevenfold.serving.ahead import Ahead
from sevenfold.serving.prediction_log import find_prediction
from sevenfold.serving.request import RankRequest, RecommendRequest
from sevenfold.serving.slate_table import (
    Slate,
    SlateTable,
    drop_table,
    find_slate,
    free_tables,
    next_table,
    put_slates,
    serve_table,
    served_table,
    slates_of,
)
from sevenfold.stores.kv import Store
from sevenfold.stores.memory import MemoryStore
from sevenfold.stores.tables import META, SLATES

Keep, Cap = sf.Pipeline.Keep, sf.Pipeline.Cap
S = 1_000_000


def slate_of(
    keys: dict[str, str], items: str, as_of_us: int, generators: Any = ("popular",)
) -> Slate:
    """A slate of items of one letter, scored 9, 8, 7 and so on."""
    n, names = len(items), list(generators)
    return Slate(
        keys,
        as_of_us,
        "made",
        7,
        "full",
        "f",
        names,
        list(items),
        np.ones(n, np.uint32).tobytes(),
        np.arange(n * len(names), dtype=np.float32).tobytes(),
        (9.0 - np.arange(n)).tobytes(),
    )


def table_of(number: int, as_of_us: int, k: int = 5, reranked: bool = True) -> SlateTable:
    """The description of a table."""
    return SlateTable(number, as_of_us, k, reranked, "made", 7, "f", "", "all", "x", slates=1)


def serve(store: Store, slates: list[Slate], k: int = 5, reranked: bool = True) -> SlateTable:
    """Have slates served."""
    with store.write() as txn:
        table = table_of(next_table(txn), slates[0].as_of_us, k, reranked)
        put_slates(txn, table.number, slates)
        serve_table(txn, table)
    return table


@pytest.fixture
def ahead(
    make_stall: Callable[..., Any],
    anew: Callable[[], sf.System],
    sale: Callable[..., Any],
    rule: RuleModel,
) -> Callable[..., Any]:
    """A function that opens a stall that answers from a table, with a model and four items sold."""

    def opened(replay: bool = False, **pipeline: Any) -> Any:
        system = anew()
        requirements = replace(system.requirements, latency=sf.Latency(p99="1 h"))
        serving = replace(system.serving, **{"mode": "batch", "max_age": "1 h", **pipeline})
        stall = make_stall(
            replay=replay, system=replace(system, requirements=requirements, serving=serving)
        )
        rows = [
            sale(f"{item}{i}", item, customer="eve")
            for item, n in (("a", 4), ("b", 3), ("c", 2), ("d", 1))
            for i in range(n)
        ]
        stall.service.accept("sales", rows, stall.clock.now_us() if replay else None)
        stall.clock.advance(S)
        stall.promote(rule, ["item__sum_pieces"])
        return stall

    return opened


def ask(stall: Any, name: str, who: str = "ada", **more: Any) -> Any:
    """The prediction for a request."""
    return stall.service.recommend(RecommendRequest(name, {"customer": who}, **more))[0]


def test_a_slate_of_the_table_is_the_answer_and_says_how_old_it_is(ahead: Any) -> None:
    stall = ahead()
    as_of_us = stall.clock.now_us()
    serve(stall.store, [slate_of({"customer": "ada"}, "dcba", as_of_us)])
    stall.clock.advance(90 * S)
    body = {"request_id": "r", "keys": {"customer": "ada"}, "k": 3}
    answer = stall.post("/v1/recommend", body).json()
    assert [one["item"] for one in answer["items"]] == ["d", "c", "b"]
    assert [one["score"] for one in answer["items"]] == [9, 8, 7]
    assert [one["sources"] for one in answer["items"]] == [["popular"]] * 3
    assert (answer["rung"], answer["model"], answer["version"]) == ("batch", "made", 7)
    assert (answer["as_of"], answer["age_s"], answer["degraded"]) == (as_of_us, 90.0, {})
    with stall.store.read() as txn:
        logged = find_prediction(txn, "r")
    assert (logged.rung, logged.as_of_us, logged.slate()) == ("batch", as_of_us, ["d", "c", "b"])
    assert not logged.logged  # its vectors are of another instant
    again = stall.post("/v1/recommend", body).json()
    assert again["repeated"]
    assert (again["items"], again["age_s"]) == (answer["items"], 90.0)
    lines = stall.get("/metrics").text.splitlines()
    assert 'sevenfold_answers_total{rung="batch"} 1.0' in lines
    assert 'sevenfold_table_lookups_total{outcome="used"} 1.0' in lines
    assert "sevenfold_table_age_seconds 90.0" in lines
    assert "sevenfold_table_slates 1.0" in lines


@pytest.mark.parametrize("past_us", [0, 1])
def test_max_age_is_the_oldest_that_is_given(past_us: int, ahead: Any) -> None:
    stall = ahead(otherwise="baseline")
    serve(stall.store, [slate_of({"customer": "ada"}, "dcba", stall.clock.now_us())])
    stall.clock.advance(3600 * S + past_us)
    made = ask(stall, "r")
    if past_us:
        assert (made.rung, made.as_of_us) == ("baseline", 0)
        assert made.degraded == {"table": "made 3600.000 s before"}
        assert made.slate() == ["a", "b", "c"]
    else:
        assert (made.rung, made.slate()) == ("batch", ["d", "c", "b"])


def test_without_a_slate_the_declared_rung_answers_and_says_so(ahead: Any) -> None:
    stall = ahead()
    made = ask(stall, "none")
    assert (made.rung, made.degraded) == ("full", {"table": "there is no table"})
    serve(stall.store, [slate_of({"customer": "ada"}, "dcba", stall.clock.now_us())], k=4)
    made = ask(stall, "absent", "bob")
    assert (made.rung, made.degraded) == ("full", {"table": "no slate of these keys"})
    assert len(made.logged)  # made now, so what it was made from is logged
    made = ask(stall, "short", k=5)
    assert (made.rung, made.degraded) == ("full", {"table": "made of 4 items"})
    made = ask(stall, "whole", k=4)
    assert (made.rung, made.degraded) == ("batch", {})
    ranked = RankRequest("rank", {"customer": "ada"}, items=["c", "a"])
    assert stall.service.rank(ranked)[0].slate() == ["a", "c"]
    assert stall.service.table_outcomes == {"no_table": 1, "absent": 1, "short": 1, "used": 1}


def test_fewer_than_k_are_whole_where_there_were_no_more_candidates(ahead: Any) -> None:
    stall = ahead()
    serve(stall.store, [slate_of({"customer": "ada"}, "dc", stall.clock.now_us())], k=4)
    made = ask(stall, "r", k=10)
    assert (made.rung, made.slate()) == ("batch", ["d", "c"])


def test_a_filter_that_must_hold_is_asked_again(ahead: Any) -> None:
    stall = ahead(filter=[Keep("item__count_7d", low=2, must=True)])
    serve(stall.store, [slate_of({"customer": "ada"}, "dcba", stall.clock.now_us())])
    assert ask(stall, "r").slate() == ["c", "b", "a"]  # of d one was sold
    serve(stall.store, [slate_of({"customer": "ada"}, "d", stall.clock.now_us())])
    made = ask(stall, "nothing")
    assert (made.rung, made.degraded) == (
        "full",
        {"table": "nothing of it may be shown any more"},
    )
    serve(stall.store, [slate_of({"customer": "ada"}, "dcba", stall.clock.now_us(), ["old"])])
    assert ask(stall, "other").degraded == {"table": "made by other generators"}


def test_candidates_that_were_not_reranked_are_not_shown(ahead: Any) -> None:
    stall = ahead(rerank=[Cap("item__count_7d", most=1)])
    slate = slate_of({"customer": "ada"}, "dcba", stall.clock.now_us())
    serve(stall.store, [slate], reranked=False)
    assert ask(stall, "r").degraded == {"table": "made of candidates, not to be shown"}


def test_hybrid_ranks_the_candidates_of_the_table_now(ahead: Any) -> None:
    stall = ahead(mode="hybrid")
    as_of_us = stall.clock.now_us()
    serve(stall.store, [slate_of({"customer": "ada"}, "dbc", as_of_us)])
    stall.clock.advance(S)
    made = ask(stall, "r")
    assert (made.rung, made.slate(), made.degraded) == ("full", ["b", "c", "d"], {})
    assert (made.items, made.as_of_us) == (["d", "b", "c"], as_of_us)
    assert (made.model, made.version) == ("test", 1)
    assert len(made.logged_vectors()) == 3
    np.testing.assert_array_equal(made.generator_scores()[:, 0], [0, 1, 2])
    made = ask(stall, "absent", "bob")
    assert (made.slate(), made.as_of_us) == (["a", "b", "c"], 0)
    assert made.degraded == {"table": "no slate of these keys"}
    serve(stall.store, [slate_of({"customer": "ada"}, "dbc", as_of_us, ["old"])])
    assert ask(stall, "other").degraded == {"table": "made by other generators"}


def test_a_replay_answers_from_the_table_by_the_instant_of_the_request(ahead: Any) -> None:
    stall = ahead(replay=True)
    t_us = stall.clock.now_us() + 10 * S
    serve(stall.store, [slate_of({"customer": "ada"}, "dcba", t_us)])
    assert ask(stall, "at", t=t_us).rung == "batch"
    before = ask(stall, "before", t=t_us - S)
    assert (before.rung, before.degraded) == ("full", {"table": "made 1.000 s after"})
    assert ask(stall, "late", t=t_us + 3600 * S).rung == "batch"
    assert ask(stall, "later", t=t_us + 3600 * S + 1).rung == "full"


def test_a_table_that_cannot_be_read_is_as_none(ahead: Any) -> None:
    stall = ahead()
    table = serve(stall.store, [slate_of({"customer": "ada"}, "dcba", stall.clock.now_us())])
    with stall.store.write() as txn:
        key, _ = next(txn.scan(SLATES))
        txn.put(SLATES, key, b"damaged")
    made = ask(stall, "r")
    assert (made.rung, made.degraded) == ("full", {"table": "failed"})
    with stall.store.write() as txn:
        txn.put(META, b"slates", b"damaged")
    assert ask(stall, "again").degraded == {"table": "failed"}
    assert table.number == 1


def test_what_is_made_ahead_is_no_fault_of_a_stage(ahead: Any) -> None:
    """Else the ladder would begin lower after a few of them, though nothing is broken."""
    stall = ahead(otherwise="popular")
    for i in range(5):
        body = {"request_id": f"none{i}", "keys": {"customer": "ada"}}
        assert stall.post("/v1/recommend", body).json()["rung"] == "popular"
    serve(stall.store, [slate_of({"customer": "ada"}, "dcba", stall.clock.now_us())])
    for i in range(5):
        body = {"request_id": f"batch{i}", "keys": {"customer": "ada"}}
        assert stall.post("/v1/recommend", body).json()["rung"] == "batch"
    assert stall.app.site.gate.ladder.floor == 0


@given(
    age=st.integers(-10, 10),
    k=st.integers(1, 6),
    kept=st.integers(1, 6),
    items=st.integers(1, 6),
    mode=st.sampled_from(["batch", "hybrid"]),
)
def test_a_slate_is_used_only_when_it_is_whole_and_in_time(
    age: int, k: int, kept: int, items: int, mode: Any
) -> None:
    store = MemoryStore()
    slate = slate_of({"customer": "ada"}, "abcdef"[: min(items, kept)], 100)
    serve(store, [slate], k=kept)
    counts: Counter[str] = Counter()
    ahead = Ahead(mode, 5, "full", None, False, counts)
    with store.read() as txn:
        found, reason = ahead.find(txn, {"customer": "ada"}, k, 100 + age)
    whole = mode == "hybrid" or len(slate.items) >= k or len(slate.items) < kept
    assert (found == slate) == (0 <= age <= 5 and whole)
    assert (found is None) == bool(reason)
    assert sum(counts.values()) == 1


def test_a_table_takes_the_place_of_the_one_before_and_that_is_freed_in_slices() -> None:
    store = MemoryStore()
    keys = [{"customer": f"c{i}"} for i in range(10)]
    first = serve(store, [slate_of(one, "ab", 1) for one in keys])
    second = serve(store, [slate_of(one, "cd", 2) for one in keys[:4]])
    with store.read() as txn:
        assert served_table(txn) == second
        assert find_slate(txn, second.number, keys[0]).items == ["c", "d"]
        assert find_slate(txn, second.number, keys[9]) is None
        assert txn.count(SLATES) == 14  # nobody reads the old ones
    sizes = []
    while free_tables(store, 4):
        with store.read() as txn:
            sizes.append(txn.count(SLATES))
    assert sizes == [10, 6, 4]
    assert len(list(slates_of(store, second.number))) == 4
    assert first.number != second.number
    with store.write() as txn:
        drop_table(txn, 99)  # with nothing in it
    assert free_tables(store, 4)
    assert not free_tables(store, 4)
