"""Files of events, as the commands read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sevenfold.cli.times import written
from sevenfold.errors import InputError
from sevenfold.serving.follow import Taken
from sevenfold.serving.ingest import Ingest, IngestResult
from sevenfold.sources.files import Progress, read_chunks
from sevenfold.sources.known import known_times
from sevenfold.sources.lines import JSON_ENDS, read_columns
from sevenfold.sources.merged import Chunks, in_order
from sevenfold.sources.raw import Raw, taken
from sevenfold.spec.field import CONTENT
from sevenfold.spec.stream import Stream
from sevenfold.spec.units import parse_duration
from sevenfold.types import Instant

__all__ = [
    "Taken",
    "after",
    "field_columns",
    "ingest_file",
    "ingest_together",
    "pairs",
    "read_events",
    "stream_columns",
]


def pairs(given: Sequence[str], what: str) -> dict[str, str]:
    """`NAME=VALUE` arguments by name; InputError for another form or a name given twice."""
    found: dict[str, str] = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not (name and sign and value):
            raise InputError(f"{text!r} is not of the form {what}")
        if name in found:
            raise InputError(f"{name!r} is given twice; give one {what}")
        found[name] = value
    return found


def field_columns(
    stream: Stream, file: Path, renamed: Sequence[str] = ()
) -> Mapping[str, str] | None:
    """The column of the file for each name of the stream; None for all columns under their own names.

    An event named by its content is named by all columns, unless some are renamed: then by the declared.
    """
    if not file.is_file():
        raise InputError(f"there is no file {file}")
    return stream_columns(stream, renamed)


def stream_columns(stream: Stream, renamed: Sequence[str] = ()) -> Mapping[str, str] | None:
    """The same for a source that is no file."""
    others = pairs(renamed, "FIELD=COLUMN")
    names = stream.names()
    unknown = [name for name in others if name not in names]
    if unknown:
        raise InputError(f"stream {stream.name!r} has no {unknown[0]!r}; it has {', '.join(names)}")
    if stream.id == CONTENT and not others:
        return None
    return {name: others.get(name, name) for name in names}


def read_events(
    stream: Stream,
    file: Path,
    columns: Mapping[str, str] | None,
    progress: Progress | None = None,
) -> Chunks:
    """The rows of a file in the order in which they became known; those of a JSON file all at once."""
    if not file.name.endswith(JSON_ENDS):
        return read_chunks(file, columns, order_by=stream.known or stream.time, progress=progress)
    own = None if columns is None else list(columns.values())
    found = read_columns(file, own)
    rows = {name: found[column] for name, column in columns.items()} if columns else found
    known_us, _ = known_times(stream, rows)
    order = np.argsort(known_us, kind="stable")
    return iter([{name: taken(column, order) for name, column in rows.items()}] if rows else [])


def after(stream: Stream, chunks: Chunks, end_us: Instant, resume: bool) -> Chunks:
    """The rows of `chunks` that became known after the log's end.

    Earlier ones would count as known only from now on. With `resume` they are what an interrupted
    ingest has taken, and are left out, but for those of the last horizon, which are told by their ids;
    without, InputError.
    """
    keep_us = end_us - parse_duration(stream.horizon) // 2
    for chunk in chunks:
        known_us, readable = known_times(stream, chunk)
        early = readable & (known_us <= end_us)
        if early.any() and not resume:
            raise InputError(
                f"the log ends at {written(end_us)} and a row was known at "
                f"{written(int(known_us[early].min()))}: it would count as known only from now on. "
                "Give --late if so it was, or --resume to go on with a file taken in before"
            )
        rows = np.flatnonzero(readable & (known_us > keep_us))
        yield ({name: taken(column, rows) for name, column in chunk.items()} if resume else chunk)


def ingest_file(ingest: Ingest, stream: Stream, chunks: Chunks, live: bool = False) -> Taken:
    """What became of the rows of a file; with `live` they are known now, not when the stream says."""
    told = Taken()
    for chunk in chunks:
        _add(told, chunk, ingest.accept(stream.name, chunk, history=not live))
    return told


def ingest_together(
    ingest: Ingest, files: Mapping[str, tuple[Stream, Chunks]]
) -> Mapping[str, Taken]:
    """What became of the rows of files of several streams, taken in in the order in which they became known.

    Each event is enriched by the rows of tables that were known before it, whichever file they are in.
    """
    told = {name: Taken() for name in files}
    for part in in_order(files):
        for name, result in ingest.accept_together(part, history=True).items():
            _add(told[name], part[name], result)
    end = max(one.position for one in told.values())
    for one in told.values():
        one.position = end
    return told


def _add(told: Taken, rows: Mapping[str, Raw], result: IngestResult) -> None:
    told.rows += len(next(iter(rows.values())))
    told.events += result.events
    told.duplicates += result.duplicates
    told.position = result.position
    told.dead.update(refusal.reason for refusal in result.refused)
    told.alerts.update(alert.expectation for alert in result.alerts)
    told.notes.extend(alert.detail for alert in result.alerts)
