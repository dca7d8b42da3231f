"""Posts written together: each is told what it would have been told alone, and one at fault harms no other."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import pytest

import sevenfold as sf
from sevenfold.clock import ManualClock
from sevenfold.engines.online import OnlineEngine
from sevenfold.errors import NotFoundError
from sevenfold.features.plan import compile_plan
from sevenfold.serving.gathering import Gathering
from sevenfold.serving.ingest import Ingest, IngestResult, Post, read_counts
from sevenfold.stores.clamped import original_us
from sevenfold.stores.log import blocks, position
from sevenfold.stores.open import open_store
from sevenfold.stores.tables import STATE

TOKEN = {"Authorization": "Bearer the-token"}
Sale = Callable[..., dict[str, Any]]


def told(result: IngestResult) -> tuple[Any, ...]:
    return result.events, result.duplicates, result.refused, result.alerts


def logged(stall: Any) -> list[str | None]:
    with stall.store.read() as txn:
        return [name for _, batch in blocks(txn) for name in batch.event_ids.to_list()]


def posts_of(sale: Sale) -> list[Post]:
    """Posts with ids that come twice, in one and in two of them, a row refused, one clamped, and none at all."""
    ahead = 1_700_000_001_500_000
    return [
        Post("sales", [sale("n9", "a"), sale("n1", "b")]),
        Post("sales", [sale("n1", "b"), sale("n2", "c", pieces=0), sale("n3", "c")]),
        Post("sales", []),
        Post("sales", [sale("n4", "a", ahead), sale("n4", "a", ahead), sale("n9", "a")]),
        Post("sales", [sale("n0", "a")]),
    ]


def test_each_post_is_told_what_it_would_be_alone(stall: Any, sale: Sale) -> None:
    posts = posts_of(sale)
    together = stall.service.accept_posts(posts)
    assert [told(one)[:2] for one in together] == [(2, 0), (1, 1), (0, 0), (1, 2), (1, 0)]
    assert [[one.index for one in r.refused] for r in together] == [[], [1], [], [], []]
    assert "$[1].pieces" in together[1].refused[0].message
    # Equal instants are in the order of their ids, whoever brought them.
    assert logged(stall)[6:] == ["n0", "n1", "n3", "n4", "n9"]
    with stall.store.read() as txn:
        assert original_us(txn, "sales", "n4") == 1_700_000_001_500_000
        counts = read_counts(txn, ["sales"])
        assert (counts.events, counts.duplicates, counts.dead_letters) == (11, 3, 1)
        assert {one.position for one in together} == {position(txn)}


def whole_posts_of(sale: Sale) -> list[Post]:
    """The same posts without the row that is refused."""
    posts = posts_of(sale)
    posts[1] = Post("sales", [posts[1].rows[0], posts[1].rows[2]])
    return posts


@pytest.mark.parametrize("made", [posts_of, whole_posts_of])
def test_together_and_alone_leave_the_same_states(
    made: Callable[[Sale], list[Post]], anew: Callable[[], sf.System], sale: Sale
) -> None:
    system = anew()
    plan = compile_plan(system.features)
    states, results = [], []
    for how in ("together", "alone"):
        store = open_store("memory:")
        engine, clock = OnlineEngine(plan), ManualClock(1_700_000_000_000_000)
        ingest = Ingest(store, {stream.name: stream for stream in system.data}, engine, clock)
        if how == "together":
            results.append(ingest.accept_posts(made(sale)))
        else:
            results.append([ingest.accept(one.stream, one.rows) for one in made(sale)])
        with store.read() as txn:
            counts = read_counts(txn, ["sales"])
            states.append((counts, original_us(txn, "sales", "n4"), *txn.scan(STATE)))
    assert states[0] == states[1]
    assert list(map(told, results[0])) == list(map(told, results[1]))


def test_posts_that_wait_share_a_commit_and_one_at_fault_harms_no_other(
    stall: Any, sale: Sale
) -> None:
    sizes: list[int] = []

    def write(posts: Sequence[Post]) -> list[IngestResult]:
        sizes.append(len(posts))
        return stall.service.accept_posts(posts)

    async def all_at_once() -> list[Any]:
        gathering = Gathering(write)
        posts = [Post("sales", [sale(f"x{i}", "a")]) for i in range(20)]
        good = await asyncio.gather(*map(gathering.take, posts))
        assert sizes == [20]
        posts = [Post("sales", [sale(f"y{i}", "a")]) for i in range(3)]
        posts.insert(1, Post("nowhere", [{}]))
        return good + await asyncio.gather(*map(gathering.take, posts), return_exceptions=True)

    outcomes = asyncio.run(all_at_once())
    assert sizes == [20, 4, 1, 1, 1, 1]
    assert isinstance(outcomes.pop(21), NotFoundError)
    assert [told(one)[:2] for one in outcomes] == [(1, 0)] * 23


def test_large_posts_are_not_kept_waiting_for_each_other(stall: Any, sale: Sale) -> None:
    sizes: list[int] = []

    def write(posts: Sequence[Post]) -> list[IngestResult]:
        sizes.append(len(posts))
        return stall.service.accept_posts(posts)

    async def all_at_once() -> None:
        gathering = Gathering(write)
        rows = [sale(f"x{i}", "a") for i in range(15_000)]
        takes = (gathering.take(Post("sales", rows)) for _ in range(3))
        await asyncio.wait_for(asyncio.gather(*takes), 120)

    asyncio.run(all_at_once())
    assert sizes == [2, 1]


def test_who_has_left_is_not_told_and_nothing_is_lost(stall: Any, sale: Sale) -> None:
    async def leave() -> None:
        gathering = Gathering(stall.service.accept_posts)
        posts = [Post("sales", [sale(f"x{i}", "a")]) for i in range(2)]
        tasks = [asyncio.ensure_future(gathering.take(post)) for post in posts]
        await asyncio.sleep(0)
        tasks[0].cancel()
        assert told(await tasks[1])[:2] == (1, 0)

    asyncio.run(leave())
    assert {"x0", "x1"} <= set(logged(stall))


@pytest.mark.parametrize("n", [1, 12])
def test_requests_at_once_are_answered_each_for_itself(stall: Any, sale: Sale, n: int) -> None:
    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(stall.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://stall") as client:
            bodies = [
                {"stream": "sales", "events": [sale("same", "a"), sale(f"own{i}", "a")]}
                for i in range(n)
            ]
            bodies.append({"stream": "nowhere", "event": {}})
            bodies.append({"stream": "sales", "event": {"line": "z"}})
            posted = (client.post("/v1/events", json=body, headers=TOKEN) for body in bodies)
            return list(await asyncio.gather(*posted))

    *answers, lost, refused = asyncio.run(ask())
    assert lost.status_code == 404
    assert refused.json()["refused"][0]["reason"] == "missing_time"
    said = [answer.json() for answer in answers]
    assert sorted(one["events"] for one in said) == [1] * (n - 1) + [2]
    assert sum(one["duplicates"] for one in said) == n - 1
    assert len(logged(stall)) == 6 + n + 1


def test_an_error_of_all_leaves_nothing(stall: Any, sale: Sale) -> None:
    before = logged(stall)
    with pytest.raises(NotFoundError):
        stall.service.accept_posts(
            [Post("sales", [sale("x", "a")]), Post("nowhere", [sale("y", "a")])]
        )
    assert logged(stall) == before
