"""A job on a thread: stepped while there is something to do, its failures told to the loop, and nobody waits for it."""

import threading
import time
from typing import Any

import pytest

from sevenfold.serving.job_thread import JobThread

A_WHILE_S = 20


class Steps:
    """A job that has so many steps to do, and fails when it is told to."""

    name = "steps"

    def __init__(self) -> None:
        self.left, self.done = 0, 0
        self.error: Exception | None = None
        self.may = threading.Event()
        self.may.set()
        self.failures: list[Exception] = []
        self.threads: set[int] = set()

    def step(self) -> bool:
        self.threads.add(threading.get_ident())
        assert self.may.wait(A_WHILE_S)
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        if self.left:
            self.left, self.done = self.left - 1, self.done + 1
            return True
        return False

    def failed(self, error: Exception) -> None:
        self.failures.append(error)


def until(what: Any, job: JobThread) -> None:
    end_s = time.monotonic() + A_WHILE_S
    while not what():
        assert time.monotonic() < end_s
        assert not job.step(), "the loop does nothing itself"
        time.sleep(0.001)


def test_it_does_all_there_is_and_says_how_long_it_took() -> None:
    steps, notes = Steps(), []
    job = JobThread(steps, lambda *note: notes.append(note))
    steps.left = 7
    until(lambda: steps.done == 7 and notes, job)
    assert {name for name, _, _ in notes} == {"steps"}
    assert all(took_s > 0 and not failed for _, took_s, failed in notes)
    assert threading.get_ident() not in steps.threads
    job.close()


def test_the_loop_does_not_wait_for_a_step() -> None:
    steps = Steps()
    job = JobThread(steps)
    steps.may.clear()
    for _ in range(3):
        assert not job.step()
    steps.left = 1
    steps.may.set()
    until(lambda: steps.done == 1, job)
    job.close()


def test_a_failure_is_raised_at_the_next_look_and_it_goes_on() -> None:
    steps = Steps()
    job = JobThread(steps)
    steps.error = ValueError("wrong")
    with pytest.raises(ValueError, match="wrong"):
        until(lambda: False, job)
    job.failed(ValueError("wrong"))
    assert len(steps.failures) == 1
    steps.left = 1
    until(lambda: steps.done == 1, job)
    job.close()


def test_while_the_server_is_pressed_it_rests() -> None:
    steps = Steps()
    job = JobThread(steps)
    is_pressed = [True]
    job.pressed = lambda: is_pressed[0]
    steps.left = 3
    for _ in range(20):
        assert not job.step()
        time.sleep(0.001)
    assert steps.done == 0
    is_pressed[0] = False
    until(lambda: steps.done == 3, job)
    job.close()


def test_closing_ends_the_thread() -> None:
    before = threading.active_count()
    job = JobThread(Steps())
    job.step()
    job.close()
    assert threading.active_count() == before
