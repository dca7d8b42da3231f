"""Tables of rows to fill: read from a file, filled, and written again."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from sevenfold.cli.events import field_columns, ingest_file, read_events
from sevenfold.clock import SystemClock
from sevenfold.engines.online import OnlineEngine
from sevenfold.errors import InputError, NotFoundError
from sevenfold.features.frame import FeatureFrame, Spine
from sevenfold.features.plan import Plan, compile_plan
from sevenfold.serving.ingest import Ingest
from sevenfold.sources.cells import parse_names
from sevenfold.sources.files import Chunk, Progress, read_chunks
from sevenfold.sources.flaws import Flaws
from sevenfold.sources.raw import RawColumn
from sevenfold.sources.times import LocalTime, parse_times
from sevenfold.spec.system import System
from sevenfold.stores.kv import Store
from sevenfold.stores.log import read_stream
from sevenfold.stores.open import open_store
from sevenfold.types import EventBatch, Texts

__all__ = ["load_events", "read_spine", "readable", "write_filled"]

_TIME = "t"
_AT_ONCE = 1 << 62


def read_spine(path: Path, plan: Plan, timezone: str | None) -> Spine:
    """The rows of a file: instants from the column `t`, keys of the plan's entities, numbers as fields.

    Raises InputError for a file without `t`, and for a time or a key that cannot be read, naming its row.
    """
    chunk = _one_chunk(path)
    if _TIME not in chunk:
        raise InputError(f"{path} has no column 't'; it has {', '.join(chunk)}")
    n = len(next(iter(chunk.values())))
    flaws = Flaws(n)
    zone = LocalTime(timezone) if timezone is not None else None
    raw = {name: RawColumn.of(column) for name, column in chunk.items()}
    t_us = parse_times(raw[_TIME], _TIME, zone, flaws)
    keys = {name: parse_names(name, raw[name], flaws) for name in plan.entities if name in raw}
    told = flaws.told()
    if told:
        row, _, sentence = told[0]
        raise InputError(f"{path}, row {row}: {sentence} ({len(told)} rows in all cannot be read)")
    fields = {
        name: np.ma.filled(column.astype(np.float64), np.nan)
        for name, column in chunk.items()
        if name not in keys and not isinstance(column, Texts) and column.dtype.kind in "biuf"
    }
    fields.pop(_TIME, None)
    return Spine(t_us, keys, fields)


def readable(plan: Plan, rows: Spine, wanted: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """The features to read, and those left out because the spine lacks what they are computed from.

    Raises NotFoundError for a wanted name that is no feature, InputError when one lacks its columns.
    """
    plan.require(wanted)
    left_out: dict[str, str] = {}
    for name in wanted or plan.names:
        missing = _missing(plan, rows, name)
        if missing is not None:
            left_out[name] = missing
    if wanted and left_out:
        name, missing = next(iter(left_out.items()))
        raise InputError(f"feature {name!r} needs a column {missing!r} in the spine")
    names = tuple(name for name in wanted or plan.names if name not in left_out)
    if not names:
        missing = ", ".join(sorted(set(left_out.values())))
        raise InputError(f"the spine has the columns of no feature; it lacks {missing}")
    return names, list(left_out)


def load_events(
    system: System, plan: Plan, files: Mapping[str, str], progress: Progress
) -> dict[str, EventBatch]:
    """The events of files, after the same checks, order and deduplication as in a store."""
    events: dict[str, EventBatch] = {}
    if any(system.stream(name).enrich for name in files):
        return _load_together(system, plan, files, progress)
    for name, file in files.items():
        stream = system.stream(name)
        columns = field_columns(stream, Path(file))
        # A log for each: in one, what comes second would count as known only after all that came first.
        store = open_store("memory:")
        # Only the log is wanted: an engine of an empty plan keeps no state.
        ingest = Ingest(
            store, system.streams, OnlineEngine(compile_plan([], system.data)), SystemClock()
        )
        ingest_file(ingest, stream, read_events(stream, Path(file), columns, progress))
        events |= _of_streams(store, plan)
    return events


def _load_together(
    system: System, plan: Plan, files: Mapping[str, str], progress: Progress
) -> dict[str, EventBatch]:
    """The events of files of which some are enriched by others: one log, in the order of what was known."""
    rows: dict[str, Chunk] = {}
    for name, file in files.items():
        stream = system.stream(name)
        tables = {lookup.table.name for lookup in stream.enrich.values()}
        absent = sorted(tables - files.keys())
        if absent:
            raise InputError(
                f"events of {name!r} are enriched from {absent[0]!r}: give its file too, "
                f"{absent[0]}=FILE"
            )
        columns = field_columns(stream, Path(file))
        chunks: list[Any] = list(read_chunks(file, columns, None, _AT_ONCE, progress))
        rows.update((name, chunk) for chunk in chunks)
    store = open_store("memory:")
    engine = OnlineEngine(compile_plan([], system.data))
    Ingest(store, system.streams, engine, SystemClock()).accept_together(rows, history=True)
    return _of_streams(store, plan)


def write_filled(spine: Path, frame: FeatureFrame, out: Path) -> None:
    """Write the rows of `spine` with the features beside them; whole or not at all.

    Raises InputError when the spine has a column of a feature's name, or `out` cannot be written.
    """
    vectors = frame.vectors()
    computed = {name: np.ascontiguousarray(vectors[:, i]) for i, name in enumerate(frame.names)}
    reader = "read_parquet" if spine.suffix == ".parquet" else "read_csv"
    partial = out.with_name(f".{out.name}.part")
    try:
        with duckdb.connect(config={"threads": 1}) as connection:
            described = connection.execute(f"describe select * from {reader}(?)", [str(spine)])
            own = [str(row[0]) for row in described.fetchall()]
            both = [name for name in own if name in computed]
            if both:
                raise InputError(f"{spine} has a column {both[0]!r} already, as a feature is named")
            connection.register("computed", computed)
            connection.execute(
                f"copy (select * from {reader}(?) positional join computed) to ? (format parquet)",
                [str(spine), str(partial)],
            )
        os.replace(partial, out)
    except (duckdb.Error, OSError) as error:
        partial.unlink(missing_ok=True)
        raise InputError(f"{out} cannot be written: {error}") from error


def _one_chunk(path: Path) -> Chunk:
    chunks: list[Any] = list(read_chunks(path, chunk_rows=_AT_ONCE))
    if not chunks:
        raise InputError(f"{path} has no rows")
    return dict(chunks[0])


def _missing(plan: Plan, rows: Spine, name: str) -> str | None:
    """A column that a feature needs and the spine has not."""
    for needed in plan.inputs([name]):
        reading = plan.reading_by_feature.get(needed)
        if reading is not None:
            absent = [entity for entity in reading.entities if entity not in rows.keys]
            if absent:
                return absent[0]
        elif needed in plan.feature_by_state:
            continue
        elif needed not in plan.on_demand_by_name and needed not in (*rows.fields, "request_time"):
            return needed
    return None


def _of_streams(store: Store, plan: Plan) -> dict[str, EventBatch]:
    events = {}
    with store.read() as txn:
        for name in plan.streams:
            batch = read_stream(txn, name)
            if batch is not None:
                events[name] = batch
    if not events:
        raise NotFoundError(f"there are no events of {', '.join(plan.streams)}")
    return events
