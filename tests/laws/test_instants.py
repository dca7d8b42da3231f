"""A read at `t` has every event known before `t`, whatever happens between the steps of reader and writer."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sevenfold.clock import Clock, SystemClock, elapsed_s
from sevenfold.serving.instants import Instants, seen
from sevenfold.stores.kv import Store
from sevenfold.stores.lmdb import LmdbStore
from sevenfold.stores.log import (
    append,
    arrange,
    floor_us,
    last_known_us,
    position,
    raise_frontier,
    read_stream,
)
from sevenfold.stores.memory import MemoryStore
from sevenfold.types import EventBatch, Texts

Read = tuple[int, int]
"""The instant of a read and how many events its snapshot had."""


# Who goes on, and for how many steps: what goes wrong takes several of one while another stands.
TURNS = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 9)), max_size=40).map(
    lambda turns: [who for who, steps in turns for _ in range(steps)]
)


class Turns:
    """Threads that run one at a time; `choices` says who goes on at each step."""

    def __init__(self, choices: Iterator[int]) -> None:
        self._choices = choices
        self._waiting: dict[int, threading.Semaphore] = {}
        self._back = threading.Semaphore(0)
        self._own = threading.local()
        self.errors: list[BaseException] = []

    def step(self) -> None:
        """Let others go on, if it is their turn."""
        self._back.release()
        self._waiting[self._own.number].acquire()

    def run(self, works: list[Callable[[], None]]) -> None:
        """All of them to their ends."""
        threads = []
        for number, work in enumerate(works):
            self._waiting[number] = threading.Semaphore(0)
            threads.append(threading.Thread(target=self._one, args=(number, work)))
            threads[-1].start()
        alive = list(range(len(works)))
        fairly = (
            itertools.count()
        )  # once nothing is chosen any more, so that who waits for another gets on
        while alive:
            number = alive[next(self._choices, next(fairly)) % len(alive)]
            self._waiting[number].release()
            self._back.acquire()
            if number not in self._waiting:
                alive.remove(number)
        for thread in threads:
            thread.join()

    def _one(self, number: int, work: Callable[[], None]) -> None:
        self._own.number = number
        self._waiting[number].acquire()
        try:
            work()
        except BaseException as error:  # noqa: BLE001  told by the test's own thread
            self.errors.append(error)
        del self._waiting[number]
        self._back.release()


class Ticking:
    """A clock that moves by what it is told at each look, zero and backwards included, and lets others go on."""

    def __init__(self, turns: Turns, steps: Iterator[int]) -> None:
        self._turns, self._steps = turns, steps
        self._us = 1_000

    def now_us(self) -> int:
        self._turns.step()
        self._us += next(self._steps, 1)
        now_us = self._us
        self._turns.step()
        return now_us


def batch(number: int, known_us: int, n: int = 2) -> EventBatch:
    us = np.full(n, known_us, dtype=np.int64)
    ids = Texts.of([f"{number}-{i}" for i in range(n)])
    return EventBatch("s", us, us, ids, {"u": ids}, {})


def write(
    store: Store, instants: Instants, clock: Clock, number: int, pause: Callable[[], None]
) -> None:
    """Take a batch in as a server does: stamped early, put after the floor, committed, withdrawn."""
    stamped = batch(number, clock.now_us())
    with store.write() as txn:
        floor = instants.announce(floor_us(txn))
        append(txn, arrange(stamped, floor))
        pause()
    pause()
    instants.withdraw()
    pause()


def read(store: Store, instants: Instants, pause: Callable[[], None]) -> Read:
    moment = instants.look()
    pause()
    with store.read() as txn:
        return moment.instant(txn), position(txn)


def holds(store: Store, reads: list[Read]) -> None:
    """Each read had what is known before it, and nothing else."""
    with store.read() as txn:
        events = read_stream(txn, "s")
    known = np.empty(0, dtype=np.int64) if events is None else events.known_us
    for t_us, end in reads:
        assert end == np.searchsorted(known, t_us), (t_us, end, known.tolist())


@settings(max_examples=300)
@given(TURNS, st.lists(st.integers(0, 2), max_size=60))
def test_however_the_steps_fall(
    tmp_path_factory: pytest.TempPathFactory, choices: list[int], ticks: list[int]
) -> None:
    store = MemoryStore()
    turns = Turns(iter(choices))
    clock = Ticking(turns, iter(ticks))
    path = tmp_path_factory.getbasetemp() / "instants"
    path.unlink(missing_ok=True)
    ours, theirs = Instants(path, clock), Instants(path, clock)
    reads: list[Read] = []

    def writer() -> None:
        for number in range(3):
            write(store, ours, clock, number, turns.step)

    def reader() -> None:
        reads.extend(read(store, theirs, turns.step) for _ in range(3))

    turns.run([writer, reader, reader])
    for instants in (ours, theirs):
        instants.close()
    assert not turns.errors, turns.errors
    assert len(reads) == 6
    holds(store, reads)


@settings(max_examples=200)
@given(TURNS, st.lists(st.integers(-3, 2), max_size=60))
def test_a_clock_that_is_set_back_is_noticed_before_a_read_is_logged(
    tmp_path_factory: pytest.TempPathFactory, choices: list[int], ticks: list[int]
) -> None:
    store = MemoryStore()
    turns = Turns(iter(choices))
    clock = Ticking(turns, iter(ticks))
    path = tmp_path_factory.getbasetemp() / "instants"
    path.unlink(missing_ok=True)
    instants = Instants(path, clock)
    logged: list[Read] = []
    own = threading.Lock()

    def locked(work: Callable[[], None]) -> None:
        while not own.acquire(
            blocking=False
        ):  # the store's own lock would stop the one who has the turn
            turns.step()
        work()
        own.release()

    def writer() -> None:
        for number in range(3):
            locked(lambda number=number: write(store, instants, clock, number, turns.step))

    def reader() -> None:
        for _ in range(3):
            t_us, end = read(store, instants, turns.step)
            locked(lambda t_us=t_us, end=end: log(t_us, end))

    def log(t_us: int, end: int) -> None:
        with store.write() as txn:
            turns.step()
            if seen(txn, end, t_us):
                raise_frontier(txn, t_us)
                logged.append((t_us, end))

    turns.run([writer, reader, reader])
    instants.close()
    assert not turns.errors, turns.errors
    holds(store, logged)


READER = """
import json, sys
from pathlib import Path
from sevenfold.clock import SystemClock, elapsed_s
from sevenfold.serving.instants import Instants
from sevenfold.stores.lmdb import LmdbStore
from sevenfold.stores.log import position

store, found = LmdbStore(sys.argv[1], readonly=True), set()
instants = Instants(Path(sys.argv[1]) / "instants", SystemClock())
begin_s = elapsed_s()
# For two seconds, and on until events have come in between: that may take longer where others use the machine.
while (took_s := elapsed_s() - begin_s) < 2 or len(found) <= 100 or len({end for _, end in found}) <= 3:
    assert took_s < 200, len(found)
    moment = instants.look()
    with store.read() as txn:
        found.add((moment.instant(txn), position(txn)))
json.dump(sorted(found), sys.stdout)
"""


def test_between_processes(tmp_path: Path) -> None:
    store, clock = LmdbStore(tmp_path, map_bytes=1 << 26), SystemClock()
    instants = Instants(tmp_path / "instants", clock)
    command = [sys.executable, "-c", READER, str(tmp_path)]
    with (tmp_path / "reads").open("wb") as out, subprocess.Popen(command, stdout=out) as other:
        try:
            number = 0
            deadline = elapsed_s() + 240
            while other.poll() is None and elapsed_s() < deadline:
                write(store, instants, clock, number, lambda: None)
                number += 1
            assert other.poll() == 0, "the other process did not end well"
        finally:
            other.kill()
    reads = [(t_us, end) for t_us, end in json.loads((tmp_path / "reads").read_bytes())]
    with store.read() as txn:
        assert last_known_us(txn) > reads[0][0]
    assert len(reads) > 100
    assert len({end for _, end in reads}) > 3  # events came in between
    holds(store, reads)
    instants.close()
    store.close()
