"""Whoever decides on load says what an answer may cost: the rung that serves is the best one within that."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import sevenfold as sf
from sevenfold.clock import elapsed_s
from sevenfold.errors import ServingError
from sevenfold.models.rule import RuleModel
from sevenfold.serving.prediction_log import find_prediction
from sevenfold.serving.request import RankRequest, RecommendRequest
from sevenfold.serving.rungs import Allowance, fewer_of, ladder, rungs_from
from sevenfold.spec.serving import RUNGS

DEGRADE = tuple(rung for rung in RUNGS[1:] if rung != "cached")  # which needs slates
LADDER = ("full", *DEGRADE)
MANY = [f"i{number:02d}" for number in range(20)]


def unhurried(system: sf.System, **more: Any) -> sf.System:
    """A declaration with all rungs whose answers are never late, however slow the machine."""
    latency = sf.Latency(p99="1 h")
    pipeline = replace(system.serving, **{"degrade": DEGRADE, **more})
    requirements = replace(system.requirements, latency=latency)
    return replace(system, requirements=requirements, serving=pipeline)


@pytest.fixture
def laddered(
    make_stall: Callable[..., Any],
    anew: Callable[[], sf.System],
    sale: Callable[..., Any],
    rule: RuleModel,
) -> Any:
    """A live stall with every rung, a model for `full` and another for `light`, and twenty items."""
    stall = make_stall(system=unhurried(anew(), fewer=5))
    rows = [
        sale(f"{item}-{number}", item)
        for place, item in enumerate(MANY)
        for number in range(len(MANY) - place)
    ]
    stall.sell(*rows)
    stall.clock.advance(1_000_000)
    stall.promote(rule, ["item__sum_pieces"])
    light = stall.register(rule, ["item__sum_pieces"])
    stall.registry.set_alias("light", light, "test", stall.clock.now_us())
    return stall


def ask(stall: Any, name: str, best: str = "full", **more: Any) -> Any:
    """The logged answer to ada under a cap."""
    asked = RecommendRequest(name, {"customer": "ada"}, **more)
    return stall.service.recommend(asked, Allowance(best))[0]


@pytest.mark.parametrize(
    ("best", "candidates", "version"),
    [
        ("full", 20, 1),
        ("fewer", 5, 1),
        ("light", 5, 2),
        ("baseline", 5, 0),
        ("popular", 5, 0),
        ("empty", 0, 0),
    ],
)
def test_the_cap_is_the_rung_that_serves(
    laddered: Any, best: str, candidates: int, version: int
) -> None:
    assert laddered.service.ladder == LADDER
    given = ask(laddered, "r", best)
    assert (given.rung, given.version, len(given.items)) == (best, version, candidates)
    expected = [] if best == "empty" else MANY[:3]
    assert given.slate() == expected
    # Cheaper rungs that read no features log none: what was not read cannot be logged.
    assert bool(len(given.logged_vectors())) == (best not in ("popular", "empty"))
    with laddered.store.read() as txn:
        kept = find_prediction(txn, "r")
    assert kept is not None
    assert kept.rung == best


def test_where_nothing_is_cut_fewer_is_full(laddered: Any) -> None:
    given = laddered.service.rank(
        RankRequest("r", {"customer": "ada"}, items=["i03", "i01"]), Allowance("fewer")
    )[0]
    assert (given.rung, given.slate()) == ("full", ["i01", "i03"])


def test_an_answer_has_as_many_items_as_are_asked_for(laddered: Any) -> None:
    assert len(ask(laddered, "r", "fewer", k=9).shown_rows()) == 9


def test_a_rung_that_is_not_declared_makes_way_for_the_next(
    make_stall: Callable[..., Any],
    anew: Callable[[], sf.System],
    sale: Callable[..., Any],
    rule: RuleModel,
) -> None:
    stall = make_stall(system=unhurried(anew(), degrade=("baseline", "popular", "empty")))
    stall.sell(sale("x", "a"))
    assert stall.service.ladder == ("full", "baseline", "popular", "empty")
    stall.promote(rule, ["item__sum_pieces"])
    assert ask(stall, "r1").rung == "full"
    assert ask(stall, "r2", "fewer").rung == "baseline"
    assert ask(stall, "r3", "light").rung == "baseline"


def test_a_light_model_that_is_not_there_makes_way_for_the_rule(
    make_stall: Callable[..., Any], anew: Callable[[], sf.System], sale: Callable[..., Any]
) -> None:
    stall = make_stall(system=unhurried(anew()))
    stall.sell(sale("x", "a"))
    assert ask(stall, "r1", "light").rung == "baseline"
    assert ask(stall, "r2", "full").rung == "baseline"


def test_items_given_are_cut_in_their_order_and_the_id_is_still_theirs(laddered: Any) -> None:
    items = MANY[::-1]
    asked = RankRequest("r", {"customer": "ada"}, items=items)
    given, repeated = laddered.service.rank(asked, Allowance("fewer"))
    assert (given.items, given.slate(), repeated) == (items[:5], items[:5][::-1][:3], False)
    assert laddered.service.rank(asked)[1]  # the answer that was given, full or not
    for other in (items[:5], [*items[:-1], "other"]):
        with pytest.raises(ServingError, match="request_id"):
            laddered.service.rank(RankRequest("r", {"customer": "ada"}, items=other))


def test_time_that_was_waited_counts(laddered: Any) -> None:
    asked = RecommendRequest("r1", {"customer": "ada"}, timeout_ms=50.0)
    long_ago = Allowance(arrived_s=elapsed_s() - 1)
    assert laddered.service.recommend(asked, long_ago)[0].rung == "popular"
    over = Allowance(deadline_s=elapsed_s() - 1e-3)
    asked = RecommendRequest("r2", {"customer": "ada"})
    assert laddered.service.recommend(asked, over)[0].rung == "popular"


def test_the_deadline_of_a_caller_comes_in_a_header(laddered: Any) -> None:
    late = laddered.post(
        "/v1/recommend",
        {"request_id": "r1", "keys": {"customer": "ada"}},
        **{"x-deadline-ms": "0"},
    )
    assert late.json()["rung"] == "popular"
    ranked = laddered.post(
        "/v1/rank",
        {"request_id": "r2", "keys": {"customer": "ada"}, "items": ["i01", "i00"]},
        **{"x-deadline-ms": "0.0"},
    )
    assert ranked.json()["rung"] == "popular"
    assert [item["item"] for item in ranked.json()["items"]] == ["i01", "i00"]
    for wrong in ("soon", "-1", "nan", "1e9", "1_000", "", "1" * 9):
        refused = laddered.post(
            "/v1/recommend",
            {"request_id": "r3", "keys": {"customer": "ada"}},
            **{"x-deadline-ms": wrong},
        )
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_header")


def test_a_rung_there_is_not_is_refused() -> None:
    with pytest.raises(ServingError, match=r"'half'.*full, fewer"):
        Allowance("half")
    assert math.isinf(Allowance().deadline_s)


def test_the_ladder_of_a_declaration(anew: Callable[[], sf.System]) -> None:
    pipeline = anew().serving
    assert ladder(replace(pipeline, degrade=("empty",))) == ("full", "empty")
    assert rungs_from(RUNGS, "light") == RUNGS[2:]
    assert fewer_of(pipeline, 3) == 15  # a quarter of 60
    assert fewer_of(pipeline, 40) == 40
    assert fewer_of(replace(pipeline, fewer=7), 3) == 7
