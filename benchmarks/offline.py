"""The point-in-time join: ours against DuckDB's ASOF join and Polars' join_asof on the same rows.

A million labels ask for the last values of three views, five columns each, of a million events a view (100,000
keys). All contenders start from the same columns in memory and must give the same values, which is checked.
`windowed` adds four windows of count, sum, mean, min and max, which neither peer does as of an instant.
"""

from __future__ import annotations

from dataclasses import dataclass

import duckdb
import numpy as np
import polars as pl

import sevenfold as sf
from benchmarks.measure import Report, cpu_times, figure, ratio
from sevenfold.engines.offline import read_at
from sevenfold.features.frame import Spine
from sevenfold.features.plan import Plan, compile_plan
from sevenfold.types import EventBatch, Floats, Ints, Texts

PACKAGES = ("sevenfold", "numpy", "numba", "duckdb", "polars")
VIEWS, COLUMNS = 3, 5
DAY_US = 86_400_000_000
WINDOWS = ("1 h", "24 h", "7 d", "30 d")


@dataclass(frozen=True)
class Workload:
    """Labels and events as columns; keys are whole numbers."""

    label_key: Ints
    label_us: Ints
    keys: list[Ints]
    event_us: list[Ints]
    columns: list[list[Floats]]


def run(repeat: int, scale: float) -> Report:
    """Measure the join."""
    rows = int(1_000_000 * scale)
    work = make(rows, rows, max(1, rows // 10), seed=7)
    last, windowed = plans()
    spine, events = ours_input(work)
    expected = read_at(last, last.names, spine, events).values
    check(expected, duckdb_asof(work), "DuckDB")
    check(expected, polars_asof(work), "Polars")
    report = Report("offline")
    runs = {
        "last_value_ours": lambda: read_at(last, last.names, spine, events),
        "last_value_duckdb_asof": lambda: duckdb_asof(work),
        "last_value_polars": lambda: polars_asof(work),
        "windowed_ours": lambda: read_at(windowed, windowed.names, spine, events),
    }
    for name, contender in runs.items():
        report.results[f"{name}_cpu_s"] = figure(cpu_times(contender, repeat), "cpu-s")
    took = report.results
    ours = took["last_value_ours_cpu_s"]
    report.ratios["last_value_vs_duckdb_asof"] = ratio(ours, took["last_value_duckdb_asof_cpu_s"])
    report.ratios["last_value_vs_polars"] = ratio(ours, took["last_value_polars_cpu_s"])
    report.ratios["windowed_vs_last_value"] = ratio(took["windowed_ours_cpu_s"], ours)
    report.notes.append(
        f"{rows} labels x {VIEWS} views of {rows} events, {max(1, rows // 10)} keys"
    )
    return report


def make(labels: int, events: int, keys: int, seed: int) -> Workload:
    """Uniform random keys and instants over 90 days; events of a view have different instants."""
    rng = np.random.default_rng(seed)
    instants = [np.sort(rng.choice(90 * DAY_US, events, replace=True)) for _ in range(VIEWS)]
    return Workload(
        rng.integers(0, keys, labels),
        rng.integers(30 * DAY_US, 90 * DAY_US, labels),
        [rng.integers(0, keys, events) for _ in range(VIEWS)],
        instants,
        [[rng.normal(size=events) for _ in range(COLUMNS)] for _ in range(VIEWS)],
    )


def plans() -> tuple[Plan, Plan]:
    """The plan of the last values, and that of the windows."""
    user = sf.Entity("user")
    fields = {f"x{i}": sf.Number() for i in range(COLUMNS)}
    streams = [sf.Stream(f"s{v}", time="at", keys=[user], fields=fields) for v in range(VIEWS)]
    last = [
        sf.aggregate(user, stream, *(sf.last(name) for name in fields), name=stream.name)
        for stream in streams
    ]
    kinds = (sf.sum, sf.mean, sf.min, sf.max)
    windowed = [
        sf.aggregate(
            user,
            stream,
            sf.count(windows=WINDOWS),
            *(kind("x0", windows=WINDOWS) for kind in kinds),
            name=stream.name,
        )
        for stream in streams
    ]
    return compile_plan(last), compile_plan(windowed)


def ours_input(work: Workload) -> tuple[Spine, dict[str, EventBatch]]:
    """The workload as our engine takes it; the keys become text once, as they are in a log."""
    spine = Spine(work.label_us, {"user": Texts.of(list(map(str, work.label_key.tolist())))})
    events = {}
    for v in range(VIEWS):
        n = len(work.keys[v])
        empty = Texts(np.empty(0, np.uint8), np.zeros(n + 1, np.int64), np.ones(n, np.bool_))
        events[f"s{v}"] = EventBatch(
            f"s{v}",
            work.event_us[v],
            work.event_us[v],
            empty,
            {"user": Texts.of(list(map(str, work.keys[v].tolist())))},
            {f"x{i}": work.columns[v][i] for i in range(COLUMNS)},
        )
    return spine, events


def duckdb_asof(work: Workload) -> Floats:
    """DuckDB's ASOF LEFT JOIN with a strict bound, in the labels' order."""
    out = []
    with duckdb.connect() as connection:
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
