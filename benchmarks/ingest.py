"""Durable ingest: events with twenty windowed features kept, acknowledged after the commit is on disk.

Batches of 10,000 rows as columns go through validation, deduplication, the log, the state of three views and the dead letters
in one transaction each. One core: everything runs in this thread. Beside them a twin is written: a bare LMDB file that gets
the same keys and values, put and committed and nothing else, which is the floor of any store there. Then the cost of an event is
followed as the store grows, and compared, batches taken in turns, between ten (thirty) million events and one, and between a million
keys and a thousand. Costs are processor seconds: of the time on the clock the disk and whoever shares it have their part.

Where there are few keys, events of a batch share their states, and each is written once: an event has fewer states to write there, in any store. So beside
`cost_1m_keys_vs_1k`, which is of an event, `_a_state` is of a state that is written, `_raw_lmdb` what the bare file takes for the same, and
`_batches_of_100` of an event in batches that share few.

Without `--curve` some four minutes of processor time; with it on to thirty million events and all decades of keys, some ten
minutes of it and 15 GB.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import sevenfold as sf
from benchmarks.measure import Report, Result, figure, ratio
from benchmarks.twin import Twin
from sevenfold.clock import SystemClock
from sevenfold.engines.online import OnlineEngine
from sevenfold.features.plan import Plan, compile_plan
from sevenfold.serving.ingest import Ingest, Post
from sevenfold.stores.kv import Store
from sevenfold.stores.open import open_store
from sevenfold.stores.tables import STATE
from sevenfold.types import US_PER_S, Texts

PACKAGES = ("sevenfold", "numpy", "numba", "lmdb")
BATCH = 10_000
LARGE_BATCH = 100_000
SMALL_BATCH = 100
USERS = 20_000
ROUND = 20
"""Batches of a measured run."""
SINGLES = 600
POSTS = 32
"""Posts of one event each that share a commit."""
DECADES = (1, 3, 10, 30)
IN_TURNS = 10
"""Millions of events from which on the cost is compared with that at one million."""
KEYS = (1_000, 10_000, 100_000, 1_000_000)


@dataclass
class Cost:
    """Seconds of each batch or event: by the clock on the wall, and of the processor."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def of(self, work: Callable[[], Any]) -> None:
        """Take one more."""
        begin = time.perf_counter(), time.process_time()
        work()
        self.wall.append(time.perf_counter() - begin[0])
        self.cpu.append(time.process_time() - begin[1])


class Feed:
    """An ingest into a store of its own and the batches that come."""

    def __init__(
        self, stack: ExitStack, users: int, seed: int, watch: Callable[[Store], Store] | None = None
    ) -> None:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        stream, plan = declared()
        self._clock = SystemClock()
        store = open_store(f"lmdb:{Path(folder) / 'store'}")
        stack.callback(store.close)
        watched = store if watch is None else watch(store)
        self._ingest = Ingest(watched, {"s": stream}, OnlineEngine(plan), self._clock)
        self._rng = np.random.default_rng(seed)
        self._users = [f"u{i}" for i in range(users)]
        self._items = [f"i{i}" for i in range(max(1, users // 4))]
        self._ready: list[dict[str, Any]] = []
        self.events = 0

    def prepare(self, batches: int, size: int = BATCH) -> None:
        """Make the next batches, which is not ours to time."""
        self._ready = [self._columns(size) for _ in range(batches)]

    def accept(self) -> None:
        """Take the next batch in."""
        self._ingest.accept("s", self._ready.pop())

    def grow(self, to: int) -> None:
        """Take in as many as are missing to that many events, in large batches made one by one."""
        while self.events < to:
            self.prepare(1, min(LARGE_BATCH, to - self.events))
            self.accept()

    def single(self, at: int) -> None:
        """Take one event in, as a row."""
        row = {"event_id": f"one-{at}", "user": f"u{at}", "item": f"i{at}", "x": 1.0}
        self._ingest.accept("s", [row | {"at": self._clock.now_us()}])

    def posts(self, at: int) -> None:
        """Take as many posts of one event in with one commit as wait where many post at once."""
        rows = [
            {"event_id": f"post-{at}-{i}", "user": f"u{at + i}", "item": f"i{at + i}", "x": 1.0}
            for i in range(POSTS)
        ]
        now_us = self._clock.now_us()
        self._ingest.accept_posts([Post("s", [row | {"at": now_us}]) for row in rows])

    def _columns(self, size: int) -> dict[str, Any]:
        rng, first = self._rng, self.events
        self.events += size
        users = rng.integers(0, len(self._users), size).tolist()
        items = rng.integers(0, len(self._items), size).tolist()
        return {
            "event_id": Texts.of([f"e{i}" for i in range(first, first + size)]),
            "user": Texts.of([self._users[i] for i in users]),
            "item": Texts.of([self._items[i] for i in items]),
            "x": rng.normal(size=size),
            "at": self._clock.now_us() - US_PER_S - rng.integers(0, US_PER_S, size),
        }


def run(repeat: int, scale: float, curve: bool = False) -> Report:
    """Measure events a second in batches, the time of a single event, and what growth costs."""
    report = Report("ingest")
    _rates(report, repeat)
    _growth(report, scale, curve)
    _keys(report, scale, KEYS if curve else (KEYS[0], KEYS[-1]))
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
    ours, floor, large = _Runs(), _Runs(), _Runs()
    single, raw_single, posts = Cost(), Cost(), Cost()
    for seed in range(repeat + 1):
        with ExitStack() as stack:
            twin = Twin(stack.enter_context(tempfile.TemporaryDirectory()))
            stack.callback(twin.close)
            feed, shown = Feed(stack, USERS, seed), Feed(stack, USERS, seed, twin.watching)
            batches, raw = Cost(), Cost()
            for _ in range(ROUND):
                for one in (feed, shown):
                    one.prepare(1)
                batches.of(feed.accept)
                shown.accept()
                raw.of(twin.write)
            wide, wides = Feed(stack, USERS, seed), Cost()
            for _ in range(max(1, ROUND * BATCH // LARGE_BATCH)):
                wide.prepare(1, LARGE_BATCH)
                wides.of(wide.accept)
            if not seed:  # the first run warms the kernels and the page cache
                continue
            ours.add(batches, BATCH)
            floor.add(raw, BATCH)
            large.add(wides, LARGE_BATCH)
            for at in range(-(-SINGLES // repeat)):
                single.of(lambda at=at, feed=feed: feed.single(at))  # type: ignore[misc]
                shown.single(at)
                raw_single.of(twin.write)
            for at in range(10):
                posts.of(lambda at=at, feed=feed: feed.posts(at))  # type: ignore[misc]
    results = report.results
    results["events_per_s"] = figure(ours.wall, "events/s")
    results["events_per_cpu_s"] = figure(ours.cpu, "events/s")
    results["events_per_s_raw_lmdb"] = figure(floor.wall, "events/s")
    results["events_per_cpu_s_raw_lmdb"] = figure(floor.cpu, "events/s")
    results["events_per_s_large_batches"] = figure(large.wall, "events/s")
    results["events_per_cpu_s_large_batches"] = figure(large.cpu, "events/s")
    results["posts_per_s"] = figure([POSTS / seconds for seconds in posts.wall], "posts/s")
    results["posts_per_cpu_s"] = figure([POSTS / seconds for seconds in posts.cpu], "posts/s")
    _tell_singles(report, single, raw_single)
    for clock in ("s", "cpu_s"):
        report.ratios[f"batch_vs_raw_lmdb_{clock}"] = ratio(
            results[f"events_per_{clock}_raw_lmdb"], results[f"events_per_{clock}"]
        )
    report.notes.append(
        f"{ROUND} batches of {BATCH} events a run (large: of {LARGE_BATCH}), {USERS} users, 3 views, "
        f"20 windowed features, on disk before each is acknowledged; {POSTS} posts share a commit"
    )


@dataclass
class _Runs:
    """Events a second of each run."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def add(self, cost: Cost, size: int) -> None:
        events = len(cost.wall) * size
        self.wall.append(events / sum(cost.wall))
        self.cpu.append(events / sum(cost.cpu))


def _tell_singles(report: Report, ours: Cost, raw: Cost) -> None:
    for name, cost in (("single_event", ours), ("single_raw_lmdb", raw)):
        taken = [1000 * seconds for seconds in cost.wall]
        report.results[f"{name}_ms"] = figure(taken, "ms")
        p99 = float(np.percentile(taken, 99))
        report.results[f"{name}_p99_ms"] = Result(p99, p99, p99, "ms", len(taken))
        report.results[f"{name}_cpu_ms"] = figure([1000 * seconds for seconds in cost.cpu], "ms")
    results = report.results
    report.ratios["single_vs_raw_lmdb"] = ratio(
        results["single_event_ms"], results["single_raw_lmdb_ms"]
    )
    report.ratios["single_p99_vs_raw_lmdb"] = ratio(
        results["single_event_p99_ms"], results["single_raw_lmdb_p99_ms"]
    )


def _growth(report: Report, scale: float, curve: bool) -> None:
    """The cost of an event at each point of the growth, and at ten million against one, in turns."""
    with ExitStack() as stack:
        large, small = Feed(stack, USERS, 1), Feed(stack, USERS, 2)
        small.grow(int(scale * 1_000_000))
        for millions in DECADES if curve else DECADES[:-1]:
            large.grow(int(scale * millions * 1_000_000))
            if millions >= IN_TURNS:
                ends = {f"at_{millions}m": large, f"at_1m_beside_{millions}m": small}
                _compare(report, ends, f"cost_{millions}m_vs_1m")
            else:
                _tell(report, f"grown_to_{millions}m", _taken([large])[0])
        report.notes.append(f"at the end: {large.events} events, beside {small.events}")


def _keys(report: Report, scale: float, keys: Sequence[int]) -> None:
    """The cost of an event in stores of a million events of so many users and a quarter as many items."""
    with ExitStack() as stack:
        feeds = {n: Feed(stack, n, 1) for n in keys}
        for feed in feeds.values():
            feed.grow(int(scale * 1_000_000))
        for n in keys[1:-1]:
            _tell(report, f"of_{n}_keys", _taken([feeds[n]])[0])
        ends = {"1m_keys": feeds[keys[-1]], "1k_keys": feeds[keys[0]]}
        _compare(report, ends, "cost_1m_keys_vs_1k")
        small = {f"{name}_batches_of_{SMALL_BATCH}": feed for name, feed in ends.items()}
        _compare(report, small, f"cost_1m_keys_vs_1k_batches_of_{SMALL_BATCH}", SMALL_BATCH)
    _raw_keys(report, scale, keys)


def _raw_keys(report: Report, scale: float, keys: Sequence[int]) -> None:
    """What a bare LMDB file takes for what those of most and of least keys write, and how many states that is."""
    names = ("1m_keys", "1k_keys")
    with ExitStack() as stack:
        shown = [_Shown(stack, n) for n in (keys[-1], keys[0])]
        for one in shown:
            one.grow(int(scale * 1_000_000))
        for at in range(ROUND + 2):
            for one in shown:
                one.turn(count=at >= 2)
    results, ratios = report.results, report.ratios
    for name, one in zip(names, shown, strict=True):
        _tell(report, f"raw_lmdb_{name}", one.cost)
        results[f"states_an_event_{name}"] = figure([n / BATCH for n in one.states], "")
    many, few = (results[f"cpu_us_an_event_raw_lmdb_{name}"] for name in names)
    ratios["cost_1m_keys_vs_1k_raw_lmdb"] = ratio(many, few)
    states = ratio(*(results[f"states_an_event_{name}"] for name in names))
    ratios["cost_1m_keys_vs_1k_a_state"] = ratios["cost_1m_keys_vs_1k"] / states


class _Shown:
    """A feed of so many users whose writes are written once more by LMDB alone."""

    def __init__(self, stack: ExitStack, users: int) -> None:
        self._twin = Twin(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.callback(self._twin.close)
        self._feed = Feed(stack, users, 1, self._twin.watching)
        self.cost, self.states = Cost(), list[int]()

    def grow(self, to: int) -> None:
        """Take in as many events as are missing to that many."""
        while self._feed.events < to:
            self._feed.grow(min(to, self._feed.events + LARGE_BATCH))
            self._twin.write()

    def turn(self, count: bool) -> None:
        """Take in a batch, and have what it wrote written once more."""
        self._feed.prepare(1)
        self._feed.accept()
        if not count:
            self._twin.write()
            return
        self.states.append(self._twin.noted(STATE))
        self.cost.of(self._twin.write)


def _compare(report: Report, feeds: dict[str, Feed], key: str, size: int = BATCH) -> None:
    for name, cost in zip(feeds, _taken(list(feeds.values()), size), strict=True):
        _tell(report, name, cost, size)
    ours, theirs = (report.results[f"cpu_us_an_event_{name}"] for name in feeds)
    report.ratios[key] = ratio(ours, theirs)


def _tell(report: Report, name: str, cost: Cost, size: int = BATCH) -> None:
    for clock, taken in (("cpu_us", cost.cpu), ("us", cost.wall)):
        report.results[f"{clock}_an_event_{name}"] = figure(
            [seconds / size * 1e6 for seconds in taken], "us"
        )


def _taken(feeds: list[Feed], size: int = BATCH) -> list[Cost]:
    """What batches cost, those of the feeds in turns: what disturbs one of them then disturbs all."""
    costs = [Cost() for _ in feeds]
    rounds = ROUND * max(1, BATCH // size // 10)  # short ones are more of a lottery
    for at in range(rounds + 2):
        for feed, cost in zip(feeds, costs, strict=True):
            feed.prepare(1, size)
            if at < 2:
                feed.accept()
            else:
                cost.of(feed.accept)
    return costs
