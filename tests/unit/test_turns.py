"""Turns on the processor: asked for where the system has them."""

import os
import sys
import threading

import pytest

from sevenfold import turns
from sevenfold.turns import BRIEF_S, LONG_S, ask_for_turns


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
