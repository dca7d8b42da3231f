"""The online read: 500 entities x 20 features from LMDB and from Redis, against reading the same bytes raw.

The floor of LMDB gets the 500 packed states under their ready-made keys in one read transaction and joins them into one
buffer; the floor of Redis asks a bare client for the same 500 values in one command and joins them: what any store there must
do. Ours starts from key texts: it hashes them, gets the same states of one snapshot, and merges the tiles of every window into
a float32 matrix. All read in turns, each turn other keys. Redis runs on loopback, every commit on its disk.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
from redis import Redis

import sevenfold as sf
from benchmarks.measure import Report, figure, ratio, side_by_side
from sevenfold.engines.online import OnlineEngine
from sevenfold.features.columns import key_hashes
from sevenfold.features.frame import Spine
from sevenfold.features.plan import Plan, compile_plan
from sevenfold.hashing import key_bytes
from sevenfold.stores.kv import Store
from sevenfold.stores.open import open_store
from sevenfold.testing.redis_server import RedisServer, redis_server
from sevenfold.types import US_PER_DAY, EventBatch, Texts

PACKAGES = ("sevenfold", "numpy", "numba", "lmdb", "redis", "hiredis")
READS = 100


def run(repeat: int, scale: float) -> Report:
    """Measure reads of 1, 100 and 500 entities."""
    keys, events = max(600, int(10_000 * scale)), max(6_000, int(600_000 * scale))
    report = Report("online")
    for kind, plan in (("windowed", windowed()), ("attributes", attributes())):
        with tempfile.TemporaryDirectory() as folder:
            _measure(report, kind, plan, Path(folder), (keys, events, repeat))
    results = report.results
    for name in ("lmdb", "redis"):
        for kind, key in (("windowed", "read_500"), ("attributes", "attributes_500")):
            report.ratios[f"{key}_vs_raw_{name}"] = ratio(
                results[f"{kind}_500_{name}_us"], results[f"{kind}_500_raw_{name}_us"]
            )
    report.notes.append(
        f"{keys} keys, {events} events over 30 days; medians of {READS * repeat} reads, taken in turns"
    )
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


def fill(store: Store, engine: OnlineEngine, keys: int, events: int) -> None:
    """Apply 30 days of uniform random events, in batches."""
    rng = np.random.default_rng(3)
    columns = engine.plan.views[0].numbers
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


def _measure(
    report: Report, kind: str, plan: Plan, folder: Path, sizes: tuple[int, int, int]
) -> None:
    keys, events, repeat = sizes
    rng = np.random.default_rng(5)
    with ExitStack() as stack:
        engine, stores = OnlineEngine(plan), _stores(stack, folder, plan, keys, events)
        for size in (1, 100, 500):
            wanted = [
                Texts.of([f"user-{i}" for i in rng.integers(0, keys, size).tolist()])
                for _ in range(READS)
            ]
            contenders = {}
            for name, (store, raw) in stores.items():
                contenders[name] = _ours(store, engine, wanted)
                contenders[f"raw_{name}"] = _ready(raw, plan, wanted)
            for name, taken in side_by_side(contenders, READS * repeat).items():
                report.results[f"{kind}_{size}_{name}_us"] = figure([s * 1e6 for s in taken], "us")


def _stores(
    stack: ExitStack, folder: Path, plan: Plan, keys: int, events: int
) -> dict[str, tuple[Store, Callable[[list[bytes]], Any]]]:
    """Each store, filled and open to read, and how its values are read raw."""
    server = stack.enter_context(redis_server(folder))
    urls = {"lmdb": f"lmdb:{folder / 'store'}", "redis": server.url("bench")}
    stores = {}
    for name, url in urls.items():
        writer = open_store(url)
        fill(writer, OnlineEngine(plan), keys, events)
        writer.close()
        store = open_store(url, readonly=True)
        stack.callback(store.close)
        raw = (
            _raw_redis(stack, server)
            if name == "redis"
            else _raw_lmdb(stack, store, folder / "raw")
        )
        stores[name] = (store, raw)
    return stores


def _ours(store: Store, engine: OnlineEngine, wanted: list[Texts]) -> Callable[[int], Any]:
    """Feature vectors of entities by their key texts."""
    names, t_us = engine.plan.names, np.full(len(wanted[0]), 30 * US_PER_DAY)

    def read(at: int) -> Any:
        with store.read() as txn:
            spine = Spine(t_us, {"user": wanted[at % READS]})
            return engine.read(txn, names, spine).vectors()

    return read


def _ready(
    raw: Callable[[list[bytes]], Any], plan: Plan, wanted: list[Texts]
) -> Callable[[int], Any]:
    view = plan.views[0]
    ready = [key_bytes(key_hashes(view.entities, {"user": k}), view.view_id) for k in wanted]
    return lambda at: raw(ready[at % READS])


def _raw_lmdb(stack: ExitStack, store: Store, path: Path) -> Callable[[list[bytes]], Any]:
    """Bare gets of ready keys, joined, from an environment that holds nothing but the same states."""
    environment = lmdb.open(str(path), map_size=8 << 30, max_dbs=1)
    stack.callback(environment.close)
    states = environment.open_db(b"state")
    with store.read() as txn, environment.begin(db=states, write=True) as copy:
        for key, value in txn.scan("state"):
            copy.put(key, value, append=True)

    def read(keys: list[bytes]) -> bytes:
        with environment.begin(db=states, buffers=True) as txn:
            return b"".join([txn.get(key) for key in keys])

    return read


def _raw_redis(stack: ExitStack, server: RedisServer) -> Callable[[list[bytes]], Any]:
    """One command of a bare client for ready keys, joined."""
    client: Any = Redis("127.0.0.1", server.port)
    stack.callback(client.close)
    return lambda keys: b"".join(client.hmget("{sevenfold:bench}:table:state", keys))
