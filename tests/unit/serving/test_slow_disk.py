"""A disk that is slow: what is made and not on disk is bounded, nothing is given before it is there, and it passes."""

import asyncio
import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from sevenfold.clock import elapsed_s
from sevenfold.serving.pending import Pending
from sevenfold.serving.prediction_log import is_answered, read_predictions
from sevenfold.serving.request import RecommendRequest

CLIENTS, EACH = 12, 4


class Slow:
    """A store whose commits take their time."""

    def __init__(self, store: Any, seconds: float) -> None:
        self.store, self.seconds, self.commits = store, seconds, 0

    @contextmanager
    def write(self) -> Iterator[Any]:
        """A write that is on disk when its time is over, and not before."""
        time.sleep(self.seconds)
        with self.store.write() as txn:
            yield txn
        self.commits += 1


def test_no_more_than_so_many_answers_are_made_and_not_on_disk(stall: Any) -> None:
    slow = Slow(stall.store, 0.0)
    stall.service.pending = Pending(slow, math.inf, most=3)  # type: ignore[arg-type]
    drafts = [
        stall.service.draft_recommend(RecommendRequest(f"r{n}", {"customer": "ada"}))
        for n in range(8)
    ]
    assert [draft.is_kept for draft in drafts] == [True] * 6 + [False] * 2
    assert slow.commits == 2
    stall.service.close()


def test_on_a_slow_disk_nothing_is_given_that_is_not_logged(stall: Any) -> None:
    """Twelve clients at once: each is answered from the log, or told when to come back; then the disk is well again."""
    slow = Slow(stall.store, 0.15)
    stall.service.pending._store = slow
    stall.app.site.gate.use(1.0, stall.service.ladder)
    refused: list[str] = []

    async def client(http: httpx.AsyncClient, n: int) -> None:
        for m in range(EACH):
            name = f"r{n}-{m}"
            body = {"request_id": name, "keys": {"customer": "ada"}}
            answer = await http.post("/v1/recommend", json=body)
            with stall.store.read() as txn:
                if answer.status_code == 200:
                    assert is_answered(txn, name)
                    continue
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) >= 1
            refused.append(name)

    async def all_of_them() -> None:
        transport = httpx.ASGITransport(stall.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://stall") as http:
            await asyncio.gather(*(client(http, n) for n in range(CLIENTS)))

    asyncio.run(all_of_them())
    assert 0 < slow.commits < CLIENTS * EACH, "commits are shared"
    slow.seconds = 0.0
    until_s = elapsed_s() + 60
    for name in refused:
        body = {"request_id": name, "keys": {"customer": "ada"}}
        while stall.post("/v1/recommend", body).status_code != 200:
            assert elapsed_s() < until_s, "a minute after the disk is well, answers are refused"
            time.sleep(0.05)
    with stall.store.read() as txn:
        names = [answer.request_id for answer in read_predictions(txn)]
    assert sorted(names) == sorted(f"r{n}-{m}" for n in range(CLIENTS) for m in range(EACH))


class Stuck:
    """A store whose writes do not begin before they may."""

    def __init__(self, store: Any) -> None:
        self.store, self.may = store, threading.Event()

    @contextmanager
    def write(self) -> Iterator[Any]:
        """A write that waits until it may begin."""
        assert self.may.wait(120), "nobody let it begin"
        with self.store.write() as txn:
            yield txn


def test_a_disk_that_hangs_leaves_nobody_without_a_word(stall: Any) -> None:
    """Who waits for a turn, and whose answer is made and not on disk, hears when to come back; by the same id the answer is that one."""
    stuck = Stuck(stall.store)
    pending = stall.service.pending
    pending.write_beside()
    pending._store = stuck
    stall.app.site.gate.use(1.0, stall.service.ladder)

    async def scene() -> None:
        transport = httpx.ASGITransport(stall.app)
        async with (
            asyncio.timeout(100),
            httpx.AsyncClient(transport=transport, base_url="http://stall") as http,
        ):

            def ask(name: str) -> asyncio.Task[httpx.Response]:
                body = {"request_id": name, "keys": {"customer": "ada"}}
                return asyncio.create_task(http.post("/v1/recommend", json=body))

            made = ask("made")
            while not stall.app.site.gate._is_held():  # it has waited for the disk for long
                await asyncio.sleep(0.01)
            answers = [await made, await ask("held")]
            assert not stuck.may.is_set()
            told = [(answer.status_code, answer.json()["error"]["code"]) for answer in answers]
            assert told == [(503, "unkept"), (503, "late")]
            assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers)
            stuck.may.set()
            await pending.idle()
            again = await ask("made")
            assert (again.status_code, again.json()["repeated"]) == (200, True)

    try:
        asyncio.run(scene())
    finally:
        stuck.may.set()
    with stall.store.read() as txn:
        assert [answer.request_id for answer in read_predictions(txn)] == ["made"]
    stall.service.close()
