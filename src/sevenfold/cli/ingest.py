"""`sevenfold ingest`: rows of a file or another source into the log."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sevenfold.cli.home import home_of, home_option, refuse_beside_server, store_url
from sevenfold.cli.output import json_option, progress, say, show, table

if TYPE_CHECKING:
    import threading

    from sevenfold.cli.output import Advance
    from sevenfold.serving.follow import Follower, Taken
    from sevenfold.serving.ingest import Ingest
    from sevenfold.spec.stream import Stream
    from sevenfold.stores.kv import Store


@click.command("ingest")
@click.argument("system")
@click.argument("stream")
@click.argument("source")
@home_option
@click.option(
    "--column",
    "renamed",
    multiple=True,
    metavar="FIELD=COLUMN",
    help="A field that the source has under another name; may be repeated.",
)
@click.option(
    "--with",
    "others",
    multiple=True,
    metavar="STREAM=FILE",
    help="A file of a further stream, taken in together with the first; may be repeated.",
)
@click.option(
    "--late", "mode", flag_value="late", help="The rows are known now, not when the stream says."
)
@click.option(
    "--resume", "mode", flag_value="resume", help="Go on with a file whose ingest was interrupted."
)
@click.option(
    "--follow",
    "poll_s",
    type=click.FloatRange(0.01, 3600),
    is_flag=False,
    flag_value=1.0,
    metavar="[SECONDS]",
    help="Go on with what comes, until stopped; look again every so many seconds, 1 if not said.",
)
@json_option
def command(
    system: str,
    stream: str,
    source: str,
    home: Path | None,
    renamed: tuple[str, ...],
    others: tuple[str, ...],
    mode: str | None,
    poll_s: float | None,
) -> None:
    """Take past events into the log: a Parquet, CSV or JSON file, or another SOURCE by its address.

    Every row becomes an event, is recognised as a duplicate, or becomes a dead letter with its reason. The
    log is in the order in which things became known: a source that begins before its end is refused unless it
    is said what is meant. The pasts of several streams go in by one command, --with STREAM=FILE: all their rows
    in the order in which they became known, so that each event finds what tables said then.
    Addresses: folder:PATH, sqlite:PATH?table=NAME&cursor=COLUMN,
    postgresql://USER@HOST/NAME?table=NAME&cursor=COLUMN, redis+stream://HOST:PORT/DB?stream=KEY,
    kafka:HOST:PORT?topic=NAME. How far an address was read is kept with the events:
    the same command goes on from there.
    """
    from sevenfold.cli.events import pairs
    from sevenfold.cli.load import load_system
    from sevenfold.clock import SystemClock
    from sevenfold.engines.online import OnlineEngine
    from sevenfold.serving.definition import Definition
    from sevenfold.serving.ingest import Ingest
    from sevenfold.serving.record import keep_record
    from sevenfold.serving.sets import keep_sets
    from sevenfold.sources.open import is_address
    from sevenfold.stores.open import open_store

    declared = load_system(system)
    place = home_of(home, declared.name)
    taking = declared.stream(stream)
    refuse_beside_server(place)
    further = {
        name: (declared.stream(name), Path(file))
        for name, file in pairs(others, "STREAM=FILE").items()
    }
    _refuse_modes(is_address(source), mode, poll_s)
    _refuse_with(stream, further, is_address(source), mode)
    address = _address(taking, source, renamed)
    store = open_store(store_url(place, must_exist=False))
    try:
        definition = Definition(declared)
        engine = OnlineEngine(definition.plan)
        ingest = Ingest(store, declared.streams, engine, SystemClock())
        keep_sets(store, definition)
        keep_record(store, definition)
        if further:
            files = {stream: (taking, Path(source)), **further}
            taken = _from_files(ingest, store, files, renamed, mode)
        elif is_address(address):
            taken = {stream: _from_address(ingest, store, taking, address, renamed, mode, poll_s)}
        else:
            taken = {stream: _from_file(ingest, store, taking, Path(source), renamed, mode)}
    finally:
        store.close()
    _show(declared.name, stream, taken)


def _address(stream: Stream, source: str, renamed: tuple[str, ...]) -> str:
    """The address of what was given: a JSON file has one, other files are what they are."""
    from urllib.parse import quote

    from sevenfold.cli.events import field_columns
    from sevenfold.sources.lines import JSON_ENDS
    from sevenfold.sources.open import is_address

    if is_address(source):
        return source
    field_columns(stream, Path(source), renamed)
    return f"file:{quote(source)}?settle=0 s" if source.endswith(JSON_ENDS) else source


def _refuse_modes(address: bool, mode: str | None, poll_s: float | None) -> None:
    from sevenfold.errors import InputError

    if address and mode == "resume":
        raise InputError(
            "--resume is for a file: how far an address was read is kept, and the same command goes on"
        )
    if poll_s is not None and not address:
        raise InputError("--follow is for an address that more comes from, such as folder:PATH")


def _refuse_with(
    stream: str, further: Mapping[str, tuple[Stream, Path]], address: bool, mode: str | None
) -> None:
    """Raise InputError where --with cannot be: rows are put in order by when they became known, once."""
    from sevenfold.errors import InputError

    if not further:
        return
    if stream in further:
        raise InputError(
            f"--with {stream}=...: {stream!r} is taken in already; name another stream"
        )
    if address:
        raise InputError("--with is for files, which have an end; take an address in by itself")
    if mode == "late":
        raise InputError(
            "--late has all rows known now, so there is no order to put them in; take the files in one "
            "after the other, tables first"
        )


def _from_files(
    ingest: Ingest,
    store: Store,
    files: Mapping[str, tuple[Stream, Path]],
    renamed: tuple[str, ...],
    mode: str | None,
) -> Mapping[str, Taken]:
    """What became of the rows of files of several streams; `renamed` are columns of the first."""
    from sevenfold.cli.events import after, field_columns, ingest_together, read_events
    from sevenfold.stores.log import last_known_us, position

    with store.read() as txn:
        end_us = last_known_us(txn) if position(txn) else None
    first = next(iter(files))
    chunks = {}
    with progress(f"taking in {', '.join(files)}") as advance:
        for name, (stream, file) in files.items():
            columns = field_columns(stream, file, renamed if name == first else ())
            found = read_events(stream, file, columns, advance if name == first else None)
            if end_us is not None:
                found = after(stream, found, end_us, mode == "resume")
            chunks[name] = (stream, found)
        return ingest_together(ingest, chunks)


def _from_file(
    ingest: Ingest,
    store: Store,
    stream: Stream,
    file: Path,
    renamed: tuple[str, ...],
    mode: str | None,
) -> Taken:
    """What became of the rows of a file, taken in order of when they became known."""
    from sevenfold.cli.events import after, field_columns, ingest_file, read_events
    from sevenfold.stores.log import last_known_us, position

    columns = field_columns(stream, file, renamed)
    with store.read() as txn:
        end_us = last_known_us(txn) if position(txn) else None
    with progress(f"taking in {file.name}") as advance:
        chunks = read_events(stream, file, columns, advance)
        if end_us is not None and mode != "late":
            chunks = after(stream, chunks, end_us, mode == "resume")
        return ingest_file(ingest, stream, chunks, live=mode == "late")


def _from_address(
    ingest: Ingest,
    store: Store,
    stream: Stream,
    address: str,
    renamed: tuple[str, ...],
    mode: str | None,
    poll_s: float | None,
) -> Taken:
    """What became of the rows of a source; with `poll_s`, of all that came until the process was stopped."""
    import signal
    import threading

    from sevenfold.cli.events import stream_columns
    from sevenfold.clock import SystemClock
    from sevenfold.serving.follow import Follower
    from sevenfold.sources.open import open_source

    columns = stream_columns(stream, renamed)
    source = open_source(address, stream, SystemClock(), columns)
    stop = threading.Event()
    if poll_s is not None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
    follower = Follower(ingest, store, stream, source, mode == "late", poll_s is not None)
    try:
        with progress(f"taking in {source.name}") as advance:
            _run(follower, poll_s, stop, advance)
    finally:
        follower.close()
    return follower.taken


def _run(follower: Follower, poll_s: float | None, stop: threading.Event, advance: Advance) -> None:
    """Take what there is, waiting for parts that are not ready; with `poll_s`, for what comes, until `stop`."""
    from sevenfold.errors import InputError

    told, failed, begun = 0, False, False
    while not stop.is_set():
        try:
            more = follower.step()
            begun, failed = True, False
        except InputError as error:
            if poll_s is None or not begun:
                raise
            if not failed:
                say(f"{follower.source.name}: {error}; trying again")
            more, failed = False, True
        advance(follower.taken.rows)
        for note in follower.taken.notes[told:]:
            say(note)
        told = len(follower.taken.notes)
        if more:
            continue
        if poll_s is None and not follower.source.waiting:
            return
        stop.wait(0.2 if poll_s is None else poll_s)


def _show(system: str, stream: str, taken: Mapping[str, Taken]) -> None:
    told = {name: _told(one) for name, one in taken.items()}
    result = {"system": system, "stream": stream, **told.pop(stream)}
    if told:
        result["with"] = told
    texts = [(f"{name}: " if told else "") + _text(one) for name, one in taken.items()]
    show(result, "\n".join(texts))


def _told(taken: Taken) -> dict[str, Any]:
    return {
        "rows": taken.rows,
        "events": taken.events,
        "duplicates": taken.duplicates,
        "dead_letters": sum(taken.dead.values()),
        "dead_letters_by_reason": dict(taken.dead.most_common()),
        "position": taken.position,
        "alerts": dict(taken.alerts.most_common()),
        "notes": taken.notes,
    }


def _text(taken: Taken) -> str:
    lines = [
        f"{taken.rows:,} rows: {taken.events:,} events, {taken.duplicates:,} duplicates, "
        f"{sum(taken.dead.values()):,} dead letters; the log ends at {taken.position:,}"
    ]
    if taken.dead:
        lines.append(table(["dead letters", "rows"], taken.dead.most_common()))
    if taken.alerts:
        lines.append(table(["not as expected", "batches"], taken.alerts.most_common()))
    return "\n".join(lines)
