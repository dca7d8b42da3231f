"""The parity probe: one stream with late events and corrections through both engines; how many keys differ.

5,000 events of 500 keys arrive in pushes of 50, in the order of arrival; 30 per cent are late by up to an hour and 5 per cent
correct the newest event of their key at its own instant. Then every key is read online and, as of now, offline. Ours has windows, a ttl, rows of a
table with deletes and a restart in the middle besides, in LMDB and in Redis; a key differs if any bit of any of its features does.
`wrong` counts the keys whose newest value is not that of the newest event, found by looking at all of them: of two at one instant
the later arrival. A figure is of as many streams as there are repeats, each from another seed.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

import sevenfold as sf
from benchmarks.measure import Report, figure
from benchmarks.probe import KEYS, PUSH, Push, Value, newest, stream
from sevenfold.clock import ManualClock
from sevenfold.engines.offline import read_at
from sevenfold.engines.online import OnlineEngine
from sevenfold.features.frame import FeatureFrame, Spine
from sevenfold.features.plan import compile_plan
from sevenfold.serving.ingest import Ingest
from sevenfold.stores.log import last_known_us, read_stream
from sevenfold.stores.open import open_store
from sevenfold.testing.redis_server import redis_server
from sevenfold.types import Texts

PACKAGES = ("sevenfold", "numpy", "numba", "lmdb", "redis")

driver = sf.Entity("driver")
trips = sf.Stream(
    "trips", time="at", id="id", keys=[driver], fields={"fare": sf.Number(), "number": sf.Number()}
)
profile = sf.Table("profile", driver, {"rating": sf.Number()}, time="at", id="id", delete="left")
FEATURES = [
    sf.attribute(driver, trips, "fare", "number", name="newest"),
    sf.attribute(driver, trips, "fare", ttl="90 min", name="fresh"),
    sf.aggregate(
        driver,
        trips,
        sf.since_last(),
        sf.count(windows=["1 h", "24 h"]),
        sf.sum("fare", windows=["1 h", "24 h"]),
        sf.min("fare", windows=["24 h"]),
        sf.max("fare", windows=["1 h"]),
        sf.decayed("fare", half_life="6 h"),
    ),
    sf.attribute(driver, profile, "rating", ttl="90 min", name="rated"),
    sf.attribute(driver, profile, "rating", name="profile"),
]


def run(repeat: int, scale: float) -> Report:
    """Send streams through our two engines; `scale` is a share of the 5,000 events."""
    report = Report("parity")
    stores = ["lmdb", *(["redis"] if shutil.which("redis-server") else [])]
    for store in stores:
        found = [probe(store, stream(seed, scale)) for seed in range(repeat)]
        record(report, f"ours_{store}", found)
    first = stream(0, scale)
    report.notes.append(
        f"{len(first) * PUSH} events, {KEYS} keys, {len(newest(first))} of them with an event, {len(FEATURES)} views of ours"
    )
    return report


def record(report: Report, name: str, found: list[dict[str, int]]) -> None:
    """Add what the streams gave: how many keys differ, and are wrong online and offline."""
    for count in found[0]:
        report.results[f"{name}_{count}"] = figure([each[count] for each in found], "keys")


def probe(kind: str, pushes: list[Push]) -> dict[str, int]:
    """How many keys differ between our two engines over a store of `kind`."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        if kind == "lmdb":
            online, offline = both(f"lmdb:{folder / 'store'}", pushes)
        else:
            with redis_server(folder) as server:
                online, offline = both(server.url("probe"), pushes)
    same = (online.values.view(np.int64) == offline.values.view(np.int64)) & (
        online.states == offline.states
    )
    truth = newest(pushes)
    counts = {"differ": int((~same).any(axis=1).sum())}
    for name, frame in (("online", online), ("offline", offline)):
        counts[f"{name}_wrong"] = wrong(truth, values_of(frame))
    return counts


def both(url: str, pushes: list[Push]) -> tuple[FeatureFrame, FeatureFrame]:
    """Every key's features as they are read online after the last push, and offline as of then."""
    plan, streams = compile_plan(FEATURES), {"trips": trips, "profile": profile}
    engine, clock = OnlineEngine(plan), ManualClock(pushes[0].arrival_us)
    store = open_store(url)
    ingest = Ingest(store, streams, engine, clock)
    for number, push in enumerate(pushes):
        if number == len(pushes) // 2:
            store.close()
            store = open_store(url)
            ingest = Ingest(store, streams, OnlineEngine(plan), clock)
        clock.set(push.arrival_us)
        ingest.accept("trips", push.trips)
        if push.profiles:
            ingest.accept("profile", push.profiles)
    with store.read() as txn:
        keys = Texts.of([f"d{i}" for i in range(KEYS)])
        spine = Spine(np.full(KEYS, last_known_us(txn) + 1), {"driver": keys})
        online = engine.read(txn, plan.names, spine)
        read = {name: read_stream(txn, name) for name in streams}
    store.close()
    events = {name: batch for name, batch in read.items() if batch is not None}
    return online, read_at(plan, plan.names, spine, events)


def values_of(frame: FeatureFrame) -> dict[str, Value]:
    """The newest fare and number of each key that has them."""
    fares, numbers = frame.column("newest__fare"), frame.column("newest__number")
    return {
        f"d{i}": (float(fares[i]), int(numbers[i])) for i in range(KEYS) if not np.isnan(fares[i])
    }


def wrong(truth: Mapping[str, Value], found: Mapping[str, Value]) -> int:
    """How many of all keys have another value than they should, or none, or one of nothing."""
    return sum(truth.get(key) != found.get(key) for key in truth.keys() | found.keys())
