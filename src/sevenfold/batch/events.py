"""Events that are given by hand: through the same door as into a store, into a log that is thrown away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sevenfold.batch.given import is_stream, rows_of
from sevenfold.clock import SystemClock
from sevenfold.engines.online import OnlineEngine
from sevenfold.errors import InputError, NotFoundError
from sevenfold.features.plan import Plan, compile_plan
from sevenfold.hashing import canonical_json, digest
from sevenfold.serving.ingest import Ingest, IngestResult
from sevenfold.sources.files import Progress, read_chunks
from sevenfold.sources.known import known_times
from sevenfold.sources.lines import JSON_ENDS, read_columns
from sevenfold.sources.raw import Raw, taken
from sevenfold.sources.validate import no_events
from sevenfold.spec.field import CONTENT
from sevenfold.spec.stream import Stream
from sevenfold.spec.system import System
from sevenfold.stores.kv import Store
from sevenfold.stores.log import read_stream
from sevenfold.stores.open import open_store
from sevenfold.types import Column, EventBatch, Texts

__all__ = ["GivenEvents", "events_digest", "load_events"]

_AT_ONCE = 1 << 62
_ROWS = 100_000


@dataclass(frozen=True, slots=True, eq=False)
class GivenEvents:
    """Events by stream, in log order, and the rows that were refused: how many by reason, and one sentence."""

    events: Mapping[str, EventBatch]
    refused: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    told: Mapping[str, str] = field(default_factory=dict)


def load_events(
    system: System, plan: Plan, given: Mapping[str, Any], progress: Progress | None = None
) -> GivenEvents:
    """The events of tables and files, after the same checks, order and deduplication as in a store.

    What is an EventBatch already is taken as it is. Raises NotFoundError for a stream that is not declared and
    when there are no events, InputError for what cannot be read.
    """
    ready = {name: found for name, found in given.items() if isinstance(found, EventBatch)}
    tables = {name: found for name, found in given.items() if name not in ready}
    for name in given:
        system.stream(name)
    events: dict[str, EventBatch] = dict(ready)
    results: dict[str, list[IngestResult]] = {}
    if any(system.stream(name).enrich for name in tables):
        _require_tables(system, given)
        rows = {name: _columns(system.stream(name), t, progress) for name, t in tables.items()}
        store, ingest = _door(system)
        together = ingest.accept_together(rows, history=True)
        results = {name: [one] for name, one in together.items()}
        events |= _of_streams(store, plan)
    else:
        for name, table in tables.items():
            # A log for each: in one, what comes second would count as known only after all that came first.
            store, ingest = _door(system)
            stream = system.stream(name)
            results[name] = [
                ingest.accept(name, part, history=True) for part in _parts(stream, table, progress)
            ]
            events |= _of_streams(store, plan)
    if not events:
        raise NotFoundError(f"there are no events of {', '.join(plan.streams)}")
    # What was given, and has no event in it, was given.
    events |= {name: no_events(system.stream(name)) for name in tables if name not in events}
    refused = {
        name: [refusal for part in parts for refusal in part.refused]
        for name, parts in results.items()
    }
    return GivenEvents(
        events,
        {name: dict(Counter(one.reason for one in rows)) for name, rows in refused.items() if rows},
        {name: rows[0].message for name, rows in refused.items() if rows},
    )


def events_digest(events: Mapping[str, EventBatch]) -> str:
    """The digest of all that events say, in their order."""
    found: list[Any] = []
    for name in sorted(events):
        batch = events[name]
        found += [name, _digest(batch.event_us), _digest(batch.known_us)]
        for columns in (batch.keys, batch.fields):
            found += [[column, _digest(columns[column])] for column in sorted(columns)]
    return digest(canonical_json(found))


def _digest(column: Column | npt.NDArray[Any]) -> str:
    if isinstance(column, Texts):
        parts = (column.data[: column.offsets[-1]], column.offsets, column.valid)
        return digest(b"".join(part.tobytes() for part in parts))
    return digest(np.ascontiguousarray(column).tobytes())


def _door(system: System) -> tuple[Store, Ingest]:
    store = open_store("memory:")
    # Only the log is wanted: an engine of an empty plan keeps no state.
    engine = OnlineEngine(compile_plan([], system.data))
    return store, Ingest(store, system.streams, engine, SystemClock())


def _require_tables(system: System, given: Mapping[str, Any]) -> None:
    for name in given:
        tables = {lookup.table.name for lookup in system.stream(name).enrich.values()}
        absent = sorted(tables - given.keys())
        if absent:
            raise InputError(
                f"events of {name!r} are enriched from {absent[0]!r}: give its events too, "
                f"{absent[0]}=..."
            )


def _parts(stream: Stream, table: Any, progress: Progress | None) -> Iterator[Mapping[str, Raw]]:
    """The rows in the order in which they became known, some at a time."""
    if isinstance(table, str | Path) and not _is_json(table):
        by = stream.known or stream.time
        yield from read_chunks(_file(table), _names(stream), by, progress=progress)
        return
    columns = _columns(stream, table, progress)
    known_us, _ = known_times(stream, columns)
    order = np.argsort(known_us, kind="stable")
    for begin in range(0, len(order), _ROWS):
        rows = order[begin : begin + _ROWS]
        yield {name: taken(column, rows) for name, column in columns.items()}


def _columns(stream: Stream, table: Any, progress: Progress | None) -> Mapping[str, Raw]:
    """The columns of the stream; all there are when its events are named by their content."""
    names = _names(stream)
    if isinstance(table, str | Path) and _is_json(table):
        wanted = None if names is None else list(names)
        return read_columns(_file(table), wanted) or {name: [] for name in stream.names()}
    if isinstance(table, str | Path):
        chunks = list(read_chunks(_file(table), names, None, _AT_ONCE, progress))
        return chunks[0] if chunks else {name: [] for name in stream.names()}
    rows = rows_of(table.read_all() if is_stream(table) else table, f"stream {stream.name!r}")
    missing = [name for name in names or () if name not in rows.names]
    if missing:
        raise InputError(
            f"$.{missing[0]}: the events given of stream {stream.name!r} have no such column; there are "
            f"{', '.join(map(str, rows.names)) or 'none'}"
        )
    return {name: rows.column(name) for name in names or rows.names}


def _names(stream: Stream) -> Mapping[str, str] | None:
    return None if stream.id == CONTENT else {name: name for name in stream.names()}


def _is_json(given: Path | str) -> bool:
    return str(given).endswith(JSON_ENDS)


def _file(given: str | Path) -> Path:
    path = Path(given)
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    return path


def _of_streams(store: Store, plan: Plan) -> dict[str, EventBatch]:
    found = {}
    with store.read() as txn:
        for name in plan.streams:
            batch = read_stream(txn, name)
            if batch is not None:
                found[name] = batch
    return found
