"""`sevenfold ingest`: rows of a file into the log."""

from __future__ import annotations

from pathlib import Path

import click

from sevenfold.cli.home import home_of, home_option, refuse_beside_server, store_url
from sevenfold.cli.output import json_option, progress, show, table


@click.command("ingest")
@click.argument("system")
@click.argument("stream")
@click.argument("file", type=click.Path(path_type=Path))
@home_option
@click.option(
    "--column",
    "renamed",
    multiple=True,
    metavar="FIELD=COLUMN",
    help="A field that the file has under another name; may be repeated.",
)
@click.option(
    "--late", "mode", flag_value="late", help="The rows are known now, not when the stream says."
)
@click.option(
    "--resume", "mode", flag_value="resume", help="Go on with a file whose ingest was interrupted."
)
@json_option
def command(
    system: str,
    stream: str,
    file: Path,
    home: Path | None,
    renamed: tuple[str, ...],
    mode: str | None,
) -> None:
    """Take a Parquet or CSV file of past events into the log.

    Every row becomes an event, is recognised as a duplicate, or becomes a dead letter with its reason. The
    log is in the order in which things became known: a file that begins before its end is refused unless it
    is said what is meant.
    """
    from sevenfold.cli.events import after, field_columns, ingest_file, read_events
    from sevenfold.cli.load import load_system
    from sevenfold.clock import SystemClock
    from sevenfold.engines.online import OnlineEngine
    from sevenfold.serving.definition import Definition
    from sevenfold.serving.ingest import Ingest
    from sevenfold.serving.record import keep_record
    from sevenfold.stores.log import last_known_us, position
    from sevenfold.stores.open import open_store

    declared = load_system(system)
    place = home_of(home, declared.name)
    source = declared.stream(stream)
    columns = field_columns(source, file, renamed)
    refuse_beside_server(place)
    store = open_store(store_url(place, must_exist=False))
    try:
        definition = Definition(declared)
        engine = OnlineEngine(definition.plan)
        ingest = Ingest(store, declared.streams, engine, SystemClock())
        keep_record(store, definition)
        with store.read() as txn:
            end_us = last_known_us(txn) if position(txn) else None
        with progress(f"taking in {file.name}") as advance:
            chunks = read_events(source, file, columns, advance)
            if end_us is not None and mode != "late":
                chunks = after(source, chunks, end_us, mode == "resume")
            taken = ingest_file(ingest, source, chunks, live=mode == "late")
    finally:
        store.close()
    result = {
        "system": declared.name,
        "stream": stream,
        "rows": taken.rows,
        "events": taken.events,
        "duplicates": taken.duplicates,
        "dead_letters": sum(taken.dead.values()),
        "dead_letters_by_reason": dict(taken.dead.most_common()),
        "position": taken.position,
    }
    lines = [
        f"{taken.rows:,} rows: {taken.events:,} events, {taken.duplicates:,} duplicates, "
        f"{sum(taken.dead.values()):,} dead letters; the log ends at {taken.position:,}"
    ]
    if taken.dead:
        lines.append(table(["dead letters", "rows"], taken.dead.most_common()))
    show(result, "\n".join(lines))
