"""Answers made in one turn of the event loop share one commit, and none is given before it is on disk."""

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import sevenfold as sf
from sevenfold.clock import SystemClock
from sevenfold.engines.offline import read_at
from sevenfold.errors import ServingError
from sevenfold.features.frame import Spine
from sevenfold.models.dataset import Dataset
from sevenfold.models.lightgbm import LightGBMModel, LightGBMSettings
from sevenfold.registry.registry import Registry
from sevenfold.serving.app import App
from sevenfold.serving.guard import Guard
from sevenfold.serving.pending import Pending
from sevenfold.serving.prediction_log import (
    Prediction,
    feature_names,
    find_prediction,
    read_predictions,
)
from sevenfold.serving.request import RankRequest, RecommendRequest
from sevenfold.serving.service import Service
from sevenfold.serving.site import Site
from sevenfold.serving.tokens import Tokens
from sevenfold.stores.lmdb import LmdbStore
from sevenfold.stores.log import floor_us, last_known_us, read_stream
from sevenfold.stores.open import open_store
from sevenfold.types import Texts

START_US = 1_700_000_000_000_000
Sale = Callable[..., dict[str, Any]]


@pytest.fixture
def stall(stall: Any) -> Any:
    """The stall with drafts that wait for as long as it takes: no test here is about how fast they are made."""
    stall.service.pending = Pending(stall.store, math.inf)
    return stall


def asked(name: str, customer: str = "ada", **more: Any) -> RecommendRequest:
    return RecommendRequest(name, {"customer": customer}, **more)


def logged(stall: Any) -> list[str]:
    with stall.store.read() as txn:
        return [prediction.request_id for prediction in read_predictions(txn)]


class Impatient(Pending):
    """Lets no draft wait for another, however slow the disk is."""

    patience_s = 0.0


async def at_once(app: App, bodies: list[dict[str, Any]]) -> list[httpx.Response]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://stall") as client:
        return await asyncio.gather(*(client.post("/v1/recommend", json=body) for body in bodies))


def test_a_draft_is_on_disk_once_it_is_settled_and_not_before(stall: Any) -> None:
    drafts = [stall.service.draft_recommend(asked(f"r{i}")) for i in range(3)]
    assert not any(draft.is_kept for draft in drafts)
    assert logged(stall) == []
    stall.service.pending.settle()
    assert all(draft.is_kept for draft in drafts)
    assert sorted(logged(stall)) == ["r0", "r1", "r2"]
    assert all(draft.prediction.timing_us["log"] >= 0 for draft in drafts)


def test_answers_of_one_turn_share_one_commit(
    tmp_path: Path, anew: Callable[[], sf.System]
) -> None:
    store = LmdbStore(tmp_path / "store")
    try:
        service = Service(anew(), store, Registry(tmp_path / "registry"), SystemClock())
        guard = Guard(Tokens("token"), {"predict"})
        app = App(Site(service, None, False), guard)

        service.pending = Pending(store, math.inf)

        def commits() -> int:
            return int(store._env.info()["last_txnid"])

        bodies = [{"request_id": f"r{i}", "keys": {"customer": f"c{i}"}} for i in range(6)]
        asyncio.run(at_once(app, bodies[:1]))
        before = commits()
        responses = asyncio.run(at_once(app, bodies))
        assert [r.json()["repeated"] for r in responses] == [True] + [False] * 5
        assert commits() == before + 1
        service.pending = Impatient(store)  # the second comes too late for the first to wait on
        for i in range(4):
            service.draft_recommend(asked(f"s{i}"))
        service.pending.settle()
        assert commits() == before + 3
    finally:
        store.close()


def test_a_slow_commit_is_shared_by_more(stall: Any) -> None:
    class Slow:
        """The store on a slow disk."""

        @contextmanager
        def write(self) -> Iterator[Any]:
            with stall.store.write() as txn:
                yield txn
            time.sleep(0.08)

    pending = Pending(Slow(), 0.01)
    assert pending.patience_s == 0.01
    for i in range(2):
        pending.add(stall.service.draft_recommend(asked(f"r{i}")))
        pending.settle()
    assert pending.patience_s == 0.05
    assert Pending(Slow(), math.inf).patience_s == math.inf


def test_a_request_that_comes_twice_in_a_turn_is_answered_once(stall: Any) -> None:
    bodies = [{"request_id": "r", "keys": {"customer": "ada"}}] * 3
    responses = asyncio.run(at_once(stall.app, bodies))
    assert sorted(r.json()["repeated"] for r in responses) == [False, True, True]
    assert len({str(r.json()["items"]) for r in responses}) == 1
    assert logged(stall) == ["r"]


def test_the_id_of_another_question_of_the_same_turn_is_refused(stall: Any) -> None:
    stall.service.draft_recommend(asked("r"))
    with pytest.raises(ServingError, match=r"\$\.request_id"):
        stall.service.draft_recommend(asked("r", "bob"))
    with pytest.raises(ServingError, match=r"\$\.request_id"):
        stall.service.draft_rank(RankRequest("r", {"customer": "ada"}, items=["c", "a"]))


def vectors_of_then(service: Service, prediction: Prediction) -> Any:
    """What the offline engine says of the logged rows, from the log as it is now."""
    with service.store.read() as txn:
        wanted = feature_names(txn, prediction.features)
        events = read_stream(txn, "sales")
    assert events is not None
    items = [prediction.items[row] for row in prediction.logged_rows()]
    keys = {"customer": Texts.of(["ada"] * len(items)), "item": Texts.of(items)}
    spine = Spine(np.full(len(items), prediction.t_us), keys)
    return read_at(service.plan, wanted, spine, {"sales": events}).vectors()


class Fickle:
    """A clock that can be set back, as a machine's can."""

    def __init__(self, now_us: int) -> None:
        self.us = now_us

    def now_us(self) -> int:
        return self.us


def test_events_taken_in_before_a_draft_is_written_are_not_in_its_past(
    tmp_path: Path, anew: Callable[[], sf.System], sale: Sale
) -> None:
    clock, store = Fickle(START_US), open_store("memory:")
    service = Service(anew(), store, Registry(tmp_path / "registry"), clock)
    service.pending = Pending(store, math.inf)
    service.accept("sales", [sale(f"m{i}", "a") for i in range(3)], None)
    clock.us += 5_000_000
    draft = service.draft_recommend(asked("r"))
    clock.us -= 4_000_000  # only the read holds the events off
    service.accept("sales", [sale(f"n{i}", "a") for i in range(4)], None)
    with service.store.read() as txn:
        assert last_known_us(txn) >= draft.prediction.t_us
    later = service.draft_recommend(asked("s"))
    service.pending.settle()
    given = [one.prediction for one in (draft, later)]
    for one in given:
        np.testing.assert_array_equal(
            vectors_of_then(service, one).view(np.uint32), one.logged_vectors().view(np.uint32)
        )
    assert given[0].logged_vectors().tobytes() != given[1].logged_vectors().tobytes()


def test_what_cannot_be_written_harms_no_other_of_its_turn(stall: Any) -> None:
    drafts = [stall.service.draft_recommend(asked(f"r{i}")) for i in range(3)]
    drafts[1].prediction.t_us = -1  # no key has such an instant
    twin = stall.service.draft_recommend(asked("r1"))
    stall.service.pending.settle()
    assert [draft.is_kept for draft in drafts] == [True, False, True]
    assert sorted(logged(stall)) == ["r0", "r2"]
    for refused in (drafts[1], twin):
        with pytest.raises(OverflowError):
            asyncio.run(refused.kept())
    # What was refused may be asked again.
    assert stall.service.recommend(asked("r1"))[1] is False
    assert sorted(logged(stall)) == ["r0", "r1", "r2"]


def test_who_waits_hears_of_it_and_who_has_left_does_not(stall: Any) -> None:
    async def leave() -> None:
        drafts = [stall.service.draft_recommend(asked(f"r{i}")) for i in range(2)]
        tasks = [asyncio.ensure_future(draft.kept()) for draft in drafts]
        await asyncio.sleep(0)
        assert not any(task.done() for task in tasks)
        tasks[0].cancel()
        stall.service.pending.settle_soon()
        await asyncio.wait_for(tasks[1], 10)

    asyncio.run(leave())
    assert sorted(logged(stall)) == ["r0", "r1"]


def test_a_job_finds_on_disk_what_was_made_before_it(stall: Any) -> None:
    draft = stall.service.draft_recommend(asked("r", "bob"))
    stall.service.forget("customer", "bob")
    assert draft.is_kept
    waiting = stall.service.draft_recommend(asked("s", "bob"))
    for _ in range(20):
        stall.app.background.step(stall.service.forgetting)
    assert waiting.is_kept
    assert stall.service.forgotten()[0] == 0
    with stall.store.read() as txn:
        assert find_prediction(txn, "r") is find_prediction(txn, "s") is None


def test_an_answer_raises_the_floor_before_and_after_it_is_written(stall: Any) -> None:
    stall.clock.advance(9_000_000)
    draft = stall.service.draft_recommend(asked("r"))
    assert stall.service._ingest.read_us == draft.prediction.t_us
    stall.service.pending.settle()
    with stall.store.read() as txn:
        assert floor_us(txn) >= draft.prediction.t_us


def test_served_scores_are_the_models_on_the_offline_vectors_to_the_bit(
    make_stall: Callable[..., Any], anew: Callable[[], sf.System], sale: Sale
) -> None:
    """What the client reads in JSON, what the log holds and what the offline engine leads to are the same numbers."""
    system = anew()
    # No deadline and no gate: which rung serves is not to depend on the machine.
    latency = sf.Latency(p99="1 h")
    stall = make_stall(
        system=replace(system, requirements=replace(system.requirements, latency=latency)),
        admission=False,
    )
    rng = np.random.default_rng(7)
    items = [f"i{n}" for n in range(40)]
    stall.sell(
        *(sale(f"m{i}", str(rng.choice(items)), pieces=int(rng.integers(1, 9))) for i in range(400))
    )
    names = list(stall.service.features)
    x = rng.normal(size=(600, len(names))).astype(np.float32) * 10
    x[rng.random(x.shape) < 0.2] = np.nan
    y = (np.nan_to_num(x[:, 0]) + rng.normal(size=600) > 0).astype(np.float32)
    settings = LightGBMSettings(n_trees=60, min_rows_in_leaf=2)
    data = Dataset.of(x, y, groups=[20] * 30, feature_names=names)
    model = LightGBMModel(settings).fit(data, rng)
    stall.promote(model, names)
    compared = 0
    for i in range(12):
        stall.clock.advance(int(rng.integers(1, 3_600_000_000)))
        stall.sell(sale(f"x{i}", str(rng.choice(items)), stall.clock.now_us()))
        body = {"request_id": f"r{i}", "keys": {"customer": "ada"}, "items": items, "k": 40}
        answer = stall.post("/v1/rank", body).json()
        assert answer["rung"] == "full"
        with stall.store.read() as txn:
            prediction = find_prediction(txn, f"r{i}")
        assert prediction is not None
        then = vectors_of_then(stall.service, prediction)
        expected = model.scores(then[:, [names.index(n) for n in model.feature_names]])
        served = np.array([one["score"] for one in answer["items"]])
        np.testing.assert_array_equal(served.view(np.uint64), expected.view(np.uint64))
        np.testing.assert_array_equal(prediction.shown_scores(), served)
        compared += len(served)
    assert compared == 480
