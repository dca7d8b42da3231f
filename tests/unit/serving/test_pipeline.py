"""The stages of an answer as declared: what each does, and what is left when one is late or fails."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import sevenfold as sf
from sevenfold.engines.offline import read_at
from sevenfold.errors import ServingError
from sevenfold.features.frame import Spine
from sevenfold.models.rule import RuleModel
from sevenfold.retrieval.beside import Beside
from sevenfold.serving.prediction_log import feature_names, find_prediction
from sevenfold.serving.request import RankRequest, RecommendRequest
from sevenfold.serving.rungs import Allowance
from sevenfold.stores.log import read_stream
from sevenfold.types import Texts

Keep, Cap, Pin = sf.Pipeline.Keep, sf.Pipeline.Cap, sf.Pipeline.Pin
NEW = Keep("customer_x_item__count", high=0)
OVER = Allowance(deadline_s=0.0)


@pytest.fixture
def open_stall(
    make_stall: Callable[..., Any], anew: Callable[[], sf.System], sale: Callable[..., Any]
) -> Callable[..., Any]:
    """A function that opens a stall with a pipeline that is never late of itself; bob has taken b."""

    def opened(**pipeline: Any) -> Any:
        system = anew()
        requirements = replace(system.requirements, latency=sf.Latency(p99="1 h"))
        serving = replace(system.serving, **pipeline)
        stall = make_stall(system=replace(system, requirements=requirements, serving=serving))
        rows = [
            sale(f"{item}{i}", item, customer="eve")
            for item, n in (("a", 4), ("b", 3), ("c", 2), ("d", 1))
            for i in range(n)
        ]
        stall.sell(*rows, sale("bob", "b", customer="bob"))
        stall.clock.advance(1_000_000)
        return stall

    return opened


def ask(stall: Any, name: str = "r", allowance: Allowance | None = None, **more: Any) -> Any:
    """The answer to bob."""
    request = RecommendRequest(name, {"customer": "bob"}, **more)
    return stall.service.recommend(request, allowance or Allowance())[0]


def damage(stall: Any, feature: str) -> None:
    """Spoil the states that a feature is read of."""
    view = stall.service.plan.reading_by_feature[feature].view.view_id
    with stall.store.write() as txn:
        for key in [key for key, _ in txn.scan("state", view) if key.startswith(view)]:
            txn.put("state", key, b"spoiled")


def test_what_a_filter_refuses_is_no_candidate(open_stall: Any) -> None:
    stall = open_stall(filter=[NEW])
    answer = stall.post("/v1/recommend", {"request_id": "r", "keys": {"customer": "bob"}})
    assert [item["item"] for item in answer.json()["items"]] == ["a", "c", "d"]
    assert answer.json()["degraded"] == {}
    stages = [part.split(";")[0] for part in answer.headers["server-timing"].split(", ")]
    assert stages == ["wait", "retrieve", "filter", "features", "score", "log"]
    with stall.store.read() as txn:
        given = find_prediction(txn, "r")
    assert given is not None
    assert given.items == ["a", "c", "d"]


def test_vectors_with_what_filters_and_reranks_read_are_those_of_the_offline_engine(
    open_stall: Any,
) -> None:
    since = "customer_x_item__since_last"
    stall = open_stall(filter=[Keep("customer_x_item__count", high=9)], rerank=[Cap(since, most=1)])
    given = ask(stall)
    with stall.store.read() as txn:
        wanted = feature_names(txn, given.features)
        events = read_stream(txn, "sales")
    assert {"customer_x_item__count", since} <= set(wanted)
    items = [given.items[row] for row in given.logged_rows()]
    keys = {"customer": Texts.of(["bob"] * len(items)), "item": Texts.of(items)}
    spine = Spine(np.full(len(items), given.t_us), keys)
    then = read_at(stall.service.plan, wanted, spine, {"sales": events}).vectors()
    assert then.tobytes() == given.logged_vectors().tobytes()
    assert "b" in items


def test_items_given_are_filtered_too(open_stall: Any) -> None:
    stall = open_stall(filter=[NEW])
    asked = RankRequest("r", {"customer": "bob"}, items=["b", "d", "a"])
    given, _ = stall.service.rank(asked)
    assert (given.items, given.slate()) == (["d", "a"], ["a", "d"])
    assert stall.service.rank(asked)[1]
    with pytest.raises(ServingError, match="request_id"):
        stall.service.rank(RankRequest("r", {"customer": "bob"}, items=["d", "a"]))


def test_a_filter_that_must_hold_does_so_however_late(open_stall: Any) -> None:
    stall = open_stall(filter=[NEW, Keep("item__sum_pieces", high=3, must=False)])
    assert ask(stall, "r1").slate() == ["c", "d"]
    late = ask(stall, "r2", OVER)
    assert (late.rung, late.slate()) == ("popular", ["a", "c", "d"])
    assert late.degraded == {"filter": "only what must hold", "score": "no time"}


@pytest.mark.parametrize(("must", "slate"), [(True, []), (False, ["a", "b", "c"])])
def test_what_cannot_be_told_stays_only_where_it_need_not_be(
    open_stall: Any, must: bool, slate: list[str]
) -> None:
    stall = open_stall(filter=[Keep("customer_x_item__count", high=0, must=must)])
    damage(stall, "customer_x_item__count")
    given = ask(stall)
    assert (given.slate(), given.degraded["filter"]) == (slate, "failed")
    # The features of the answer are read of the same view, so nothing ranks by them either.
    assert given.rung == ("empty" if must else "popular")


def test_features_that_cannot_be_read_leave_the_order_of_the_generators(open_stall: Any) -> None:
    stall = open_stall()
    damage(stall, "item__sum_pieces")
    given = ask(stall)
    assert (given.rung, given.slate()) == ("popular", ["a", "b", "c"])
    assert (given.degraded, given.logged) == ({"features": "failed"}, b"")


def test_or_the_model_on_nulls_where_that_is_declared(open_stall: Any, rule: RuleModel) -> None:
    stall = open_stall(degrade=("nulls", "popular"))
    version = stall.promote(rule, ["item__sum_pieces"])
    assert ask(stall, "r1").rung == "full"
    damage(stall, "item__sum_pieces")
    given = ask(stall, "r2")
    assert (given.rung, given.version, given.slate()) == ("nulls", version, ["a", "b", "c"])
    assert (given.degraded, given.logged) == ({"features": "failed"}, b"")
    assert set(np.frombuffer(given.scores)) == {0.0}
    # Asked for by who decides on load, the store is not read at all.
    assert ask(stall, "r3", Allowance("nulls")).rung == "nulls"


def test_a_rerank_changes_the_order_and_no_score(open_stall: Any) -> None:
    stall = open_stall(rerank=[Pin(1, Keep("item__sum_pieces", high=2))])
    given = ask(stall)
    assert given.slate() == ["c", "a", "b"]
    plain = {
        item: RuleModel("x", None, ("x",)).scores(np.array([[n]], np.float32))[0]
        for item, n in (("a", 4), ("b", 4), ("c", 2))
    }
    assert [given.score_at(place) for place in (1, 2, 3)] == [plain[i] for i in given.slate()]
    assert list(given.timing_us) == ["retrieve", "features", "score", "rerank", "log"]


def test_a_rerank_is_left_out_when_it_is_late_or_has_nothing_to_read(open_stall: Any) -> None:
    stall = open_stall(rerank=[Pin(1, Keep("item__sum_pieces", high=2))])
    late = ask(stall, "r1", OVER)
    assert (late.slate(), late.degraded["rerank"]) == (["a", "b", "c"], "left out")
    assert ask(stall, "r2", Allowance("popular")).degraded == {"rerank": "left out"}


def test_a_generator_that_is_slow_is_left_behind_and_the_answer_says_so(
    open_stall: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = open_stall().service.system
    sales, item = system.data[0], system.task.item
    quick = sf.Popular(sales, item, half_life="14 d", n=2)
    slow = sf.Popular(sales, item, half_life="14 d", n=9, name="slow", timeout="20 ms")
    stall = open_stall(retrieve=[slow, quick])
    beside = stall.service.retrieval.generators[0]
    assert isinstance(beside, Beside)
    gate, inner = threading.Event(), beside._generator

    def held(query: Any) -> Any:
        gate.wait(60)
        return type(inner).propose(inner, query)

    monkeypatch.setattr(inner, "propose", held)
    given = ask(stall, "r1")
    assert (given.items, given.degraded) == (["a", "b"], {"retrieve": "without slow"})
    assert given.rung == "baseline"
    assert np.isnan(given.generator_scores()[:, 0]).all()
    gate.set()
    assert beside._running is not None
    beside._running.result(60)
    monkeypatch.undo()
    stall.service.close()


def slow(stall: Any, kind: str, seconds: float) -> None:
    """Have the service think that so much work on four rows takes so long."""
    for _ in range(16):
        stall.service._answering.pace.learn(kind, 4, seconds)


def test_a_model_for_which_there_is_no_time_is_not_begun(open_stall: Any, rule: RuleModel) -> None:
    stall = open_stall()
    stall.promote(rule, ["item__sum_pieces"])
    assert ask(stall, "r1").rung == "full"
    slow(stall, "model 1", 3_600.0)  # features and score have 0.44 of an hour
    given = ask(stall, "r2")
    assert (given.rung, given.degraded) == ("baseline", {"score": "no time"})
    slow(stall, "features", 3_600.0)
    assert ask(stall, "r3").rung == "popular"


def test_fewer_candidates_are_ranked_where_there_is_time_for_them(
    open_stall: Any, rule: RuleModel
) -> None:
    stall = open_stall(degrade=("fewer", "baseline", "popular"), fewer=3, limit=60)
    stall.promote(rule, ["item__sum_pieces"])
    assert ask(stall, "r1").rung == "full"
    slow(stall, "model 1", 2_000.0)  # 1500 s for three
    given = ask(stall, "r2")
    assert (given.rung, len(given.items), given.version) == ("fewer", 3, 1)


def test_a_replay_takes_its_time(
    make_stall: Callable[..., Any],
    anew: Callable[[], sf.System],
    sale: Callable[..., Any],
    rule: RuleModel,
) -> None:
    stall = make_stall(replay=True, system=anew())
    known = stall.clock.now_us()
    stall.service.accept("sales", [sale("x", "a")], known)
    stall.promote(rule, ["item__sum_pieces"])
    slow(stall, "features", 1e9)
    slow(stall, "model 1", 1e9)
    early = Allowance(arrived_s=-1e9)
    assert ask(stall, "r1", early, t=known + 1).rung == "full"
    assert ask(stall, "r2", early, t=known + 2, timeout_ms=60_000.0).rung == "popular"
