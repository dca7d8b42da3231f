"""A thread that waits for the disk without the interpreter: it tells what became of each wait, and ends."""

import os
import resource
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sevenfold.stores import syncing
from sevenfold.stores.syncing import Syncing


@pytest.fixture(params=[True, False], ids=["native", "plain"])
def native(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(syncing, "_IS_NATIVE", request.param and syncing._IS_NATIVE)
    return bool(request.param)


@pytest.fixture
def handle(tmp_path: Path) -> Iterator[int]:
    found = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield found
    os.close(found)


def test_each_wait_is_told_once(native: bool, handle: int) -> None:
    waits = Syncing(handle)
    for n in range(20):
        os.pwrite(handle, b"x", n)
        waits.begin()
        assert select.select([waits.told], [], [], 20)[0]
        assert waits.end()
        assert not waits.end()
    waits.begin()
    assert waits.end(wait=True)
    waits.close()


def test_a_wait_that_failed_says_so_and_the_next_is_another(native: bool) -> None:
    pipe = os.pipe()
    waits = Syncing(pipe[0])
    for _ in range(3):
        waits.begin()
        with pytest.raises(OSError, match="on disk"):
            waits.end(wait=True)
    waits.close()
    for each in pipe:
        os.close(each)


def test_it_waits_beside_more_files_than_select_takes(native: bool, handle: int) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most < 2_000:
        pytest.skip("no more than so many files here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    others = [os.dup(handle) for _ in range(1_100)]
    try:
        waits = Syncing(handle)
        assert waits.told > 1_024
        waits.begin()
        assert waits.end(wait=True)
        waits.close()
    finally:
        for other in others:
            os.close(other)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_nothing_is_left_when_it_is_closed(native: bool, handle: int) -> None:
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(5):
        waits = Syncing(handle)
        waits.begin()
        waits.close()
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before


@pytest.mark.skipif(not syncing._IS_NATIVE, reason="no machine code here")
def test_it_needs_no_lock_of_the_interpreter(handle: int) -> None:
    """Beside a loop that keeps the lock the wait ends all the same."""
    waits = Syncing(handle)
    waits.begin()
    waits.end(wait=True)
    before = sys.getswitchinterval()
    sys.setswitchinterval(60)
    try:
        waits.begin()
        until_s = time.monotonic() + 2
        while time.monotonic() < until_s:
            pass
        assert waits.end()
    finally:
        sys.setswitchinterval(before)
        waits.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="no such class")
@pytest.mark.parametrize("may", [True, False])
def test_it_goes_first_where_it_computes_nothing_and_may(
    native: bool, handle: int, may: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []  # what was asked for, by which thread
    order: list[bool] = []  # whether the loop was compiled by then

    def go_first() -> bool:
        asked.append(("first", threading.get_native_id()))
        order.append(bool(syncing._serve.signatures))
        return may

    def ask_for_turns(_: float) -> bool:
        asked.append(("turns", threading.get_native_id()))
        return True

    monkeypatch.setattr(syncing, "go_first", go_first)
    monkeypatch.setattr(syncing, "ask_for_turns", ask_for_turns)
    waits = Syncing(handle)
    waits.begin()
    assert waits.end(wait=True)
    waits.close()
    is_native = syncing._IS_NATIVE
    wanted = ["first"] * is_native + ["turns"] * (not (is_native and may))
    assert [what for what, _ in asked] == wanted
    assert threading.get_native_id() not in {thread for _, thread in asked}
    assert all(order)


def test_signals_are_left_to_others(native: bool, handle: int) -> None:
    heard = []
    before = signal.signal(signal.SIGUSR1, lambda *_: heard.append(1))
    waits = Syncing(handle)
    try:
        for n in range(50):
            waits.begin()
            os.kill(os.getpid(), signal.SIGUSR1)
            assert waits.end(wait=True)
            assert len(heard) == n + 1
    finally:
        signal.signal(signal.SIGUSR1, before)
        waits.close()
