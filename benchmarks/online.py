"""The online read: 500 entities x 20 windowed features from LMDB, against reading the same bytes raw.

The floor gets the 500 packed states under their ready-made keys in one read transaction and joins them into one
buffer: what any store on LMDB must do. Ours starts from key texts: it hashes them, gets the same states, and merges the
tiles of every window into a float32 matrix.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import lmdb
import numpy as np

import sevenfold as sf
from benchmarks.measure import Report, figure, ratio, wall_times
from sevenfold.engines.online import OnlineEngine
from sevenfold.features.columns import key_hashes
from sevenfold.features.frame import Spine
from sevenfold.features.plan import Plan, compile_plan
from sevenfold.hashing import key_bytes
from sevenfold.stores.open import open_store
from sevenfold.types import US_PER_DAY, EventBatch, Texts

PACKAGES = ("sevenfold", "numpy", "numba", "lmdb")
READS = 200


def run(repeat: int, scale: float) -> Report:
    """Measure reads of 1, 100 and 500 entities."""
    keys, events = max(600, int(10_000 * scale)), max(6_000, int(600_000 * scale))
    report = Report("online")
    with tempfile.TemporaryDirectory() as folder:
        for kind, plan in (("windowed", windowed()), ("attributes", attributes())):
            path = Path(folder) / kind
            engine = OnlineEngine(plan)
            fill(path, engine, keys, events)
            _measure(report, kind, path, engine, keys, repeat)
    results = report.results
    report.ratios["read_500_vs_raw_lmdb"] = ratio(
        results["windowed_500_us"], results["windowed_500_raw_lmdb_us"]
    )
    report.ratios["attributes_500_vs_raw_lmdb"] = ratio(
        results["attributes_500_us"], results["attributes_500_raw_lmdb_us"]
    )
    report.notes.append(f"{keys} keys, {events} events over 30 days; {READS} reads a run")
    return report


def windowed() -> Plan:
    """Four windows of count, sum, mean, min and max: 20 features."""
    user = sf.Entity("user")
    stream = sf.Stream("s", time="at", keys=[user], fields={"x": sf.Number()})
    windows = ("1 h", "24 h", "7 d", "30 d")
    kinds = (sf.sum, sf.mean, sf.min, sf.max)
    aggregates = [sf.count(windows=windows), *(kind("x", windows=windows) for kind in kinds)]
    return compile_plan([sf.aggregate(user, stream, *aggregates)])


def attributes() -> Plan:
    """The newest value of 20 fields."""
    user = sf.Entity("user")
    fields = {f"x{i}": sf.Number() for i in range(20)}
    stream = sf.Stream("s", time="at", keys=[user], fields=fields)
    return compile_plan([sf.attribute(user, stream, *fields)])


def fill(path: Path, engine: OnlineEngine, keys: int, events: int) -> None:
    """Apply 30 days of uniform random events, in batches."""
    rng = np.random.default_rng(3)
    columns = engine.plan.views[0].numbers
    store = open_store(f"lmdb:{path}")
    at = np.sort(rng.integers(0, 30 * US_PER_DAY, events))
    for rows in np.array_split(np.arange(events), max(1, events // 20_000)):
        batch = EventBatch(
            "s",
            at[rows],
            at[rows],
            Texts.of([""] * len(rows)),
            {"user": Texts.of([f"user-{i}" for i in rng.integers(0, keys, len(rows)).tolist()])},
            {str(name): rng.normal(size=len(rows)) for name in columns},
        )
        with store.write() as txn:
            engine.apply(txn, batch)
    store.close()


def _measure(
    report: Report, kind: str, path: Path, engine: OnlineEngine, keys: int, repeat: int
) -> None:
    rng = np.random.default_rng(5)
    view = engine.plan.views[0]
    for size in (1, 100, 500):
        wanted = [
            Texts.of([f"user-{i}" for i in rng.integers(0, keys, size).tolist()])
            for _ in range(READS)
        ]
        ready = [key_bytes(key_hashes(view.entities, {"user": k}), view.view_id) for k in wanted]
        for name, contender in (
            ("us", _Ours(path, engine, wanted, size)),
            ("raw_lmdb_us", _Raw(path, ready)),
        ):
            taken = [seconds / READS * 1e6 for seconds in wall_times(contender, repeat)]
            report.results[f"{kind}_{size}_{name}"] = figure(taken, "us")


class _Ours:
    """Feature vectors of entities by their key texts."""

    def __init__(self, path: Path, engine: OnlineEngine, wanted: list[Texts], size: int) -> None:
        self._path = path
        self._engine = engine
        self._wanted = wanted
        self._t_us = np.full(size, 30 * US_PER_DAY, dtype=np.int64)

    def __call__(self) -> None:
        store = open_store(f"lmdb:{self._path}", readonly=True)
        names = self._engine.plan.names
        for entities in self._wanted:
            with store.read() as txn:
                self._engine.read(txn, names, Spine(self._t_us, {"user": entities})).vectors()
        store.close()


class _Raw:
    """The floor: bare gets of ready keys, joined."""

    def __init__(self, path: Path, ready: list[list[bytes]]) -> None:
        self._path = path
        self._ready = ready

    def __call__(self) -> None:
        with lmdb.open(str(self._path), readonly=True, max_dbs=32, lock=False) as environment:
            table = environment.open_db(b"state", create=False)
            with environment.begin(db=table, buffers=True) as txn:
                for keys in self._ready:
                    b"".join([txn.get(key) for key in keys])
