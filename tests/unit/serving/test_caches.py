"""What is kept in memory is never older than it may be: not after another version, event or definition, not after its ttl."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest

import sevenfold as sf
from sevenfold.engines.hot import HotStates
from sevenfold.engines.offline import read_at
from sevenfold.engines.online import OnlineEngine
from sevenfold.features.frame import Spine
from sevenfold.models.rule import RuleModel
from sevenfold.serving.definition import Definition
from sevenfold.serving.prediction_log import feature_names, find_prediction
from sevenfold.serving.request import RankRequest, RecommendRequest
from sevenfold.serving.rungs import Allowance
from sevenfold.stores.log import read_stream
from sevenfold.types import Texts

Slate, Hot, Keep = sf.Pipeline.Slate, sf.Pipeline.Hot, sf.Pipeline.Keep
S = 1_000_000
ALWAYS = Slate("30 s", always=True)
DEGRADE = ("baseline", "cached", "popular", "empty")
OVER = Allowance(deadline_s=0.0)


@pytest.fixture
def keeping(
    make_stall: Callable[..., Any],
    anew: Callable[[], sf.System],
    sale: Callable[..., Any],
    rule: RuleModel,
) -> Callable[..., Any]:
    """A function that opens a stall with caches that is never late of itself, with a model and three items sold."""

    def opened(replay: bool = False, **pipeline: Any) -> Any:
        system = anew()
        requirements = replace(system.requirements, latency=sf.Latency(p99="1 h"))
        rungs = DEGRADE if "slate" in pipeline else ("baseline", "popular", "empty")
        more = {
            name: pipeline.pop(name) for name in ("data", "features", "models") if name in pipeline
        }
        serving = replace(system.serving, **{"degrade": rungs, **pipeline})
        system = replace(system, requirements=requirements, serving=serving, **more)
        stall = make_stall(replay=replay, system=system)
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


class Asking:
    """Asks for ada, under a new name each time."""

    def __init__(self, stall: Any) -> None:
        self._stall = stall
        self._names = map(str, range(1000))

    def __call__(self, allowance: Allowance | None = None, who: str = "ada", **more: Any) -> Any:
        request = RecommendRequest(next(self._names), {"customer": who}, **more)
        return self._stall.service.recommend(request, allowance or Allowance())[0]


def test_a_slate_that_is_kept_is_the_answer_for_its_ttl(keeping: Any) -> None:
    stall = keeping(slate=ALWAYS)
    ask = Asking(stall)
    made = ask()
    assert (made.rung, made.slate()) == ("full", ["a", "b", "c"])
    stall.clock.advance(29 * S)
    kept = ask()
    assert (kept.rung, kept.model, kept.version) == ("cached", made.model, made.version)
    assert (kept.slate(), kept.scores) == (made.slate(), made.scores)
    assert kept.t_us == made.t_us + 29 * S
    assert kept.degraded == {"slate": "made 29.000 s before"}
    # Its vectors are of another instant, so they are not logged under this one.
    assert (kept.logged, kept.vectors, kept.sample_weight) == (b"", b"", 0.0)
    assert kept.source_masks().tolist() == [1, 1, 1]
    with stall.store.read() as txn:
        assert find_prediction(txn, kept.request_id) is not None
    stall.clock.advance(S)
    assert ask().rung == "full"  # thirty seconds are over
    counts = stall.service.caches.counts()["slates"]
    assert (counts.hits, counts.misses, counts.entries) == (1, 2, 1)


def test_another_version_serves_at_once(keeping: Any, rule: RuleModel) -> None:
    stall = keeping(slate=ALWAYS)
    ask = Asking(stall)
    assert [ask().rung, ask().rung] == ["full", "cached"]
    version = stall.promote(rule, ["item__sum_pieces"])
    made = ask()
    assert (made.rung, made.version) == ("full", version)
    assert ask().version == version


def test_an_event_of_whom_it_is_for_drops_it(keeping: Any, sale: Callable[..., Any]) -> None:
    stall = keeping(slate=ALWAYS)
    ask = Asking(stall)
    assert [ask().rung, ask(who="bob").rung, ask().rung] == ["full", "full", "cached"]
    stall.sell(sale("n1", "d", customer="ada", pieces=9))
    made = ask()
    assert (made.rung, made.slate()) == ("full", ["d", "a", "b"])
    assert ask(who="bob").rung == "cached"  # of whom nothing is new


def test_another_definition_begins_anew(keeping: Any) -> None:
    stall = keeping(slate=ALWAYS, hot=Hot([sf.Entity("item")]))
    ask = Asking(stall)
    assert [ask().rung, ask().rung] == ["full", "cached"]
    stall.service._switch(Definition(stall.service.system))
    held = stall.service.caches.counts()
    assert (held["slates"].entries, held["states"].entries) == (0, 0)
    assert held["slates"].hits == 1  # what was counted still counts
    assert ask().rung == "full"


def test_nothing_is_kept_while_somebody_is_forgotten(keeping: Any) -> None:
    stall = keeping(slate=ALWAYS, hot=Hot([sf.Entity("item"), sf.Entity("customer")]))
    ask = Asking(stall)
    assert [ask(who="eve").rung, ask(who="eve").rung] == ["full", "cached"]
    stall.service.forget("customer", "eve")
    assert ask(who="eve").rung == "full"
    steps = 0
    while stall.service.forgetting.step():
        if stall.service.forgetting.open:
            assert ask(who="eve").rung == "full"
        steps += 1
        assert steps < 1000
    made = ask(who="eve")
    assert (made.rung, made.slate()) == (
        "full",
        ["a", "b", "c"],
    )  # the generators hold what sold
    logged = dict(zip(made.slate(), made.logged_vectors()[:3].tolist(), strict=True))
    with stall.store.read() as txn:
        place = feature_names(txn, made.features).index("item__sum_pieces")
    assert [row[place] for row in logged.values()] == then(stall, made)[:3, place].tolist()
    assert ask(who="eve").rung == "cached"


def test_nothing_is_left_of_somebody_who_was_forgotten_between_two_requests(keeping: Any) -> None:
    stall = keeping(slate=ALWAYS, hot=Hot([sf.Entity("item")]))
    ask = Asking(stall)
    assert [ask(who="eve").rung, ask(who="bob").rung] == ["full", "full"]
    stall.service.forget("customer", "eve")
    while stall.service.forgetting.step():
        pass
    made = ask(who="eve")
    assert made.rung == "full"
    assert then(stall, made).tobytes() == made.logged_vectors().tobytes()


def test_filters_that_must_hold_do_so_on_a_slate_that_is_kept(
    keeping: Any, sale: Callable[..., Any]
) -> None:
    stall = keeping(slate=ALWAYS, filter=[Keep("item__sum_pieces", high=5)])
    ask = Asking(stall)
    assert ask().slate() == ["a", "b", "c"]
    stall.sell(sale("n1", "b", customer="bob", pieces=3))
    kept = ask()
    assert (kept.rung, kept.slate()) == ("cached", ["a", "c"])
    assert len(kept.scores) == 2 * 8
    stall.sell(*[sale(f"n{item}", item, customer="bob", pieces=9) for item in "ac"])
    made = ask()
    assert (made.rung, made.slate()) == ("full", ["d"])  # of the kept one nothing was left


def test_it_is_the_rung_between_the_rule_and_what_is_popular(keeping: Any) -> None:
    stall = keeping(slate=Slate("30 s"))
    ask = Asking(stall)
    assert ask(OVER).rung == "popular"  # there is none yet
    assert [ask().rung, ask().rung] == ["full", "full"]  # while there is time
    late = ask(OVER)
    assert (late.rung, late.slate()) == ("cached", ["a", "b", "c"])
    assert ask(Allowance("cached")).rung == "cached"
    assert ask(Allowance("cached"), who="new").rung == "popular"
    assert ask(Allowance("popular")).rung == "popular"
    assert ask(Allowance("empty")).rung == "empty"
    assert ask(Allowance("cached"), k=2).rung == "popular"  # a slate of another length


def test_it_stands_in_where_features_cannot_be_read(keeping: Any) -> None:
    stall = keeping(slate=Slate("30 s"))
    ask = Asking(stall)
    ask()
    view = stall.service.plan.reading_by_feature["item__sum_pieces"].view.view_id
    with stall.store.write() as txn:
        for key in [key for key, _ in txn.scan("state", view) if key.startswith(view)]:
            txn.put("state", key, b"spoiled")
    given = ask()
    assert (given.rung, given.slate()) == ("cached", ["a", "b", "c"])
    assert given.degraded["features"] == "failed"
    assert ask(who="new").rung == "popular"


def test_only_whole_slates_are_kept(keeping: Any, sale: Callable[..., Any]) -> None:
    stall = keeping(slate=ALWAYS, degrade=("light", *DEGRADE))
    ask = Asking(stall)
    for best in ("baseline", "popular"):
        assert ask(Allowance(best)).rung == best
    assert stall.service.caches.counts()["slates"].entries == 0
    stall.service.rank(RankRequest("rank", {"customer": "ada"}, items=["a", "b"]))
    assert stall.service.caches.counts()["slates"].entries == 0


def test_the_oldest_makes_way(keeping: Any) -> None:
    stall = keeping(slate=replace(ALWAYS, most=2))
    ask = Asking(stall)
    for who in ("ada", "bob", "cyd"):
        assert ask(who=who).rung == "full"
    assert [ask(who=who).rung for who in ("bob", "cyd", "ada")] == ["cached", "cached", "full"]
    assert stall.service.caches.counts()["slates"].entries == 2


def test_many_that_ask_at_once_have_one_made(keeping: Any) -> None:
    stall = keeping(slate=ALWAYS)

    async def ask_all() -> list[str]:
        transport = httpx.ASGITransport(stall.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            bodies = [{"request_id": str(i), "keys": {"customer": "ada"}} for i in range(20)]
            answers = await asyncio.gather(
                *(client.post("/v1/recommend", json=body) for body in bodies)
            )
            return [answer.json()["rung"] for answer in answers]

    assert Counter(asyncio.run(ask_all())) == {"full": 1, "cached": 19}
    lines = stall.call("GET", "/metrics").text.splitlines()
    assert 'sevenfold_cache_total{cache="slates",outcome="hit"} 19.0' in lines
    assert 'sevenfold_cache_total{cache="slates",outcome="miss"} 1.0' in lines
    assert 'sevenfold_cache_held{cache="slates",what="entries"} 1.0' in lines


def test_a_replay_keeps_nothing(keeping: Any) -> None:
    stall = keeping(replay=True, slate=ALWAYS, hot=Hot([sf.Entity("item")]))
    ask = Asking(stall)
    now = stall.clock.now_us()
    assert [ask(t=now).rung, ask(t=now + 1).rung] == ["full", "full"]
    assert stall.service.caches.counts() == {}


def then(stall: Any, given: Any) -> Any:
    """The logged vectors of an answer as the offline engine computes them."""
    with stall.store.read() as txn:
        wanted = feature_names(txn, given.features)
        events = read_stream(txn, "sales")
    items = [given.items[row] for row in given.logged_rows()]
    keys = {"customer": Texts.of([given.keys["customer"]] * len(items)), "item": Texts.of(items)}
    spine = Spine(np.full(len(items), given.t_us), keys)
    return read_at(stall.service.plan, wanted, spine, {"sales": events}).vectors()


@pytest.mark.parametrize("megabytes", [1, 64])
def test_vectors_from_states_in_memory_are_those_of_the_offline_engine(
    keeping: Any, make_stall: Callable[..., Any], sale: Callable[..., Any], megabytes: int
) -> None:
    """Events of this process and of another, windows that pass, any order: the same bits."""
    stall = keeping(hot=Hot([sf.Entity("item"), sf.Entity("customer")], megabytes))
    beside = make_stall(system=stall.service.system)  # another process over the same store
    ask = Asking(stall)
    rng = np.random.default_rng(5)
    for step in range(40):
        who, item = (str(rng.choice(list(names))) for names in (("ada", "eve"), "abcdz"))
        seller = beside if rng.random() < 0.2 else stall
        if rng.random() < 0.6:
            rows = [sale(f"s{step}-{i}", item, customer=who) for i in range(rng.integers(1, 4))]
            at = str(np.datetime64(stall.clock.now_us(), "us"))
            seller.sell(*[{**row, "sold_at": at} for row in rows])
        stall.clock.advance(int(rng.choice([1, S, 3_600 * S, 5 * 86_400 * S])))
        given = ask(who=who)
        assert then(stall, given).tobytes() == given.logged_vectors().tobytes(), step
    states = stall.service.caches.counts()["states"]
    assert states.hits > states.misses > 0


def test_an_embedding_comes_from_memory_until_another_is_sent(
    keeping: Any, anew: Callable[[], sf.System]
) -> None:
    """As any state of a hot entity: found by its key, dropped by an event of that, counted on `/metrics`."""
    system = anew()
    item = system.task.item
    looks = sf.Stream(
        "looks", time="at", keys=[item], fields={"v": sf.Vector(width=4)}, timezone="UTC"
    )
    features = [*system.features, sf.attribute(item, looks, "v", name="look")]
    read = ["item__count_7d", *(f"look__v_{i}" for i in range(1, 5))]
    models = [system.models[0], sf.LogisticRegression(features=read)]
    data = [*system.data, looks]
    stall = keeping(hot=Hot([item]), data=data, features=features, models=models)

    def send(vector: list[float]) -> None:
        at = str(np.datetime64(stall.clock.now_us(), "us"))
        rows = [{"at": at, "item": name, "v": vector} for name in "abcd"]
        assert stall.service.accept("looks", rows, None).events == len(rows)
        stall.clock.advance(S)

    def looked() -> list[list[float]]:
        given = ask()
        names = list(stall.service.features)
        columns = [names.index(f"look__v_{i}") for i in range(1, 5)]
        found: list[list[float]] = given.logged_vectors()[:, columns].tolist()
        return found

    ask = Asking(stall)
    for vector in ([1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0]):
        send(vector)
        before = stall.service.caches.counts()["states"]
        assert looked() == [vector] * len(looked())
        stall.clock.advance(S)
        assert looked() == [vector] * len(looked())
        after = stall.service.caches.counts()["states"]
        assert after.hits > before.hits
        assert after.misses > before.misses, "the other one was dropped"
    text = stall.call("GET", "/metrics").text
    assert f'sevenfold_cache_total{{cache="states",outcome="hit"}} {float(after.hits)}' in text


def test_states_in_memory_are_bounded_and_leave_with_their_events(
    anew: Callable[[], sf.System], keeping: Any, sale: Callable[..., Any]
) -> None:
    stall = keeping()
    plan = stall.service.plan
    views = [view for view in plan.views if view.entities == ("item",)]
    hot = HotStates(views, max_bytes=1_200)
    engine, plain = OnlineEngine(plan, hot), OnlineEngine(plan)
    names = ("item__count_7d", "item__sum_pieces")

    def read(*items: str) -> list[list[float]]:
        with stall.store.read() as txn:
            spine = Spine(
                np.full(len(items), stall.clock.now_us()), {"item": Texts.of(list(items))}
            )
            given = engine.read(txn, names, spine).vectors()
            assert given.tobytes() == plain.read(txn, names, spine).vectors().tobytes()
        rows: list[list[float]] = given.tolist()
        return rows

    assert read("a") == read("a") == [[4, 4]]
    assert (hot.hits, hot.misses, len(hot)) == (1, 1, 1)
    assert read("a", "nobody", "nobody") == [[4, 4], [0, 0], [0, 0]]
    assert read("nobody") == [[0, 0]]
    assert (hot.hits, hot.misses) == (3, 3)  # that there is nothing is known too
    for _ in range(2):
        read(*"abcd", *map(str, range(20)))
        assert 0 < hot.bytes <= 1_200
    kept = len(hot)
    with stall.store.read() as txn:
        before = hot.bytes
        hot.follow(txn)
        assert (hot.bytes, len(hot)) == (before, kept)
    hot.clear()
    read(*"ab")
    stall.sell(sale("x", "a"))
    with stall.store.read() as txn:
        batch = read_stream(txn, "sales")
    assert batch is not None
    hot.observe(batch.take(np.array([len(batch) - 1])))
    assert len(hot) == 1  # a's has left, b's has stayed
    assert read("a", "b")[0] == [5, 5]
    hits = hot.hits
    read("b")
    assert hot.hits == hits + 1
    hot.observe(batch.take(np.array([0])))  # one that is not in the log: nothing fits any more
    read("b")
    assert hot.hits == hits + 1
