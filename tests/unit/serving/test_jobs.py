"""Jobs: made as answers are, bounded, gone on with after a restart, and nothing of them left when their time is over."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sevenfold as sf
from sevenfold.clock import ManualClock
from sevenfold.errors import NotFoundError, ServingError, StoreError
from sevenfold.models.rule import RuleModel
from sevenfold.serving import jobs as module
from sevenfold.serving.jobs import PAGE, CrowdedError, Jobs
from sevenfold.serving.request import RecommendRequest
from sevenfold.serving.slate_table import Slate
from sevenfold.stores.kv import Store
from sevenfold.stores.log import frontier_us
from sevenfold.stores.memory import MemoryStore
from sevenfold.stores.tables import META, SLATES

S = 1_000_000
PEOPLE = [{"customer": who} for who in ("ada", "bob", "cleo", "dora", "eve")]
TOKEN = {"Authorization": "Bearer the-token"}


@pytest.fixture
def serving(
    make_stall: Callable[..., Any],
    anew: Callable[[], sf.System],
    sale: Callable[..., Any],
    rule: RuleModel,
) -> Callable[..., Any]:
    """A function that opens a stall with a model and four items sold; a second one has the store of the first."""

    def opened(replay: bool = False, **pipeline: Any) -> Any:
        system = anew()
        requirements = replace(system.requirements, latency=sf.Latency(p99="1 h"))
        serving = replace(system.serving, **pipeline)
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
        if stall.registry.alias("champion") is None:
            stall.promote(rule, ["item__sum_pieces"])
        return stall

    return opened


@pytest.fixture
def one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step scores one request, and writes it."""
    monkeypatch.setattr(module, "_STEP_S", -1.0)
    monkeypatch.setattr(module, "_WRITE_S", -1.0)


def work(jobs: Jobs, steps: int = 1_000) -> int:
    """How many steps there were, at most so many."""
    for done in range(steps):
        if not jobs.step():
            return done
    return steps


def left(store: Store) -> list[bytes]:
    """What a store holds of jobs."""
    with store.read() as txn:
        notes = [key for key, _ in txn.scan(META, b"job", b"joc")]
        freeing = [key for key, _ in txn.scan(META, b"slates/freeing/", b"slates/freeing0")]
        return [key for key, _ in txn.scan(SLATES)] + notes + freeing


def test_a_job_is_begun_looked_at_and_read(serving: Any, one_at_a_time: None) -> None:
    stall = serving()
    begun = stall.post("/v1/jobs", {"keys": PEOPLE, "k": 2})
    assert begun.status_code == 202
    where, told = begun.headers["location"], begun.json()
    assert where == f"/v1/jobs/{told['job_id']}"
    assert (told["state"], told["done"], told["total"], told["pages"]) == ("queued", 0, 5, 0)
    assert (told["ended"], told["expires"], told["error"]) == (None, None, None)
    assert stall.get(f"{where}/pages/1").status_code == 409
    assert work(stall.service.scoring, 2) == 2
    told = stall.get(where).json()
    assert (told["state"], told["done"]) == ("running", 2)
    assert "sevenfold_jobs_keys 3.0" in stall.get("/metrics").text.splitlines()
    stall.clock.advance(S)
    work(stall.service.scoring)
    told = stall.get(where).json()
    assert (told["state"], told["done"], told["pages"]) == ("done", 5, 1)
    assert told["expires"] - told["ended"] == 3600 * S
    page = stall.get(f"{where}/pages/1").json()
    assert [one["keys"] for one in page["slates"]] == PEOPLE
    assert [one["as_of"] - told["made"] for one in page["slates"]] == [0, 0, S, S, S]
    for path in (f"{where}/pages/2", f"{where}/pages/0", f"{where}/pages/x", "/v1/jobs/none"):
        assert stall.get(path).status_code == 404
    assert 'sevenfold_jobs{state="done"} 1.0' in stall.get("/metrics").text.splitlines()


def test_slates_of_a_job_are_what_each_would_have_been_answered(serving: Any) -> None:
    stall = serving(
        rerank=[sf.Pipeline.Cap("item__count_7d", most=1)],
        slate=sf.Pipeline.Slate(ttl="30 s"),
        degrade=("baseline", "cached", "popular", "empty"),
        mode="batch",
        max_age="1 h",
    )
    where = stall.post("/v1/jobs", {"keys": PEOPLE}).headers["location"]
    work(stall.service.scoring)
    for one in stall.get(f"{where}/pages/1").json()["slates"]:
        request = RecommendRequest(one["keys"]["customer"], one["keys"])
        made, _ = stall.service.recommend(request)
        assert [item["item"] for item in one["items"]] == made.slate()
        assert [item["score"] for item in one["items"]] == made.shown_scores().tolist()
        assert (one["model"], one["version"], one["rung"]) == (made.model, made.version, "full")
        assert one["as_of"] == made.t_us  # the clock stood still
    with stall.store.read() as txn:
        assert frontier_us(txn) == stall.clock.now_us()


def test_a_job_goes_on_after_a_restart(serving: Any, one_at_a_time: None) -> None:
    stall = serving()
    body = {"keys": PEOPLE, "k": 2, "job_id": "night"}
    assert stall.post("/v1/jobs", body).headers["location"] == "/v1/jobs/night"
    work(stall.service.scoring, 3)
    again = serving()
    told = again.get("/v1/jobs/night").json()
    assert (told["state"], told["done"]) == ("running", 3)
    assert work(again.service.scoring) == 2
    assert again.get("/v1/jobs/night").json()["state"] == "done"
    page = again.get("/v1/jobs/night/pages/1").json()["slates"]
    assert [one["keys"] for one in page] == PEOPLE
    assert all(len(one["items"]) == 2 for one in page)


def test_the_same_job_twice_is_one(serving: Any) -> None:
    stall = serving()
    body = {"keys": PEOPLE, "job_id": "x"}
    first = stall.post("/v1/jobs", body)
    work(stall.service.scoring)
    second = stall.post("/v1/jobs", body)
    assert (first.status_code, second.status_code) == (202, 202)
    assert second.json()["state"] == "done"
    for other in ({**body, "k": 1}, {**body, "keys": PEOPLE[:2]}):
        refused = stall.post("/v1/jobs", other)
        assert refused.status_code == 409
        assert "give every job its own" in refused.json()["error"]["message"]


def test_a_job_is_cancelled_between_two_steps(serving: Any, one_at_a_time: None) -> None:
    stall = serving()
    for name in ("a", "b"):
        stall.post("/v1/jobs", {"keys": PEOPLE, "job_id": name})
    work(stall.service.scoring, 2)
    told = stall.call("DELETE", "/v1/jobs/a", headers=TOKEN)
    assert (told.status_code, told.json()["state"], told.json()["pages"]) == (200, "cancelled", 0)
    assert stall.get("/v1/jobs/a/pages/1").status_code == 409
    work(stall.service.scoring)
    assert stall.get("/v1/jobs/a").json()["state"] == "cancelled"
    assert stall.get("/v1/jobs/b").json()["state"] == "done"
    with stall.store.read() as txn:
        assert txn.count(SLATES) == 5  # those of b
    told = stall.call("DELETE", "/v1/jobs/b", headers=TOKEN)
    assert told.json()["state"] == "done"  # what has ended stays as it is
    assert stall.call("DELETE", "/v1/jobs/c", headers=TOKEN).status_code == 404


def test_a_result_is_kept_for_its_ttl_and_nothing_is_left_of_it(serving: Any) -> None:
    stall = serving(jobs=sf.Pipeline.Jobs(ttl="1 min"))
    stall.post("/v1/jobs", {"keys": PEOPLE, "job_id": "x"})
    work(stall.service.scoring)
    stall.clock.advance(60 * S - 1)
    assert not work(stall.service.scoring)
    assert stall.get("/v1/jobs/x").json()["state"] == "done"
    stall.clock.advance(1)
    assert stall.get("/v1/jobs/x").status_code == 404  # before anybody has let go of it
    work(stall.service.scoring)
    assert stall.get("/v1/jobs/x/pages/1").status_code == 404
    assert left(stall.store) == []
    assert stall.post("/v1/jobs", {"keys": PEOPLE[:1], "job_id": "x"}).json()["state"] == "queued"


def test_jobs_are_bounded(serving: Any) -> None:
    stall = serving(jobs=sf.Pipeline.Jobs(waiting=2, kept=3))
    for name in ("a", "b"):
        assert stall.post("/v1/jobs", {"keys": PEOPLE, "job_id": name}).status_code == 202
    refused = stall.post("/v1/jobs", {"keys": PEOPLE, "job_id": "c"})
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "10")
    assert refused.json()["error"]["code"] == "too_many_jobs"
    work(stall.service.scoring)
    for name in ("c", "d"):
        assert stall.post("/v1/jobs", {"keys": PEOPLE, "job_id": name}).status_code == 202
    assert stall.get("/v1/jobs/a").status_code == 404  # the oldest has made way
    assert stall.get("/v1/jobs/b").json()["state"] == "done"
    work(stall.service.scoring)
    with stall.store.read() as txn:
        assert txn.count(SLATES) == 15


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"keys": []}, "$.keys"),
        ({"keys": [{"customer": "ada"}, {}]}, "$.keys[1]"),
        ({"keys": [{"customer": "ada", "item": "a"}]}, "$.keys[0].item"),
        ({"keys": [{"customer": ""}]}, "$.keys[0][...]"),
        ({"keys": PEOPLE, "k": 101}, "$.k"),
        ({"keys": PEOPLE, "job_id": "../x"}, "$.job_id"),
        ({"keys": PEOPLE, "population": "all"}, "$"),
    ],
)
def test_what_is_no_job_is_refused(body: Any, path: str, serving: Any) -> None:
    stall = serving()
    refused = stall.post("/v1/jobs", body)
    assert refused.status_code == 400
    assert refused.json()["error"]["path"] == path
    assert left(stall.store) == []


def test_a_replay_has_no_jobs(serving: Any) -> None:
    stall = serving(replay=True)
    refused = stall.post("/v1/jobs", {"keys": PEOPLE})
    assert refused.status_code == 409
    assert "sevenfold score" in refused.json()["error"]["message"]


def test_who_is_forgotten_leaves_every_job(serving: Any, one_at_a_time: None) -> None:
    stall = serving()
    for name in ("done", "begun", "waiting"):
        stall.post("/v1/jobs", {"keys": PEOPLE, "job_id": name})
    work(stall.service.scoring, 7)
    stall.service.forget("customer", "bob")
    assert not stall.service.scoring.step()  # it holds until that is done
    while stall.service.forgetting.step():
        pass
    work(stall.service.scoring)
    others = [one for one in PEOPLE if one["customer"] != "bob"]
    for name in ("done", "begun", "waiting"):
        assert stall.get(f"/v1/jobs/{name}").json()["state"] == "done"
        page = stall.get(f"/v1/jobs/{name}/pages/1").json()["slates"]
        assert [one["keys"] for one in page] == others
    with stall.store.read() as txn:
        assert not any(b"bob" in value for _, value in txn.scan(META, b"job", b"joc"))
        assert txn.count(SLATES) == 12


def a_slate(keys: Mapping[str, str], k: int) -> Slate:
    """A slate of items that say whose they are."""
    items = [f"{keys['who']}{i}" for i in range(k)]
    scores = np.arange(k, 0, -1.0)
    sources = np.ones(k, np.uint32)
    return Slate(
        dict(keys), 5, "m", 1, "full", "f", [], items, sources.tobytes(), b"", scores.tobytes()
    )


def test_a_step_that_fails_is_tried_again_and_then_the_job_has_failed_in_words() -> None:
    store, clock = MemoryStore(), ManualClock(S)
    broken = ["bad", "worse"]

    def make(keys: Mapping[str, str], k: int) -> Slate | None:
        if keys["who"] in broken:
            raise StoreError("the store is on fire")
        return a_slate(keys, k)

    jobs = Jobs(store, sf.Pipeline.Jobs(), make, clock.now_us)
    jobs.begin([{"who": "bad"}], 1, "first")
    jobs.begin([{"who": "fine"}], 1, "second")
    for _ in range(2):
        with pytest.raises(StoreError) as error:
            jobs.step()
        jobs.failed(error.value)
    assert jobs.find("first").state == "queued"  # it may be over by the next
    with pytest.raises(StoreError) as error:
        jobs.step()
    jobs.failed(error.value)
    assert jobs.find("first").state == "failed"
    assert jobs.find("first").error == "it failed 3 times: the store is on fire"
    work(jobs)
    assert jobs.find("second").state == "done"
    assert jobs.page("second", 1)[0][1] == a_slate({"who": "fine"}, 1)


def test_while_others_ask_a_step_is_followed_by_a_rest() -> None:
    quiet = [False]
    jobs = Jobs(
        MemoryStore(), sf.Pipeline.Jobs(), a_slate, lambda: S, lambda: False, lambda: quiet[0]
    )
    jobs.begin([{"who": str(i)} for i in range(3_000)], 2, "x")
    assert jobs.step()
    assert jobs._rested_s > 0
    jobs._rested_s = float("inf")  # the clock of the machine does not decide this
    assert not jobs.step()
    jobs._rested_s, quiet[0] = 0.0, True
    assert jobs.step()
    assert jobs.step()  # nobody asks: without a rest


def test_a_commit_is_shared_by_many_slates_and_a_kill_costs_only_those(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_STEP_S", -1.0)
    monkeypatch.setattr(module, "_WRITE_S", float("inf"))
    monkeypatch.setattr(module, "_MOST", 4)
    store = MemoryStore()
    jobs = Jobs(store, sf.Pipeline.Jobs(), a_slate, lambda: S)
    keys = [{"who": f"w{i}"} for i in range(10)]
    jobs.begin(keys, 1, "x")
    done = []
    for _ in range(6):
        jobs.step()
        done.append(jobs.find("x").done)
    assert done == [0, 0, 0, 4, 4, 4]
    again = Jobs(store, sf.Pipeline.Jobs(), a_slate, lambda: S)
    assert again.find("x").done == 4
    assert work(again) == 6
    assert again.page("x", 1) == [(one, a_slate(one, 1)) for one in keys]


def test_many_keys_are_pages(one_at_a_time: None) -> None:
    jobs = Jobs(MemoryStore(), sf.Pipeline.Jobs(), a_slate, lambda: S)
    keys = [{"who": f"w{i}"} for i in range(PAGE + 1)]
    jobs.begin(keys, 1, "x")
    work(jobs)
    assert [one for page in (1, 2) for one, _ in jobs.page("x", page)] == keys
    with pytest.raises(NotFoundError, match="there are 1 to 2"):
        jobs.page("x", 3)


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "begin", "step", "step", "cancel", "wait", "restart"]),
        st.integers(0, 3),
        st.integers(1, 5),
    ),
    max_size=40,
)


@given(operations=OPERATIONS, most=st.sampled_from([1, 3, 256]))
def test_whatever_happens_a_done_job_is_whole_and_nothing_else_is_left(
    operations: Any, most: int
) -> None:
    store, clock = MemoryStore(), ManualClock(S)
    declared = sf.Pipeline.Jobs(ttl="10 s", waiting=2, kept=3)

    def opened() -> Jobs:
        return Jobs(store, declared, a_slate, clock.now_us)

    jobs = opened()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_STEP_S", -1.0)
        patch.setattr(module, "_MOST", most)
        for what, which, n in operations:
            name = f"j{which}"
            try:
                if what == "begin":
                    jobs.begin([{"who": f"{name}-{i}"} for i in range(n)], n, name)
                elif what == "cancel":
                    assert jobs.cancel(name).state in ("done", "cancelled")
                elif what == "wait":
                    clock.advance(n * S)
                elif what == "restart":
                    jobs = opened()
                else:
                    jobs.step()
            except (CrowdedError, NotFoundError, ServingError):
                pass
            assert sum(record.is_open for record in jobs.records) <= 2
            assert len(jobs.records) <= 3
        work(jobs)
    rows = 0
    for record in jobs.records:
        assert record.state in ("done", "cancelled")
        if record.state == "done":
            rows += record.total
            page = jobs.page(record.id, 1)
            assert [slate for _, slate in page] == [a_slate(one, record.k) for one, _ in page]
            assert len(page) == record.total == record.slates
    with store.read() as txn:
        assert txn.count(SLATES) == rows
        assert not list(txn.scan(META, b"slates/freeing/", b"slates/freeing0"))
    clock.advance(20 * S)
    work(jobs)
    assert left(store) == []
