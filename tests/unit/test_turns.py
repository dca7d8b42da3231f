"""Turns on the processor: asked for where the system has them."""

import ctypes
import os
import platform
import struct
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from sevenfold import turns
from sevenfold.turns import BRIEF_S, LONG_S, ask_for_turns, go_first, take_leisure


def in_a_thread(look: Callable[[], object]) -> None:
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()


def asked_in_a_thread(seconds: float) -> bool:
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(ask_for_turns(seconds)))
    thread.start()
    thread.join()
    return found[0]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="no such call")
def test_it_asks_and_leaves_the_niceness() -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    assert asked_in_a_thread(BRIEF_S)
    assert asked_in_a_thread(LONG_S)
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="no such call")
def test_another_way_that_somebody_chose_is_left() -> None:
    found: list[tuple[bool, int]] = []

    def ask() -> None:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        found.append((ask_for_turns(BRIEF_S), os.sched_getscheduler(0)))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert found == [(False, os.SCHED_BATCH)]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="no such call")
def test_it_asks_for_another_process_unless_that_has_ended() -> None:
    own: list[float | None] = []

    def ask() -> None:
        ask_for_turns(LONG_S)
        own.append(turn_of(0))

    in_a_thread(ask)
    before = turn_of(0)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        assert ask_for_turns(LONG_S, other.pid)
        assert [turn_of(other.pid)] == own
        assert turn_of(0) == before
    assert not ask_for_turns(LONG_S, other.pid)
    assert own in ([LONG_S], [0.0], [None])  # an earlier Linux than 6.12 knows of none


def turn_of(pid: int) -> float | None:
    """How long the turns of a process are, as the system says; None where it does not."""
    found = ctypes.create_string_buffer(56)
    number = {"x86_64": 315, "aarch64": 275}[platform.machine()]  # sched_getattr
    if ctypes.CDLL(None).syscall(number, pid, found, len(found), 0) != 0:
        return None
    turn_ns: int = struct.unpack_from("<IIQiIQ", found)[5]
    return turn_ns / 1e9


def test_where_there_is_no_such_call_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns.platform, "machine", lambda: "abacus")
    assert not ask_for_turns(BRIEF_S)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="no such class")
def test_leisure_is_of_the_thread_that_takes_it_and_of_those_that_it_starts() -> None:
    found: list[int] = []

    def look() -> None:
        found.append(os.sched_getscheduler(0))

    def take() -> None:
        assert take_leisure()
        look()
        child = threading.Thread(target=look)
        child.start()
        child.join()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join()
    assert found == [os.SCHED_IDLE, os.SCHED_IDLE]
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def may_go_first() -> bool:
    """Whether this process has the privilege; asked of the system itself."""
    found: list[bool] = []

    def ask() -> None:
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        except OSError:
            found.append(False)
        else:
            found.append(True)

    in_a_thread(ask)
    return found[0]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="no such class")
def test_who_goes_first_is_the_thread_that_asks_alone() -> None:
    found: list[tuple[bool, int]] = []
    in_a_thread(lambda: found.append((go_first(), os.sched_getscheduler(0))))
    is_first = may_go_first()
    assert found == [(is_first, os.SCHED_FIFO if is_first else os.SCHED_OTHER)]
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="no such class")
def test_nobody_goes_first_whom_the_system_does_not_let(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "not permitted")

    monkeypatch.setattr(turns.os, "sched_setscheduler", refused)
    assert not go_first()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="no such class")
def test_nobody_goes_first_for_whom_another_way_was_chosen() -> None:
    found: list[tuple[bool, int]] = []

    def ask() -> None:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        found.append((go_first(), os.sched_getscheduler(0)))

    in_a_thread(ask)
    assert found == [(False, os.SCHED_BATCH)]


def test_where_there_is_no_such_class_nobody_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns.sys, "platform", "darwin")
    assert not go_first()


def test_leisure_of_a_process_that_has_ended_is_no_error() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    assert not take_leisure(ended.pid)


def test_where_there_is_no_such_class_there_is_no_leisure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns.sys, "platform", "darwin")
    assert not take_leisure()
