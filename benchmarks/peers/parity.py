"""The parity probe's stream through Feast: pushed into its online and its offline store, then both read as of now.

Feast gets the trips alone: it holds newest values, no windows and no deletes in these stores. Its own rule for two rows at one
instant is the newer `created` of them, which is the arrival here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.measure import Report
from benchmarks.parity import record, wrong
from benchmarks.peers.beside import feast_beside
from benchmarks.probe import KEYS, Push, Value, newest, stream
from sevenfold.testing.redis_server import redis_server


def run(report: Report, python: Path, repeat: int, scale: float) -> None:
    """Add what Feast answers over sqlite and over redis, on the streams that ours had."""
    for name in ("sqlite", "redis"):
        found = [probe(report, python, name, stream(seed, scale)) for seed in range(repeat)]
        record(report, f"feast_{name}", found)
    report.notes.append(
        "Feast: trips alone, pushed to both of its stores, the offline one its default"
    )


def probe(report: Report, python: Path, name: str, pushes: list[Push]) -> dict[str, int]:
    """How many keys differ between Feast's online store of this name and its own join."""
    with tempfile.TemporaryDirectory() as made, ExitStack() as stack:
        folder = Path(made)
        online: dict[str, Any] = {"type": "sqlite", "path": str(folder / "online.db")}
        if name == "redis":
            server = stack.enter_context(redis_server(folder))
            online = {"type": "redis", "connection_string": f"127.0.0.1:{server.port}"}
        export(folder / "events.parquet", pushes)
        feast, installed = stack.enter_context(feast_beside(python, folder))
        report.beside |= {"feast": installed["feast"]}
        keys = [f"d{i}" for i in range(KEYS)]
        got = feast.ask("probe", folder=made, name=name, online=online, keys=keys)
    return compared(newest(pushes), got)


def export(path: Path, pushes: list[Push]) -> None:
    """The trips as Feast takes them in, with the number of the push they belong to."""
    rows = [
        (number, push.arrival_us, row) for number, push in enumerate(pushes) for row in push.trips
    ]
    kind = pa.timestamp("us", "UTC")
    # Within a push a later row is newer; Feast has no order but `created`, which so grows by one from row to row.
    made = [arrival + i for i, (_, arrival, _) in enumerate(rows)]
    columns = {
        "push": [number for number, _, _ in rows],
        "user_id": [row["driver"] for _, _, row in rows],
        "fare": [row["fare"] for _, _, row in rows],
        "number": [row["number"] for _, _, row in rows],
        "event_timestamp": pa.array([row["at"] for _, _, row in rows], kind),
        "created": pa.array(made, kind),
    }
    pq.write_table(pa.table(columns), path)


def compared(truth: Mapping[str, Value], got: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """How many keys differ between the online answer and the default store's, and are wrong in each of the three."""
    read = {
        who: {key: (pair[0], pair[1]) for key, pair in answer.items() if pair is not None}
        for who, answer in got.items()
    }
    return {
        "differ": wrong(read["online"], read["default"]),
        "online_wrong": wrong(truth, read["online"]),
        "offline_wrong": wrong(truth, read["default"]),
        "duckdb_wrong": wrong(truth, read["duckdb"]),
    }
