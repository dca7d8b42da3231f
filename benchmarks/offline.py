"""The point-in-time join: ours against DuckDB's ASOF join and Polars' join_asof on the same rows.

A million labels ask for the last values of three views, five columns each, of ten million events a view, at 10
and at 100 events a key. All contenders must give the same values, which is checked. `cold` starts from columns in
memory, as the peers do; `kept` reads segments by key from disk. `windowed` adds four windows of count, sum, mean,
min and max, which neither peer has as of an instant. A ratio is the larger one of both densities; `_10` and
`_100` are those of each. `peak_of_bound` is the memory of a process that reads five times its bound.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import duckdb
import numpy as np
import polars as pl

from benchmarks.measure import Report, cpu_times, figure, ratio
from benchmarks.workload import COLUMNS, VIEWS, Workload, keep, make, ours_input, plans
from sevenfold.engines.offline import read_at
from sevenfold.types import Floats

PACKAGES = ("sevenfold", "numpy", "numba", "duckdb", "polars")
LABELS, EVENTS = 1_000_000, 10_000_000
DENSITIES = (10, 100)
BOUND_MIB = 360
"""What the process of the memory test may hold at its peak, interpreter and libraries among it."""


def run(repeat: int, scale: float) -> Report:
    """Measure the join."""
    report = Report("offline")
    for density in DENSITIES:
        measure(report, repeat, scale, density)
    for name in sorted({key.rsplit("_", 1)[0] for key in report.ratios}):
        report.ratios[name] = max(report.ratios[f"{name}_{density}"] for density in DENSITIES)
    labels, events = int(LABELS * scale), int(EVENTS * scale)
    report.notes.append(f"{labels} labels x {VIEWS} views of {events} events")
    return report


def measure(report: Report, repeat: int, scale: float, density: int) -> None:
    """All contenders at `density` events a key."""
    events_n = int(EVENTS * scale)
    work = make(int(LABELS * scale), events_n, max(1, events_n // density), seed=7)
    last, windowed = plans()
    spine, events = ours_input(work)
    with tempfile.TemporaryDirectory() as folder:
        build = cpu_times(lambda: keep(Path(folder), events), 1, warm=0)
        kept = keep(Path(folder), events)
        expected = read_at(last, last.names, spine, events).values
        check(expected, read_at(last, last.names, spine, kept).values, "the kept history")
        check(expected, duckdb_asof(work), "DuckDB")
        check(expected, polars_asof(work), "Polars")
        runs = {
            "last_value_ours": lambda: read_at(last, last.names, spine, events),
            "last_value_kept": lambda: read_at(last, last.names, spine, kept),
            "last_value_duckdb_asof": lambda: duckdb_asof(work),
            "last_value_polars": lambda: polars_asof(work),
            "windowed_ours": lambda: read_at(windowed, windowed.names, spine, events),
            "windowed_kept": lambda: read_at(windowed, windowed.names, spine, kept),
        }
        took = {name: figure(cpu_times(one, repeat), "cpu-s") for name, one in runs.items()}
        if density == DENSITIES[-1]:
            peak, held = memory(Path(folder), scale)
            report.results["peak_mib"] = figure([peak], "MiB")
            report.results["input_mib"] = figure([held], "MiB")
            report.ratios |= {f"peak_of_bound_{d}": peak / BOUND_MIB for d in DENSITIES}
    report.results |= {f"{name}_{density}_cpu_s": result for name, result in took.items()}
    report.results[f"build_{density}_cpu_s"] = figure(build, "cpu-s")
    duck, ours = took["last_value_duckdb_asof"], took["last_value_ours"]
    report.ratios |= {
        f"last_value_vs_duckdb_asof_{density}": ratio(ours, duck),
        f"last_value_kept_vs_duckdb_asof_{density}": ratio(took["last_value_kept"], duck),
        f"last_value_vs_polars_{density}": ratio(ours, took["last_value_polars"]),
        f"windowed_vs_last_value_{density}": ratio(took["windowed_ours"], ours),
        f"windowed_vs_duckdb_asof_{density}": ratio(took["windowed_ours"], duck),
    }


def memory(folder: Path, scale: float) -> tuple[float, float]:
    """The peak of a process of its own that reads the segments, and the size of what it reads, in MiB."""
    command = [sys.executable, "-m", "benchmarks.bounded", str(folder), str(BOUND_MIB), str(scale)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    held = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return float(done.stdout), held / (1 << 20)


def duckdb_asof(work: Workload) -> Floats:
    """DuckDB's ASOF LEFT JOIN with a strict bound, in the labels' order."""
    out = []
    with duckdb.connect() as connection:
        connection.execute("set enable_progress_bar = false")
        labels = {"row": np.arange(len(work.label_key)), "k": work.label_key, "t": work.label_us}
        connection.register("labels", labels)
        for v in range(VIEWS):
            events = {"k": work.keys[v], "e": work.event_us[v]}
            events |= {f"x{i}": work.columns[v][i] for i in range(COLUMNS)}
            connection.register("events", events)
            names = ", ".join(f"x{i}" for i in range(COLUMNS))
            query = (
                f"select {names} from labels l asof left join events e "
                "on l.k = e.k and l.t > e.e order by row"
            )
            got = connection.execute(query).fetchnumpy()
            out += [np.ma.filled(got[f"x{i}"].astype(np.float64), np.nan) for i in range(COLUMNS)]
    return np.column_stack(out)


def polars_asof(work: Workload) -> Floats:
    """Polars' backward join_asof without exact matches, in the labels' order."""
    labels = pl.DataFrame({"k": work.label_key, "t": work.label_us}).with_row_index("row").sort("t")
    joined = []
    for v in range(VIEWS):
        columns = {f"x{i}": work.columns[v][i] for i in range(COLUMNS)}
        events = pl.DataFrame({"k": work.keys[v], "t": work.event_us[v], **columns})
        found = labels.join_asof(
            events,
            on="t",
            by="k",
            strategy="backward",
            allow_exact_matches=False,
            check_sortedness=False,
        )
        joined.append(found.sort("row").select(list(columns)).to_numpy())
    return np.hstack(joined)


def check(expected: Floats, got: Floats, who: str) -> None:
    """Refuse to time answers that differ."""
    if not np.array_equal(expected, got, equal_nan=True):
        differ = int((~np.isclose(expected, got, equal_nan=True)).any(axis=1).sum())
        raise AssertionError(f"{who} gives another answer on {differ} of {len(expected)} rows")
