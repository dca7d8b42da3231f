"""The online read beside Feast's sqlite and redis stores: 500 keys x 20 features.

`read_500`: ours merges the tiles of four windows of count, sum, mean, min and max at the instant of the read. `attributes_500`: it
reads the newest values of 20 fields, which is all that Feast does: it has no windows in these stores and holds the twenty numbers
that ours answers, in one view, so it looks up one row a key. Ours reads LMDB beside its sqlite, and one server of Redis holds
both. Each gives what it gives a caller: ours a matrix, Feast `get_online_features(...).to_dict()`.

They read in turns, four reads each time. The first of them finds the caches of the processor full of what the other has read, which no read of a store under load does: `_first` is the ratio of these, and all else is of the
reads that follow one of their own. A ratio is ours over Feast's: `_wall` of the medians on the clock, `_cpu` of the processor time of the caller and
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
from benchmarks.online import attributes, fill, windowed
from benchmarks.peers.beside import Peer, PeerError, compare, feast_beside
from sevenfold.engines.online import OnlineEngine
from sevenfold.features.frame import Spine
from sevenfold.features.plan import Plan
from sevenfold.stores.kv import Store
from sevenfold.stores.open import open_store
from sevenfold.testing.redis_server import redis_server
from sevenfold.types import US_PER_DAY, Texts

Vectors = npt.NDArray[np.float32]

SIZE, LISTS, ROUNDS, WARM, IN_A_ROW = 500, 20, 20, 5, 4
NOW_US = 30 * US_PER_DAY


def run(report: Report, python: Path, repeat: int, scale: float) -> None:
    """Add Feast's figures and ours, taken in turns with them."""
    keys, events = max(600, int(10_000 * scale)), max(6_000, int(600_000 * scale))
    for kind, plan in (("read_500", windowed()), ("attributes_500", attributes())):
        with tempfile.TemporaryDirectory() as made, ExitStack() as stack:
            folder = Path(made)
            server = stack.enter_context(redis_server(folder))
            feast, installed = stack.enter_context(feast_beside(python, folder))
            report.beside |= {"feast": installed["feast"]}
            for pair in _pairs(stack, folder, server.port):
                fill(pair.store, OnlineEngine(plan), keys, events)
                _measure(report, kind, plan, (feast, pair), (keys, ROUNDS * repeat))
    report.notes.append(
        f"Feast holds {keys} keys x 20 numbers in one view; medians of {ROUNDS * repeat * (IN_A_ROW - 1)} reads of {SIZE} keys, in turns "
        f"with ours, {IN_A_ROW} at a time without the first; all values equal"
    )


@dataclass(frozen=True)
class _Pair:
    """A store of ours and what is beside it: Feast's settings of one, and a client of a server that both use."""

    name: str
    store: Store
    online: dict[str, Any]
    client: Any
    folder: Path


def _pairs(stack: ExitStack, folder: Path, port: int) -> list[_Pair]:
    client: Any = Redis("127.0.0.1", port)
    stack.callback(client.close)
    sqlite = {"type": "sqlite", "path": str(folder / "feast_online.db")}
    redis = {"type": "redis", "connection_string": f"127.0.0.1:{port}"}
    lmdb, ours = (
        open_store(f"lmdb:{folder / 'store'}"),
        open_store(f"redis://127.0.0.1:{port}/0?home=peers"),
    )
    stack.callback(lmdb.close)
    stack.callback(ours.close)
    return [
        _Pair("sqlite", lmdb, sqlite, None, folder),
        _Pair("redis", ours, redis, client, folder),
    ]


def _measure(
    report: Report, kind: str, plan: Plan, both: tuple[Peer, _Pair], sizes: tuple[int, int]
) -> None:
    """Give Feast the numbers that ours answers, check that it gives them back, and time both."""
    (feast, pair), (keys, rounds) = both, sizes
    engine, rng = OnlineEngine(plan), np.random.default_rng(11)
    everyone = [f"user-{i}" for i in range(keys)]
    wanted = [[f"user-{i}" for i in rng.integers(0, keys, SIZE).tolist()] for _ in range(LISTS)]
    export(pair.folder / "values.parquet", everyone, read(pair.store, engine, everyone))
    place = str(pair.folder)
    feast.ask("keep", folder=place, name=pair.name, online=pair.online, wanted=wanted)
    check(feast, pair.name, engine, read(pair.store, engine, wanted[0]))
    ours, theirs = _ours(pair.store, engine, wanted), _theirs(feast, pair.name)
    _turns(rounds, pair.client, (ours, theirs))
    key = f"{kind}_vs_feast_{pair.name}"
    for ending in ("", "_first"):
        for clock in ("wall", "cpu"):
            mine, his = (
                figure([s * 1e6 for s in getattr(each, clock + ending)], "us")
                for each in (ours, theirs)
            )
            report.results[f"{kind}_feast_{pair.name}_{clock}{ending}_us"] = his
            report.results[f"{kind}_beside_{pair.name}_{clock}{ending}_us"] = mine
            report.ratios[f"{key}_{clock}{ending}"] = ratio(mine, his)
        report.ratios[f"{key}{ending}"] = max(
            report.ratios[f"{key}_{clock}{ending}"] for clock in ("wall", "cpu")
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
    """A contender: what a read of the keys number `at` takes of the caller, in seconds of clock and of processor; apart of the first of a turn."""

    read: Callable[[int], tuple[float, float]]
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    wall_first: list[float] = field(default_factory=list)
    cpu_first: list[float] = field(default_factory=list)


def _turns(rounds: int, server: Any, both: Sequence[_Timed]) -> None:
    """Time `rounds` reads of ours and of Feast's after some more; `server` is a client of Redis, or None."""
    for at in range(WARM + rounds):
        for each in both:
            for n in range(IN_A_ROW):
                before = server_cpu_s(server)
                wall, cpu = each.read((at * IN_A_ROW + n) % LISTS)
                if at >= WARM:
                    (each.wall if n else each.wall_first).append(wall)
                    spent = cpu + server_cpu_s(server) - before
                    (each.cpu if n else each.cpu_first).append(spent)


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
