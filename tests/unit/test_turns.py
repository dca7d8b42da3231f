"""Turns on the processor: asked for where the system has them."""

import os
import subprocess
import sys
import threading

import pytest

from sevenfold import turns
from sevenfold.turns import BRIEF_S, LONG_S, ask_for_turns, take_leisure


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


def test_leisure_of_a_process_that_has_ended_is_no_error() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    assert not take_leisure(ended.pid)


def test_where_there_is_no_such_class_there_is_no_leisure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns.sys, "platform", "darwin")
    assert not take_leisure()
