"""The point-in-time join of the offline benchmark beside Feast's two local stores.

Ours reads the kept history, Feast its Parquet files; both have the labels in memory and give columns. Its DuckDB store joins
the full scale of the benchmark; its default store (dask) a tenth of the labels and of the events, as it takes more memory than
most machines have for all of them, and ours reads the same tenth there. A ratio is ours over Feast's, in processor seconds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.measure import Report, cpu_times, figure, ratio
from benchmarks.peers.beside import PeerError, compare, feast_beside
from benchmarks.workload import COLUMNS, VIEWS, Workload, keep, make, ours_input, plans
from sevenfold.engines.offline import read_at
from sevenfold.types import Floats, Ints

LABELS, EVENTS = 1_000_000, 10_000_000
DENSITIES = (10, 100)
STORES = {"duckdb": ("duckdb", 1.0), "default": ("dask", 0.1)}
"""By the name in a key: the type of the store and its share of the labels and events."""
MOST_RUNS = 3
FIELDS = {f"v{v}": [f"v{v}_x{i}" for i in range(COLUMNS)] for v in range(VIEWS)}


def run(report: Report, python: Path, repeat: int, scale: float) -> None:
    """Add Feast's figures and ours over the same rows."""
    for name, (store, share) in STORES.items():
        for density in DENSITIES:
            _measure(report, python, (name, store), (density, scale * share, repeat))
        report.ratios[f"last_value_vs_feast_{name}"] = max(
            report.ratios[f"last_value_vs_feast_{name}_{density}"] for density in DENSITIES
        )


def _measure(
    report: Report, python: Path, named: tuple[str, str], sizes: tuple[int, float, int]
) -> None:
    (name, store), (density, scale, repeat) = named, sizes
    plan, _ = plans()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        work = make(int(LABELS * scale), n := int(EVENTS * scale), max(1, n // density), seed=7)
        export(work, folder)
        spine, events = ours_input(work)
        kept = keep(folder / "kept", events)
        del work, events  # Feast needs the memory
        expected = read_at(plan, plan.names, spine, kept).values
        with feast_beside(python, folder) as (feast, installed):
            runs = min(repeat, MOST_RUNS)
            theirs = feast.ask("join", folder=made, store=store, views=FIELDS, repeat=runs)
        missing, differ = compare(expected, *answered(folder / f"{store}_answer.parquet"))
        if differ:
            raise PeerError(f"Feast's {store} store gives another answer on {differ} rows it keeps")
        ours = figure(cpu_times(lambda: read_at(plan, plan.names, spine, kept), repeat), "cpu-s")
    took = figure(theirs["cpu_s"], "cpu-s")
    key = f"feast_{name}_{density}"
    report.beside |= {"feast": installed["feast"]}
    report.results |= {
        f"{key}_cpu_s": took,
        f"{key}_wall_s": figure(theirs["wall_s"], "s"),
        f"{key}_peak_mib": figure([theirs["peak_mib"]], "MiB"),
        f"{key}_lost_rows": figure([missing], "rows"),
        f"{key}_ours_kept_cpu_s": ours,
    }
    report.ratios[f"last_value_vs_feast_{name}_{density}"] = ratio(ours, took)
    report.notes.append(
        f"Feast's {store} store, {density} events a key: {len(expected)} labels x {VIEWS} views of {n} events; "
        f"it leaves out {missing} of the labels; all values of the others are equal"
    )


def export(work: Workload, folder: Path) -> None:
    """The workload as Feast reads it: `labels.parquet` and a file of each view."""
    labels = {"row": np.arange(len(work.label_key)), "user_id": work.label_key}
    pq.write_table(_dated(labels, work.label_us), folder / "labels.parquet")
    for v, (name, fields) in enumerate(FIELDS.items()):
        columns = {"user_id": work.keys[v]} | dict(zip(fields, work.columns[v], strict=True))
        pq.write_table(_dated(columns, work.event_us[v]), folder / f"{name}.parquet")


def answered(path: Path) -> tuple[Ints, Floats]:
    """The rows that Feast answered and their values, null as NaN."""
    table = pq.read_table(path)
    rows = table["row"].to_numpy().astype(np.int64)
    columns = [
        table[field].to_numpy().astype(np.float64) for each in FIELDS.values() for field in each
    ]
    return rows, np.column_stack(columns)


def _dated(columns: Mapping[str, Ints | Floats], at_us: Ints) -> pa.Table:
    at = pa.array(at_us, pa.timestamp("us", "UTC"))
    return pa.table({**columns, "event_timestamp": at})
