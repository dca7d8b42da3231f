"""Answers put aside: given when they are on disk, found until they are in the tables, and in the tables soon."""

import asyncio
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import sevenfold as sf
from sevenfold.clock import SystemClock
from sevenfold.errors import StoreError, StoreFullError
from sevenfold.registry.registry import Registry
from sevenfold.serving.pending import Draft
from sevenfold.serving.prediction_log import feature_names, find_prediction, read_predictions
from sevenfold.serving.request import RecommendRequest
from sevenfold.serving.service import Service
from sevenfold.stores.kv import Aside, Entry
from sevenfold.stores.lmdb import LmdbStore
from sevenfold.stores.log import frontier_us, last_known_us
from sevenfold.stores.syncing import Syncing

A_WHILE_S = 20


class Watched:
    """A store that says who wrote, and fails while it is told to."""

    def __init__(self, store: LmdbStore) -> None:
        self.store = store
        self.read = store.read
        self.close = store.close
        self.error: StoreError | None = None
        self.writers: list[int] = []

    @contextmanager
    def write(self) -> Iterator[Any]:
        self.writers.append(threading.get_ident())
        if self.error is not None:
            raise self.error
        with self.store.write() as txn:
            yield txn

    def aside(self) -> Aside | None:
        return self.store.aside()


class Home:
    """A service on a real disk that puts aside."""

    def __init__(self, folder: Path, system: sf.System) -> None:
        self.store = Watched(LmdbStore(folder / "store"))
        registry = Registry(folder / "registry")
        self.service = Service(system, self.store, registry, SystemClock())
        aside = self.store.aside()
        assert aside is not None
        self.aside = aside
        self.service.pending.write_beside(aside)
        self.store.writers.clear()

    def asked(self, name: str) -> Draft:
        return self.service.draft_recommend(RecommendRequest(name, {"customer": "ada"}))

    def logged(self) -> set[str]:
        with self.store.read() as txn:
            return {prediction.request_id for prediction in read_predictions(txn)}

    async def given(self, name: str) -> Draft:
        draft = self.asked(name)
        self.service.pending.settle_soon()
        await draft.kept()
        return draft

    async def moved(self, *names: str) -> None:
        while not self.logged() >= set(names):
            await asyncio.sleep(0.005)


@pytest.fixture
def home(tmp_path: Path, anew: Callable[[], sf.System]) -> Iterator[Home]:
    found = Home(tmp_path, anew())
    yield found
    found.store.error = None
    found.service.close()
    found.store.close()


def within(work: Any) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(A_WHILE_S):
            await work()

    asyncio.run(bounded())


def test_an_answer_is_given_before_it_is_in_the_tables_and_found_all_the_while(home: Home) -> None:
    async def work() -> None:
        draft = await home.given("r")
        assert home.store.writers == []
        assert home.logged() == set()
        again = home.asked("r")
        assert again.repeated
        assert again.prediction is draft.prediction
        await home.moved("r")
        await asyncio.sleep(0.05)
        assert home.service.pending.find("r") is None
        again = home.asked("r")
        assert again.repeated
        assert again.prediction.t_us == draft.prediction.t_us
        assert again.prediction.slate() == draft.prediction.slate()

    within(work)
    assert home.store.writers
    assert threading.get_ident() not in home.store.writers
    with home.store.read() as txn:
        found = find_prediction(txn, "r")
        assert found is not None
        assert len(feature_names(txn, found.features)) > 0
        assert frontier_us(txn) == found.t_us


def test_an_event_that_comes_next_becomes_known_after_it(
    home: Home, sale: Callable[..., dict[str, Any]]
) -> None:
    async def work() -> None:
        draft = await home.given("r")
        home.service.accept("sales", [sale("m1", "a")], None)
        with home.store.read() as txn:  # whoever writes begins with what is aside
            assert find_prediction(txn, "r") is not None
            assert last_known_us(txn) >= draft.prediction.t_us

    within(work)


def test_without_waiting_for_the_disk_it_is_given_at_once_and_in_the_tables_soon(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    really = os.fdatasync
    monkeypatch.setattr("os.fdatasync", lambda handle: (synced.append(handle), really(handle)))
    home.service.pending.write_beside(home.aside, sync=False)

    async def work() -> None:
        draft = home.asked("r")
        home.service.pending.settle_soon()
        await asyncio.sleep(0)
        assert draft.is_kept
        assert synced == []
        assert home.asked("r").repeated
        await home.moved("r")

    within(work)
    assert len(synced) == 1, "on disk before the tables are"


def test_settling_waits_for_what_is_on_its_way_to_the_disk(home: Home, no_disk: Syncing) -> None:
    async def work() -> None:
        for name, fails in (("r", False), ("s", True)):
            draft = home.asked(name)
            if fails:
                really, home.aside._syncing = home.aside._syncing, no_disk  # type: ignore[attr-defined]
            home.service.pending.settle_soon()
            await asyncio.sleep(0)
            assert not draft.is_kept
            home.service.pending.settle()
            assert draft.is_kept
        home.aside._syncing = really  # type: ignore[attr-defined]
        await asyncio.sleep(0.01)  # nobody is told of it a second time
        assert home.logged() >= {"s"}

    within(work)
    home.service.pending.settle()
    assert home.logged() == {"r", "s"}


def test_settling_has_all_in_the_tables(home: Home) -> None:
    async def work() -> None:
        await home.given("r")
        home.service.pending.settle()
        assert home.logged() == {"r"}
        home.asked("s")
        await home.given("t")
        home.asked("u")
        home.service.pending.settle()
        assert home.logged() == {"r", "s", "t", "u"}

    within(work)


def test_where_there_is_no_room_they_are_committed(home: Home) -> None:
    def no_room(_: Sequence[Entry]) -> int | None:
        return None

    home.aside.append = no_room  # type: ignore[method-assign]

    async def work() -> None:
        await home.given("r")
        assert home.logged() == {"r"}

    within(work)


@pytest.fixture
def no_disk() -> Iterator[Syncing]:
    """A wait for a file that is on no disk, which fails."""
    pipe = os.pipe()
    waits = Syncing(pipe[0])
    yield waits
    waits.close()
    for handle in pipe:
        os.close(handle)


def test_where_the_disk_fails_they_are_committed(home: Home, no_disk: Syncing) -> None:
    async def work() -> None:
        await home.given("q")
        really, home.aside._syncing = home.aside._syncing, no_disk  # type: ignore[attr-defined]
        await home.given("r")
        home.aside._syncing = really  # type: ignore[attr-defined]
        assert home.logged() == {"q", "r"}
        await home.given("s")
        assert home.logged() == {"q", "r", "s"}, "nothing is put aside any more"

    within(work)


def test_where_nothing_can_be_put_aside_each_is_told_by_the_commit(home: Home) -> None:
    async def work() -> None:
        drafts = [home.asked(f"r{i}") for i in range(3)]
        drafts[1].prediction.t_us = -1  # no key has such an instant
        home.service.pending.settle_soon()
        while not all(d.is_kept or d.error for d in drafts):
            await asyncio.sleep(0.005)
        assert [draft.is_kept for draft in drafts] == [True, False, True]

    within(work)
    assert home.logged() == {"r0", "r2"}


def test_what_cannot_be_moved_stays_and_blocks_until_it_can(home: Home) -> None:
    async def work() -> None:
        home.store.error = StoreFullError("full")
        await home.given("r")
        while home.service.pending.blocked.error is None:
            await asyncio.sleep(0.005)
        with pytest.raises(StoreError, match="full"):
            home.asked("s")
        assert home.asked("r").repeated, "what was promised is known"
        home.store.error = None
        await home.moved("r")
        while home.service.pending.blocked.error is not None:
            await asyncio.sleep(0.005)
        await home.given("t")
        await home.moved("r", "t")

    within(work)


def test_closing_leaves_nothing_aside(tmp_path: Path, anew: Callable[[], sf.System]) -> None:
    home = Home(tmp_path, anew())

    async def work() -> None:
        await home.given("r")
        home.asked("s")

    within(work)
    home.service.close()
    assert home.logged() == {"r", "s"}
    home.store.close()
    assert not (tmp_path / "store" / "aside").exists()
