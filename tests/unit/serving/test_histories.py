"""The server's job that has histories kept: by a process of its own, which ends with it."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sevenfold as sf
from sevenfold.clock import elapsed_s
from sevenfold.errors import StoreError
from sevenfold.features.plan import compile_plan
from sevenfold.serving.background import Background
from sevenfold.serving.histories import Keeping, wanted_keys
from sevenfold.stores import history
from sevenfold.stores.history import History, Kept
from sevenfold.stores.kv import Store, Transaction
from sevenfold.stores.lmdb import LmdbStore
from sevenfold.stores.log import append, note_rewrite, position
from sevenfold.types import EventBatch, Texts

pytestmark = pytest.mark.timeout(300)
HEAD = 100
user, item = sf.Entity("user"), sf.Entity("item")
stream = sf.Stream("views", time="at", keys=[user, item], fields={"x": sf.Number()})
BY_USER = compile_plan([sf.aggregate(user, stream, sf.count(), name="of_user")])
BY_BOTH = compile_plan(
    [
        sf.aggregate(user, stream, sf.count(), name="of_user"),
        sf.aggregate([user, item], stream, sf.count(), name="of_both"),
    ]
)


def log(store: Store, n: int) -> int:
    with store.write() as txn:
        begin = position(txn)
        us = np.arange(begin, begin + n, dtype=np.int64)
        names = [f"u{i % 9}" for i in us.tolist()]
        ids = Texts.of([str(i) for i in us.tolist()])
        keys = {"user": Texts.of(names), "item": Texts.of(names)}
        return append(txn, EventBatch("views", us, us, ids, keys, {"x": us.astype(np.float64)}))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LmdbStore]:
    store = LmdbStore(tmp_path / "store", map_bytes=1 << 26)
    yield store
    store.close()


@pytest.fixture
def held() -> list[bool]:
    return [False]


@pytest.fixture
def keeping(tmp_path: Path, store: LmdbStore, root: Path, held: list[bool]) -> Iterator[Keeping]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(root / "src"))
        url, folder = f"lmdb:{tmp_path / 'store'}", tmp_path / "history"
        keeping = Keeping(store, url, folder, HEAD, lambda: held[0])
        keeping.use(BY_USER)
        try:
            yield keeping
        finally:
            keeping.close()


def until(keeping: Keeping, store: Store, reached: Callable[[Kept], bool]) -> Kept:
    """Work as the server does until that is so."""
    deadline = elapsed_s() + 200
    kept_there = History(keeping.folder, wanted_keys(BY_USER))
    while elapsed_s() < deadline:
        keeping.step()
        with store.read() as txn:
            kept = kept_there.kept(txn)
        if reached(kept):
            return kept
        time.sleep(0.05)
    pytest.fail(f"it never came: {kept}")


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_few_events_are_left_where_they_are(keeping: Keeping, store: LmdbStore) -> None:
    log(store, HEAD - 1)
    assert not keeping.step()
    assert keeping.pid == 0
    assert not keeping.folder.exists()


def test_a_look_at_what_is_kept_decodes_no_block_twice(
    keeping: Keeping, store: LmdbStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    log(store, 3 * HEAD)
    until(keeping, store, lambda kept: kept.behind < HEAD)
    asked: list[str] = []
    plain = history.blocks

    def counted(txn: Transaction, stream: str, start: int, stop: int) -> Any:
        asked.append(stream)
        return plain(txn, stream, start, stop)

    monkeypatch.setattr(history, "blocks", counted)
    looks = []
    while len(looks) < 3:
        asked.clear()
        keeping.look_again()
        keeping.step()
        if not keeping.running():
            looks.append(len(asked))
    assert keeping.kept().segments > 0
    assert looks[1:] == [0, 0]


def test_events_are_kept_as_they_arrive_and_what_is_damaged_is_made_again(
    keeping: Keeping, store: LmdbStore
) -> None:
    end = log(store, 3 * HEAD)
    kept = until(keeping, store, lambda kept: kept.behind < HEAD)
    assert kept.events == end
    pid = keeping.pid
    assert pid
    end = log(store, 2 * HEAD)
    until(keeping, store, lambda kept: kept.behind == 0 and kept.segments == 1)
    assert keeping.pid == pid  # the same process, while there is work every few seconds
    keeping.close()
    assert not alive(pid)
    assert keeping.pid == 0
    next(keeping.folder.glob("*/*/*/hashes")).unlink()
    keeping.look_again()
    until(keeping, store, lambda kept: kept.behind == 0)
    assert keeping.pid != pid
    log(store, 5)
    assert keeping.kept().behind >= 5


def test_a_flipped_bit_is_found_when_the_server_starts(keeping: Keeping, store: LmdbStore) -> None:
    log(store, 3 * HEAD)
    until(keeping, store, lambda kept: kept.behind == 0)
    keeping.close()
    file = next(keeping.folder.glob("*/*/*/field.x"))
    whole = file.read_bytes()
    raw = bytearray(whole)
    raw[77] ^= 1
    file.write_bytes(raw)
    keeping.use(BY_USER)

    def made_again(kept: Kept) -> bool:
        if kept.behind:
            return False  # files come and go
        return [one.read_bytes() for one in keeping.folder.glob("*/*/*/field.x")] == [whole]

    until(keeping, store, made_again)
    assert History(keeping.folder, {}).discard_damaged() == []


def test_a_rewritten_log_voids_what_was_made_of_it(
    keeping: Keeping, store: LmdbStore, held: list[bool]
) -> None:
    log(store, 3 * HEAD)
    until(keeping, store, lambda kept: kept.behind == 0)
    pid = keeping.pid
    held[0] = True  # while an entity is being forgotten
    with store.write() as txn:
        note_rewrite(txn)
    assert keeping.kept().behind == 3 * HEAD  # at once, and not when it is next looked at
    keeping.look_again()
    keeping.step()
    assert not alive(pid)
    keeping.look_again()
    keeping.step()
    assert keeping.pid == 0
    with store.read() as txn:
        assert History(keeping.folder, wanted_keys(BY_USER)).kept(txn).is_void
    held[0] = False
    kept = until(keeping, store, lambda kept: kept.behind == 0)
    assert not kept.is_void


def test_a_change_has_other_keys_kept(keeping: Keeping, store: LmdbStore) -> None:
    log(store, 3 * HEAD)
    keeping.use(BY_BOTH)
    history = History(keeping.folder, wanted_keys(BY_BOTH))

    def both(_: Kept) -> bool:
        with store.read() as txn:
            return history.kept(txn).behind == 0

    until(keeping, store, both)
    keeping.use(BY_USER)
    until(keeping, store, lambda _: not list(keeping.folder.glob("*/user+item")))


def test_killed_at_any_moment_it_is_begun_again(keeping: Keeping, store: LmdbStore) -> None:
    moments = np.random.default_rng(3)
    history = History(keeping.folder, wanted_keys(BY_USER))
    for _ in range(4):
        end = log(store, 20 * HEAD)
        deadline = elapsed_s() + 60
        while not keeping.pid and elapsed_s() < deadline:
            keeping.look_again()
            keeping.step()
        time.sleep(float(moments.uniform(0.5, 1.5)))
        pid = keeping.pid
        if pid:
            os.kill(pid, signal.SIGKILL)
            while keeping.running() and elapsed_s() < deadline:
                time.sleep(0.01)
            with pytest.raises(StoreError, match="ended with -9"):
                keeping.look_after()
        found = history.at(store)["views"]
        segments, head = found.of(("user",))
        for segment in segments:
            segment.verify()
        assert sum(map(len, segments)) + (0 if head is None else len(head)) == end
    keeping.look_again()
    until(keeping, store, lambda kept: kept.behind < HEAD)


def test_a_process_that_fails_is_told_and_tried_again_later(
    keeping: Keeping, store: LmdbStore
) -> None:
    log(store, 3 * HEAD)
    keeping.folder.write_text("a file where the folder should be")
    notes: list[tuple[str, bool]] = []
    background = Background([keeping], lambda name, _, failed: notes.append((name, failed)))
    deadline = elapsed_s() + 60
    while ("history", True) not in notes and elapsed_s() < deadline:
        background.step(keeping)
        time.sleep(0.05)
    assert ("history", True) in notes
    keeping.folder.unlink()
    assert not keeping.step()  # not at once
    keeping.look_again()
    until(keeping, store, lambda kept: kept.behind == 0)


def is_at_leisure(pid: int) -> bool:
    return os.sched_getscheduler(pid) == os.SCHED_IDLE


def begun(keeping: Keeping) -> int:
    """The process after a step of the job, 0 where it has begun none."""
    keeping.look_again()
    keeping.step()
    return keeping.pid


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="no such class")
def test_the_process_is_at_leisure_and_ended_under_pressure_until_far_behind(
    keeping: Keeping, store: LmdbStore
) -> None:
    pressed = [True]
    keeping.pressed = lambda: pressed[0]
    log(store, 3 * HEAD)
    assert not begun(keeping)
    pressed[0] = False
    pid = begun(keeping)
    assert is_at_leisure(pid)
    pressed[0] = True
    assert not begun(keeping)
    assert not alive(pid)
    log(store, 8 * HEAD)
    late = begun(keeping)
    assert not is_at_leisure(late), "or it would have nothing of the processor"
    assert begun(keeping) == late
    until(keeping, store, lambda kept: kept.behind < HEAD)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="no such class")
def test_a_process_at_leisure_that_comes_to_nothing_is_ended_for_one_that_does(
    keeping: Keeping, store: LmdbStore
) -> None:
    log(store, 3 * HEAD)
    pid = begun(keeping)
    assert is_at_leisure(pid)
    os.kill(pid, signal.SIGSTOP)  # as one that never has the processor
    assert begun(keeping) == pid
    keeping._came_s -= 60
    assert not begun(keeping)
    assert not alive(pid)
    other = begun(keeping)
    assert not is_at_leisure(other)
    until(keeping, store, lambda kept: kept.behind == 0)
    os.kill(other, signal.SIGKILL)
    while keeping.running():
        time.sleep(0.01)
    with pytest.raises(StoreError, match="ended with -9"):
        keeping.look_after()
    log(store, 3 * HEAD)
    assert is_at_leisure(begun(keeping)), "the next has another try"


def test_nothing_is_kept_without_a_head(store: LmdbStore, tmp_path: Path) -> None:
    keeping = Keeping(store, "lmdb:none", tmp_path / "history", 0, lambda: False)
    keeping.use(BY_USER)
    log(store, 3 * HEAD)
    assert not keeping.step()
    assert keeping.pid == 0
