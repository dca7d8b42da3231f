"""`sevenfold history`: keeps the past of each stream by key, for reads as of then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sevenfold.cli.home import home_of, home_option, store_url
from sevenfold.cli.output import json_option, progress, show


@click.command("history")
@click.argument("system")
@home_option
@click.option(
    "--verify", is_flag=True, help="Read every segment through; damaged ones are made again."
)
@click.option(
    "--drop", is_flag=True, help="Delete all segments first: they are made again from the log."
)
@json_option
def command(system: str, home: Path | None, verify: bool, drop: bool) -> None:
    """Bring the history of a home up to its log: what `features` reads, sorted by key.

    It is brought up to date by every read as of then too; run it beforehand, or as often as you like beside
    a server, to have the sorting done when someone waits for it.
    """
    from sevenfold.batch.histories import history_of, kept_events
    from sevenfold.cli.load import load_system
    from sevenfold.features.plan import compile_plan
    from sevenfold.stores.history import HEAD_EVENTS

    declared = load_system(system)
    place = home_of(home, declared.name)
    plan = compile_plan(declared.features)
    history = history_of(place, plan)
    if drop:
        history.drop()
    damaged = history.discard_damaged() if verify else []
    store_url(place)
    with progress("history") as advance:
        events = kept_events(declared, plan, place, HEAD_EVENTS, advance).events
    kept = {
        stream: {
            "+".join(entities): {
                "segments": len(one.segments[entities]),
                "events": sum(map(len, one.segments[entities])),
                "head": 0 if head is None else len(head),
            }
            for entities, head in one.heads.items()
        }
        for stream, one in events.items()
    }
    result: dict[str, Any] = {"system": declared.name, "kept": kept, "damaged": damaged}
    lines = [
        f"{stream} by {key}: {of['events']:,} events in {of['segments']} segments, {of['head']:,} in the log"
        for stream, keys in kept.items()
        for key, of in keys.items()
    ]
    lines += [f"made again, because it was damaged: {path}" for path in damaged]
    show(result, "\n".join(lines) or "the log has no events yet")
