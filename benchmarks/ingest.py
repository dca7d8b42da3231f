"""Durable ingest: events with twenty windowed features kept, acknowledged after the commit is on disk.

Batches of 10,000 rows go through validation, deduplication, the log, the state of three views and the dead letters in one
transaction each. One core: everything runs in this thread.
"""

from __future__ import annotations

import tempfile
import time

import numpy as np

import sevenfold as sf
from benchmarks.measure import Report, Result, figure
from sevenfold.clock import SystemClock
from sevenfold.engines.online import OnlineEngine
from sevenfold.features.plan import compile_plan
from sevenfold.serving.ingest import Ingest
from sevenfold.stores.open import open_store
from sevenfold.types import US_PER_S, Texts

PACKAGES = ("sevenfold", "numpy", "numba", "lmdb")
BATCH = 10_000


def run(repeat: int, scale: float) -> Report:
    """Measure events a second in batches, and the time of a single event."""
    batches = max(2, int(20 * scale))
    report = Report("ingest")
    rates, singles = [], []
    for seed in range(repeat + 1):
        rate, single = _one(batches, seed)
        if seed:  # the first run warms the kernels and the page cache
            rates.append(rate)
            singles += single
    report.results["events_per_s"] = figure(rates, "events/s")
    report.results["single_event_ms"] = figure(singles, "ms")
    p99 = float(np.percentile(singles, 99))
    report.results["single_event_p99_ms"] = Result(p99, p99, p99, "ms", len(singles))
    report.notes.append(
        f"{batches} batches of {BATCH} events a run, 3 views, 20 windowed features, fsync each"
    )
    return report


def _one(batches: int, seed: int) -> tuple[float, list[float]]:
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
    plan = compile_plan(views)
    rng = np.random.default_rng(seed)
    clock = SystemClock()
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(f"lmdb:{folder}/store")
        ingest = Ingest(store, {"s": stream}, OnlineEngine(plan), clock)
        prepared = [
            _columns(rng, clock.now_us() - US_PER_S, i * BATCH, BATCH) for i in range(batches)
        ]
        begin = time.process_time(), time.perf_counter()
        for columns in prepared:
            ingest.accept("s", columns)
        wall = time.perf_counter() - begin[1]
        single = []
        for i in range(200):
            row = {
                "event_id": f"one-{i}",
                "user": f"u{i}",
                "item": f"i{i}",
                "x": 1.0,
                "at": clock.now_us(),
            }
            begin_one = time.perf_counter()
            ingest.accept("s", [row])
            single.append(1000 * (time.perf_counter() - begin_one))
        store.close()
    return batches * BATCH / wall, single


def _columns(rng: np.random.Generator, now_us: int, first: int, n: int) -> dict[str, object]:
    return {
        "event_id": Texts.of([f"e{first + i}" for i in range(n)]),
        "user": Texts.of([f"u{i}" for i in rng.integers(0, 20_000, n).tolist()]),
        "item": Texts.of([f"i{i}" for i in rng.integers(0, 5_000, n).tolist()]),
        "x": rng.normal(size=n),
        "at": now_us - rng.integers(0, US_PER_S, n),
    }
