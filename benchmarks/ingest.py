"""Durable ingest: events with twenty windowed features kept, acknowledged after the commit is on disk.

Batches of 10,000 rows as columns go through validation, deduplication, the log, the state of three views and the dead letters
in one transaction each. One core: everything runs in this thread. The cost of an event is also followed as the store grows,
and compared, batches taken in turns, between a store of ten million events and one of a million, and between a million keys
and a thousand.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

import sevenfold as sf
from benchmarks.measure import Report, Result, figure, ratio, side_by_side
from sevenfold.clock import SystemClock
from sevenfold.engines.online import OnlineEngine
from sevenfold.features.plan import Plan, compile_plan
from sevenfold.serving.ingest import Ingest
from sevenfold.stores.open import open_store
from sevenfold.types import US_PER_S, Texts

PACKAGES = ("sevenfold", "numpy", "numba", "lmdb")
BATCH = 10_000
USERS = 20_000


class Feed:
    """An ingest into a store of its own and the batches that come."""

    def __init__(self, stack: ExitStack, users: int, seed: int) -> None:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        stream, plan = declared()
        self._clock = SystemClock()
        store = open_store(f"lmdb:{Path(folder) / 'store'}")
        stack.callback(store.close)
        self._ingest = Ingest(store, {"s": stream}, OnlineEngine(plan), self._clock)
        self._rng = np.random.default_rng(seed)
        self._users = [f"u{i}" for i in range(users)]
        self._items = [f"i{i}" for i in range(max(1, users // 4))]
        self._ready: list[dict[str, Any]] = []
        self.events = 0

    def prepare(self, batches: int) -> None:
        """Make the next batches, which is not ours to time."""
        self._ready = [self._columns() for _ in range(batches)]

    def accept(self) -> None:
        """Take the next batch in."""
        self._ingest.accept("s", self._ready.pop())

    def grow(self, events: int) -> float:
        """Take in as many more; seconds an event, the making of batches left out."""
        taken, batches = 0.0, events // BATCH
        for first in range(0, batches, 20):
            self.prepare(min(20, batches - first))
            begin = time.perf_counter()
            while self._ready:
                self.accept()
            taken += time.perf_counter() - begin
        return taken / (batches * BATCH)

    def single(self, at: int) -> None:
        """Take one event in, as a row."""
        row = {"event_id": f"one-{at}", "user": f"u{at}", "item": f"i{at}", "x": 1.0}
        self._ingest.accept("s", [row | {"at": self._clock.now_us()}])

    def _columns(self) -> dict[str, Any]:
        rng, first = self._rng, self.events
        self.events += BATCH
        users = rng.integers(0, len(self._users), BATCH).tolist()
        items = rng.integers(0, len(self._items), BATCH).tolist()
        return {
            "event_id": Texts.of([f"e{i}" for i in range(first, first + BATCH)]),
            "user": Texts.of([self._users[i] for i in users]),
            "item": Texts.of([self._items[i] for i in items]),
            "x": rng.normal(size=BATCH),
            "at": self._clock.now_us() - US_PER_S - rng.integers(0, US_PER_S, BATCH),
        }


def run(repeat: int, scale: float) -> Report:
    """Measure events a second in batches, the time of a single event, and what growth costs."""
    report = Report("ingest")
    _rates(report, repeat)
    _growth(report, scale)
    _keys(report, scale)
    return report


def declared() -> tuple[sf.Stream, Plan]:
    """Twenty windowed features in three views of one stream."""
    user, item = sf.Entity("user"), sf.Entity("item")
    stream = sf.Stream(
        "s", time="at", id="event_id", keys=[user, item], fields={"x": sf.Number()}, skew="1000 d"
    )
    windows = ("1 h", "24 h", "7 d", "30 d")
    views = [
        sf.aggregate(user, stream, sf.count(windows=windows), sf.sum("x", windows=windows)),
        sf.aggregate(item, stream, sf.count(windows=windows), sf.mean("x", windows=windows)),
        sf.aggregate([user, item], stream, sf.count(windows=windows)),
    ]
    return stream, compile_plan(views)


def _rates(report: Report, repeat: int) -> None:
    rates, of_core, singles = [], [], []
    for seed in range(repeat + 1):
        with ExitStack() as stack:
            feed = Feed(stack, USERS, seed)
            feed.prepare(20)
            begin = time.perf_counter(), time.process_time()
            for _ in range(20):
                feed.accept()
            wall, cpu = time.perf_counter() - begin[0], time.process_time() - begin[1]
            taken = side_by_side({"one": feed.single}, 200)["one"]
        if seed:  # the first run warms the kernels and the page cache
            rates.append(20 * BATCH / wall)
            of_core.append(20 * BATCH / cpu)
            singles += [1000 * seconds for seconds in taken]
    report.results["events_per_s"] = figure(rates, "events/s")
    report.results["events_per_cpu_s"] = figure(of_core, "events/s")
    report.results["single_event_ms"] = figure(singles, "ms")
    p99 = float(np.percentile(singles, 99))
    report.results["single_event_p99_ms"] = Result(p99, p99, p99, "ms", len(singles))
    report.notes.append(
        f"20 batches of {BATCH} events a run, {USERS} users, 3 views, 20 windowed features, fsync each"
    )


def _growth(report: Report, scale: float) -> None:
    """The curve up to ten million events, and the largest store against one of a million, in turns."""
    with ExitStack() as stack:
        large, small = Feed(stack, USERS, 1), Feed(stack, USERS, 2)
        for millions in (1, 2, 5, 10, 20, 30):
            if millions > 10 * max(scale, 0.1):
                break
            # From one point of the curve to the next, as the average over that stretch.
            cost = large.grow(millions * 1_000_000 - large.events) * 1e6
            report.results[f"us_an_event_to_{millions}m"] = figure([cost], "us")
        small.grow(1_000_000)
        _in_turns(report, {"at_10m": large, "at_1m": small}, "cost_10m_vs_1m")
        report.notes.append(f"at_10m: {large.events} events, at_1m: {small.events}")


def _keys(report: Report, scale: float) -> None:
    with ExitStack() as stack:
        many, few = Feed(stack, 1_000_000, 1), Feed(stack, 1_000, 2)
        for feed in (many, few):
            feed.grow(int(2_000_000 * max(scale, 0.1)))
        _in_turns(report, {"1m_keys": many, "1k_keys": few}, "cost_1m_keys_vs_1k")


def _in_turns(report: Report, feeds: dict[str, Feed], key: str) -> None:
    rounds, warm = 40, 5
    for feed in feeds.values():
        feed.prepare(rounds + warm)
    works: dict[str, Callable[[int], Any]] = {
        name: lambda _, feed=feed: feed.accept()  # type: ignore[misc]
        for name, feed in feeds.items()
    }
    for name, taken in side_by_side(works, rounds, warm).items():
        costs = [seconds / BATCH * 1e6 for seconds in taken]
        report.results[f"us_an_event_{name}"] = figure(costs, "us")
    ours, theirs = (report.results[f"us_an_event_{name}"] for name in feeds)
    report.ratios[key] = ratio(ours, theirs)
