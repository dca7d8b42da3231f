"""A real file replayed as if live: taken in by batches in the order in which it became known, read between them.

Whatever the online engine gave is compared, bit for bit, with what the offline engine gives for the same keys and
instants, from the kept history.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np

import sevenfold as sf
from benchmarks.measure import Report, figure
from sevenfold.clock import SystemClock
from sevenfold.engines.offline import read_at
from sevenfold.engines.online import OnlineEngine
from sevenfold.engines.parity import compare
from sevenfold.features.frame import Spine
from sevenfold.features.plan import Plan, compile_plan
from sevenfold.serving.ingest import Counts, Ingest, read_counts
from sevenfold.sources.files import read_chunks
from sevenfold.spec.aggregate import FeatureView
from sevenfold.stores.history import History
from sevenfold.stores.kv import Store
from sevenfold.stores.log import last_known_us, raise_frontier
from sevenfold.stores.open import open_store
from sevenfold.types import Floats, Ints, Texts

__all__ = ["Replayed", "replay"]

BATCH = 20_000
READ = 2_000


@dataclass(frozen=True)
class Replayed:
    """A file to be replayed: its stream, its features and how its rows become those of the stream.

    `query` is SQL over the relation `file`, in the order in which the rows became known.
    """

    stream: sf.Stream
    features: list[FeatureView]
    query: str


def replay(report: Report, what: Replayed, file: Path, scale: float) -> None:
    """Replay the first `scale` of the file; adds throughput, counts and parity to the report."""
    plan = compile_plan(what.features)
    with tempfile.TemporaryDirectory() as folder:
        rows = _prepared(what, file, Path(folder), scale)
        store = open_store(f"lmdb:{Path(folder) / 'store'}")
        try:
            spines, served, took = _live(what, plan, store, rows)
            with store.read() as txn:
                counts = read_counts(txn, [what.stream.name])
            begin = time.process_time()
            again = _as_of_then(plan, store, Path(folder) / "history", spines)
            offline_s = time.process_time() - begin
        finally:
            store.close()
    parity = compare(plan.names, served.astype(np.float32), again.astype(np.float32))
    _tell(report, counts, took, len(served) / offline_s)
    report.results["values_with_a_null_share"] = figure([float(np.isnan(served).mean())], "share")
    report.ratios["parity"] = 1 - parity.mismatched / parity.compared
    report.notes.append(
        f"{parity.compared} vectors of {len(plan.names)} features compared, {parity.mismatched} differ"
        + (f": {parity.by_feature}" if parity.by_feature else "")
    )


def _prepared(what: Replayed, file: Path, folder: Path, scale: float) -> Path:
    """The rows as the stream wants them, as a file."""
    if not file.is_file():
        raise SystemExit(f"no file {file}: give its path with --file")
    out = folder / "rows.parquet"
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("set enable_progress_bar = false")
        source = connection.read_parquet(str(file))
        source.create_view("file")
        total = connection.execute("select count(*) from file").fetchall()[0][0]
        limited = f"select * from ({what.query}) limit {int(total * scale)}"
        connection.execute(f"copy ({limited}) to '{out}' (format parquet)")
    return out


def _live(
    what: Replayed, plan: Plan, store: Store, rows: Path
) -> tuple[Spine, Floats, list[float]]:
    """Take the rows in and read between the batches: what was asked, what was answered, events/s."""
    rng = np.random.default_rng(5)
    engine = OnlineEngine(plan)
    ingest = Ingest(store, {what.stream.name: what.stream}, engine, SystemClock())
    instants, values, took = [], [], []
    keys: dict[str, list[str | None]] = {entity.name: [] for entity in what.stream.keys}
    for chunk in read_chunks(rows, chunk_rows=BATCH):
        begin = time.perf_counter()
        result = ingest.accept(what.stream.name, chunk, history=True)
        took.append(result.events / (time.perf_counter() - begin))
        n = len(next(iter(chunk.values())))
        chosen = rng.integers(0, n, READ)
        asked = {name: _texts(chunk[name], chosen) for name in keys}
        with store.read() as txn:
            t_us = last_known_us(txn) + 1
            spine = Spine(np.full(READ, t_us), asked)
            values.append(engine.read(txn, plan.names, spine).values)
        with store.write() as txn:
            raise_frontier(txn, t_us)
        instants.append(spine.t_us)
        for name, texts in asked.items():
            keys[name] += texts.to_list()
    whole = Spine(np.concatenate(instants), {name: Texts.of(k) for name, k in keys.items()})
    return whole, np.concatenate(values), took


def _texts(column: object, rows: Ints) -> Texts:
    if isinstance(column, Texts):
        return column.take(rows)
    return Texts.of([str(value) for value in np.asarray(column)[rows].tolist()])


def _as_of_then(plan: Plan, store: Store, folder: Path, spine: Spine) -> Floats:
    wanted: dict[str, list[tuple[str, ...]]] = {}
    for view in plan.views:
        wanted.setdefault(view.stream, []).append(view.entities)
    history = History(folder, wanted)
    return read_at(plan, plan.names, spine, history.brought_up(store)).values


def _tell(report: Report, counts: Counts, took: list[float], vectors_per_s: float) -> None:
    steady = took[1:] or took  # the first batch compiles
    report.results["events_per_s"] = figure(steady, "events/s")
    report.results["vectors_per_cpu_s"] = figure([vectors_per_s], "vectors/cpu-s")
    found: Mapping[str, int] = {
        "rows_in": counts.rows_in,
        "events": counts.events,
        "duplicates": counts.duplicates,
        "dead_letters": counts.dead_letters,
    }
    for name, n in found.items():
        report.results[name] = figure([float(n)], "rows")


def run_file(name: str, what: Callable[[], Replayed], scale: float, file: Path | None) -> Report:
    """The report of one file."""
    report = Report(name)
    if file is None:
        raise SystemExit(f"the benchmark {name!r} reads a file: give its path with --file")
    replay(report, what(), file, scale)
    return report
