"""Commits on a thread beside the event loop: the loop goes on, and nothing is given before it is on disk all the same."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sevenfold as sf
from sevenfold.clock import SystemClock
from sevenfold.registry.registry import Registry
from sevenfold.serving.app import App
from sevenfold.serving.beside import Beside, Work
from sevenfold.serving.guard import Guard
from sevenfold.serving.pending import Pending
from sevenfold.serving.prediction_log import read_predictions
from sevenfold.serving.request import RecommendRequest
from sevenfold.serving.service import Service
from sevenfold.serving.site import Site
from sevenfold.serving.tokens import Tokens
from sevenfold.stores.lmdb import LmdbStore

A_WHILE_S = 20


class Gated:
    """A store whose commits wait until they may end."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.may_end, self.begun = threading.Event(), threading.Event()
        self.commits = 0
        self.threads: set[int] = set()

    @contextmanager
    def write(self) -> Iterator[Any]:
        self.threads.add(threading.get_ident())
        with self.store.write() as txn:
            yield txn
            self.begun.set()
            assert self.may_end.wait(A_WHILE_S), "the test let no commit end"
        self.commits += 1


@pytest.fixture
def gated(stall: Any) -> Iterator[Gated]:
    store = Gated(stall.store)
    stall.service.pending = Pending(store, beside=True)
    yield store
    store.may_end.set()
    stall.service.pending.close()


def asked(name: str) -> RecommendRequest:
    return RecommendRequest(name, {"customer": "ada"})


def logged(stall: Any) -> list[str]:
    with stall.store.read() as txn:
        return [prediction.request_id for prediction in read_predictions(txn)]


def within(work: Any) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(A_WHILE_S):
            await work()

    asyncio.run(bounded())


async def until(what: Callable[[], bool]) -> None:
    while not what():
        await asyncio.sleep(0.001)


def test_the_loop_goes_on_and_nothing_is_given_before_its_commit(stall: Any, gated: Gated) -> None:
    pending = stall.service.pending

    async def work() -> None:
        drafts = [stall.service.draft_recommend(asked(f"r{i}")) for i in range(2)]
        tasks = [asyncio.ensure_future(draft.kept()) for draft in drafts]
        pending.settle_soon()
        await until(gated.begun.is_set)
        for i in range(3):  # the loop makes others meanwhile
            drafts.append(stall.service.draft_recommend(asked(f"s{i}")))
            pending.settle_soon()
            tasks.append(asyncio.ensure_future(drafts[-1].kept()))
            await asyncio.sleep(0)
        assert not any(task.done() for task in tasks)
        assert logged(stall) == []
        assert pending.age_s > 0
        # Who asks again meanwhile waits for the same answer.
        twin = stall.service.draft_recommend(asked("r0"))
        assert twin.repeated
        assert not twin.is_kept
        gated.may_end.set()
        await asyncio.gather(*tasks, twin.kept())

    within(work)
    assert sorted(logged(stall)) == ["r0", "r1", "s0", "s1", "s2"]
    assert gated.commits == 2, "what was made during a commit shares the next"
    assert threading.get_ident() not in gated.threads
    assert pending.age_s == 0
    assert pending.kept_s > 0


def test_settling_waits_for_the_commit_under_way(stall: Any, gated: Gated) -> None:
    pending = stall.service.pending

    async def work() -> None:
        first = stall.service.draft_recommend(asked("first"))
        pending.settle_soon()
        await until(gated.begun.is_set)
        second = stall.service.draft_recommend(asked("second"))
        threading.Timer(0.05, gated.may_end.set).start()
        pending.settle()
        assert first.is_kept
        assert second.is_kept
        assert sorted(logged(stall)) == ["first", "second"]
        await asyncio.sleep(0.01)  # what the thread has to say is old by now
        third = stall.service.draft_recommend(asked("third"))
        pending.settle_soon()
        await third.kept()

    within(work)


def test_who_waits_for_the_thread_goes_on_before_the_next_commit(stall: Any, gated: Gated) -> None:
    pending = stall.service.pending

    async def job() -> int:
        await pending.idle()
        return gated.commits

    async def work() -> None:
        stall.service.draft_recommend(asked("r"))
        idle = asyncio.ensure_future(job())
        await until(gated.begun.is_set)
        assert not idle.done()
        last = stall.service.draft_recommend(asked("s"))
        gated.may_end.set()
        assert await idle == 1
        pending.settle_soon()
        await last.kept()
        await pending.idle()

    within(work)


def test_what_cannot_be_written_harms_no_other_on_the_thread(stall: Any, gated: Gated) -> None:
    gated.may_end.set()

    async def work() -> None:
        drafts = [stall.service.draft_recommend(asked(f"r{i}")) for i in range(3)]
        drafts[1].prediction.t_us = -1  # no key has such an instant
        stall.service.pending.settle_soon()
        await until(lambda: all(d.is_kept or d.error for d in drafts))
        assert [draft.is_kept for draft in drafts] == [True, False, True]

    within(work)
    assert sorted(logged(stall)) == ["r0", "r2"]


def test_closing_finishes_what_is_under_way(stall: Any, gated: Gated) -> None:
    async def work() -> None:
        stall.service.draft_recommend(asked("r"))
        stall.service.pending.settle_soon()
        await until(gated.begun.is_set)

    within(work)  # the loop ends before the commit does
    draft = stall.service.draft_recommend(asked("s"))
    gated.may_end.set()
    stall.service.close()
    assert draft.is_kept
    assert sorted(logged(stall)) == ["r", "s"]


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=6))
def test_every_answer_is_on_disk_when_it_is_given(
    tmp_path_factory: pytest.TempPathFactory, anew: Callable[[], sf.System], groups: list[int]
) -> None:
    """Clients in groups, on a real disk: what a client has heard is in the log at that moment."""
    folder = tmp_path_factory.mktemp("beside")
    store = LmdbStore(folder / "store")
    service = Service(anew(), store, Registry(folder / "registry"), SystemClock())
    service.pending.write_beside()
    app = App(Site(service, None, False), Guard(Tokens("token"), {"predict"}))

    async def client(http: httpx.AsyncClient, group: int, n: int) -> None:
        await asyncio.sleep(0.001 * group)
        name = f"r{group}-{n}"
        body = {"request_id": name, "keys": {"customer": f"c{n}"}}
        assert (await http.post("/v1/recommend", json=body)).status_code == 200
        with store.read() as txn:
            assert name in {found.request_id for found in read_predictions(txn)}

    async def work() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://stall") as http:
            await asyncio.gather(
                *(client(http, g, n) for g, size in enumerate(groups) for n in range(size))
            )

    try:
        within(work)
        with store.read() as txn:
            assert len(list(read_predictions(txn))) == sum(groups)
    finally:
        service.close()
        store.close()


def test_work_is_told_of_whatever_happens_and_in_its_order() -> None:
    beside, told = Beside("test"), []

    def fails(begun: Callable[[], None]) -> None:
        begun()

    works = [Work(fails, lambda n=n: told.append(n)) for n in range(5)]  # type: ignore[misc]
    for work in works:
        beside.give(work)
    works[-1].wait()
    beside.close()
    beside.close()
    assert told == list(range(5))


def test_work_that_nobody_awaits_is_given_without_waiting_for_it() -> None:
    given = threading.Event()
    awaited: list[Work] = []
    begun: list[bool] = []

    class Watched(Work):
        def wait_begun(self) -> None:
            awaited.append(self)

    def waits(_: Callable[[], None]) -> None:
        begun.append(given.wait(A_WHILE_S))

    other, unawaited = Beside("test"), Beside("test", awaited=False)
    works = [Watched(waits, lambda: None) for _ in range(2)]
    for beside, work in zip((other, unawaited), works, strict=True):
        beside.give(work)
    assert awaited == works[:1]
    given.set()
    other.close()
    unawaited.close()
    assert begun == [True, True]


def test_a_system_answers_the_same_with_and_without_the_thread(
    make_stall: Callable[..., Any], anew: Callable[[], sf.System]
) -> None:
    answers = []
    for is_beside in (False, True):
        stall = make_stall()
        if is_beside:
            stall.service.pending.write_beside()
        body = {"request_id": f"r{is_beside}", "keys": {"customer": "ada"}}
        answers.append(stall.post("/v1/recommend", body).json()["items"])
        stall.service.close()
    assert answers[0] == answers[1]
