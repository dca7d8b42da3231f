"""The online read beside Feast's sqlite and redis stores: 500 keys x 20 features.

Ours merges the tiles of four windows of count, sum, mean, min and max at the instant of the read, from LMDB beside Feast's
sqlite and from Redis beside its redis. Feast has no windows in these stores: it holds the twenty numbers that ours answers, in one
view, so it looks up one row a key. Both give what they give a caller: ours a matrix, Feast `get_online_features(...).to_dict()`.

They read in turns. A ratio is ours over Feast's: `_wall` of the medians on the clock, `_cpu` of the processor time of the caller and
of the Redis server. On a busy machine the clock is hard on what takes long, so the ratio without an ending is the larger of both.
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
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from redis import Redis

from benchmarks.measure import Report, figure, ratio
from benchmarks.online import fill, windowed
from benchmarks.peers.beside import Peer, PeerError, compare, feast_beside
from sevenfold.engines.online import OnlineEngine
from sevenfold.features.frame import Spine
from sevenfold.stores.kv import Store
from sevenfold.stores.open import open_store
from sevenfold.testing.redis_server import redis_server
from sevenfold.types import US_PER_DAY, Texts

Vectors = npt.NDArray[np.float32]

SIZE, LISTS, ROUNDS, WARM = 500, 20, 20, 5
NOW_US = 30 * US_PER_DAY
PAIRS = {"lmdb": "sqlite", "redis": "redis"}
"""Our store and the one of Feast that it is beside."""


def run(report: Report, python: Path, repeat: int, scale: float) -> None:
    """Add Feast's figures and ours, taken in turns with them."""
    keys, events = max(600, int(10_000 * scale)), max(6_000, int(600_000 * scale))
    rng = np.random.default_rng(11)
    everyone = [f"user-{i}" for i in range(keys)]
    wanted = [[f"user-{i}" for i in rng.integers(0, keys, SIZE).tolist()] for _ in range(LISTS)]
    with tempfile.TemporaryDirectory() as made, ExitStack() as stack:
        folder, engine = Path(made), OnlineEngine(windowed())
        server = stack.enter_context(redis_server(folder))
        client: Any = Redis("127.0.0.1", server.port)
        stack.callback(client.close)
        urls = {"lmdb": f"lmdb:{folder / 'store'}", "redis": server.url("peers")}
        theirs: dict[str, dict[str, Any]] = {
            "sqlite": {"type": "sqlite", "path": str(folder / "feast_online.db")},
            "redis": {"type": "redis", "connection_string": f"127.0.0.1:{server.port}"},
        }
        feast, installed = stack.enter_context(feast_beside(python, folder))
        report.beside |= {"feast": installed["feast"]}
        for ours, name in PAIRS.items():
            store = open_store(urls[ours])
            stack.callback(store.close)
            fill(store, engine, keys, events)
            export(folder / "values.parquet", everyone, read(store, engine, everyone))
            feast.ask("keep", folder=made, name=name, online=theirs[name], wanted=wanted)
            check(feast, name, engine, read(store, engine, wanted[0]))
            watched = client if name == "redis" else None
            both = (_ours(store, engine, wanted), _theirs(feast, name))
            _turns(report, name, ROUNDS * repeat, watched, both)
    report.notes.append(
        f"Feast holds {keys} keys x {len(engine.plan.names)} numbers in one view; medians of {ROUNDS * repeat} reads of "
        f"{SIZE} keys, in turns with ours; all values equal"
    )


def read(store: Store, engine: OnlineEngine, keys: list[str]) -> Vectors:
    """The vectors of `keys`, float32 (n, f)."""
    with store.read() as txn:
        spine = Spine(np.full(len(keys), NOW_US), {"user": Texts.of(keys)})
        return engine.read(txn, engine.plan.names, spine).vectors()


def export(path: Path, keys: list[str], vectors: Vectors) -> None:
    """The vectors as Feast takes them in: a null is null, as it has no other word for it."""
    columns = {f"x{i}": pa.array(column, from_pandas=True) for i, column in enumerate(vectors.T)}
    at = pa.array(np.full(len(keys), NOW_US), pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"user_id": keys, **columns, "event_timestamp": at}), path)


def check(feast: Peer, name: str, engine: OnlineEngine, expected: Vectors) -> None:
    """PeerError unless Feast's store gives what ours gave."""
    found = feast.ask("read", name=name, at=0, values=True)["values"]
    columns = [
        [np.nan if value is None else value for value in found[f"x{i}"]]
        for i in range(len(engine.plan.names))
    ]
    _, differ = compare(expected, np.arange(len(expected)), np.column_stack(columns))
    if differ:
        raise PeerError(f"Feast's {name} store gives other values for {differ} of {SIZE} keys")


@dataclass
class _Timed:
    """A contender: what a read of the keys number `at` takes of the caller, in seconds of clock and of processor."""

    read: Callable[[int], tuple[float, float]]
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def _turns(report: Report, name: str, rounds: int, server: Any, both: Sequence[_Timed]) -> None:
    """Time `rounds` reads of ours and of Feast's after some more; `server` is a client of Redis, or None."""
    for at in range(WARM + rounds):
        for each in both:
            before = server_cpu_s(server)
            wall, cpu = each.read(at % LISTS)
            if at >= WARM:
                each.wall.append(wall)
                each.cpu.append(cpu + server_cpu_s(server) - before)
    key = f"read_500_vs_feast_{name}"
    for kind in ("wall", "cpu"):
        ours, theirs = (figure([s * 1e6 for s in getattr(each, kind)], "us") for each in both)
        report.results[f"feast_{name}_500_{kind}_us"] = theirs
        report.results[f"feast_{name}_500_ours_{kind}_us"] = ours
        report.ratios[f"{key}_{kind}"] = ratio(ours, theirs)
    report.ratios[key] = max(report.ratios[f"{key}_wall"], report.ratios[f"{key}_cpu"])


def server_cpu_s(client: Any) -> float:
    """The processor seconds that the Redis server has taken so far; 0 where there is none."""
    if client is None:
        return 0.0
    used = client.info("cpu")
    return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])


def _ours(store: Store, engine: OnlineEngine, wanted: list[list[str]]) -> _Timed:
    texts = [Texts.of(keys) for keys in wanted]
    t_us, names = np.full(SIZE, NOW_US), engine.plan.names

    def one(at: int) -> tuple[float, float]:
        wall, cpu = time.perf_counter(), time.process_time()
        with store.read() as txn:
            engine.read(txn, names, Spine(t_us, {"user": texts[at]})).vectors()
        return time.perf_counter() - wall, time.process_time() - cpu

    return _Timed(one)


def _theirs(feast: Peer, name: str) -> _Timed:
    def one(at: int) -> tuple[float, float]:
        answer = feast.ask("read", name=name, at=at)
        return answer["wall_s"], answer["cpu_s"]

    return _Timed(one)
