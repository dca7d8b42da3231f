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
from sevenfold.serving.prediction_log import (
    feature_names,
    find_prediction,
    prediction_key,
    read_predictions,
)
from sevenfold.serving.request import RecommendRequest
from sevenfold.serving.service import Service
from sevenfold.stores.kv import Aside, Entry
from sevenfold.stores.lmdb import LmdbStore
from sevenfold.stores.log import frontier_us, last_known_us
from sevenfold.stores.syncing import Syncing
from sevenfold.stores.tables import PREDICTIONS, REQUESTS

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


class Waits(Syncing):
    """A wait for a file that is on no disk, which fails."""

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self.pipe = os.pipe()
        self.then = then
        super().__init__(self.pipe[0])

    def end(self, wait: bool = False) -> bool:
        try:
            return super().end(wait)
        except OSError:
            self.then()
            raise

    def close(self) -> None:
        super().close()
        for handle in self.pipe:
            os.close(handle)


class Disk:
    """A disk that fails while it is told to: nobody can read back what it has lost."""

    def __init__(self, home: Home, patched: pytest.MonkeyPatch, loses: bool) -> None:
        self.home, self.loses, self.fails = home, loses, True
        self.synced = 0
        self.begin = home.aside.begin_sync
        patched.setattr("os.fdatasync", self.sync)
        patched.setattr(home.aside, "begin_sync", self.begin_sync)

    def sync(self, handle: int) -> None:
        self.synced += 1
        if self.fails:
            self.lose()
            raise OSError(5, "input/output error")

    def begin_sync(self) -> int:
        aside: Any = self.home.aside
        if self.fails:
            aside._syncing.close()
            aside._syncing = Waits(self.lose)
        return self.begin()

    def lose(self) -> None:
        if self.loses:
            path = self.home.store.store.path / "aside"
            path.write_bytes(bytes(path.stat().st_size))


@pytest.fixture(params=[False, True], ids=["read back", "lost"])
def disk(home: Home, request: pytest.FixtureRequest) -> Iterator[Disk]:
    with pytest.MonkeyPatch.context() as patched:
        yield Disk(home, patched, request.param)


def told_once(home: Home, *names: str) -> None:
    """Each is in the tables, with the list of features that it names, and no other."""
    with home.store.read() as txn:
        found = list(read_predictions(txn))
        assert sorted(one.request_id for one in found) == sorted(names)
        assert all(feature_names(txn, one.features) for one in found)


def test_where_nobody_waits_and_the_disk_fails_what_was_given_is_moved_all_the_same(
    home: Home, disk: Disk
) -> None:
    home.service.pending.write_beside(home.aside, sync=False)

    async def work() -> None:
        drafts = [home.asked(f"r{i}") for i in range(3)]
        home.service.pending.settle_soon()
        await asyncio.sleep(0)
        assert all(draft.is_kept for draft in drafts)
        await home.moved("r0", "r1", "r2")
        while home.service.pending.find("r0") is not None:
            await asyncio.sleep(0.005)
        assert home.service.pending.blocked.error is None
        assert home.asked("r1").repeated
        await home.given("s")
        assert "s" in home.logged(), "it is committed: nothing is put aside any more"

    within(work)
    assert disk.synced == 1, "a disk that has lost something is not asked whether all is well"
    home.service.close()
    told_once(home, "r0", "r1", "r2", "s")


def test_where_somebody_waits_and_the_disk_fails_each_is_told_by_the_commit(
    home: Home, disk: Disk
) -> None:
    """Those before, that were on disk, are moved too; and where the tables cannot be written either, nobody is told that an answer is kept."""

    async def work() -> None:
        disk.fails = False
        await home.given("before")
        disk.fails = True
        draft = home.asked("r")
        home.service.pending.settle_soon()
        home.store.error = StoreFullError("full")  # it is put aside before anybody has met that
        with pytest.raises(StoreError, match="full"):
            await draft.kept()
        with pytest.raises(StoreError, match="full"):  # and not for ever
            await home.given("r")
        assert home.asked("before").repeated
        home.store.error = None
        await home.moved("before", "r")
        while home.service.pending.blocked.error is not None:
            await asyncio.sleep(0.005)
        while home.service.pending.find("r") is not None:
            await asyncio.sleep(0.005)
        again = await home.given("r")
        assert again.repeated
        await home.given("s")

    within(work)
    home.service.close()
    told_once(home, "before", "r", "s")


def test_what_has_left_the_tables_is_not_written_again_from_memory(home: Home, disk: Disk) -> None:
    """Whoever writes between the failure and the move begins with what is aside, and may then delete it."""
    home.service.pending.write_beside(home.aside, sync=False)
    laid = home.service.pending._aside
    assert laid is not None
    disk.fails = False

    async def work() -> None:
        drafts = [home.asked("r0"), home.asked("r1")]
        home.service.pending.settle_soon()
        await asyncio.sleep(0)
        assert all(draft.is_kept for draft in drafts)
        waiting = laid._waiting()
        with home.store.write() as txn:
            gone = drafts[0].prediction
            txn.delete(PREDICTIONS, prediction_key(gone.t_us, gone.request_id))
            txn.delete(REQUESTS, prediction_key(gone.t_us, gone.request_id)[8:])
        disk.fails = True
        assert laid._written(waiting) == waiting[-1][0]

    within(work)
    told_once(home, "r1")


def test_what_is_read_back_again_later_is_not_put_there_twice(home: Home, disk: Disk) -> None:
    """Such as by the next server, when the disk is well again."""
    home.service.pending.write_beside(home.aside, sync=False)
    path = home.store.store.path / "aside"
    found: list[bytes] = []

    async def work() -> None:
        home.asked("r")
        home.service.pending.settle_soon()
        found.append(path.read_bytes())
        await home.moved("r")

    within(work)
    with home.store.write() as txn:
        for table in (PREDICTIONS, REQUESTS):
            for key, _ in list(txn.scan(table)):
                txn.delete(table, key)
    path.write_bytes(found[0])
    with home.store.write():
        pass
    told_once(home)


def test_settling_waits_for_what_is_on_its_way_to_the_disk(home: Home, disk: Disk) -> None:
    async def work() -> None:
        for name, fails in (("r", False), ("s", True)):
            draft = home.asked(name)
            disk.fails = fails
            home.service.pending.settle_soon()
            await asyncio.sleep(0)
            assert not draft.is_kept
            home.service.pending.settle()
            assert draft.is_kept
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
