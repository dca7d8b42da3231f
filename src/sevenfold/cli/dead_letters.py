"""`sevenfold dead-letters`: the rows that were refused: looked at, tried again, removed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sevenfold.cli.home import home_of, home_option, refuse_beside_server, store_url
from sevenfold.cli.output import json_option, show, table
from sevenfold.cli.times import written

if TYPE_CHECKING:
    from sevenfold.serving.redrive import Picked
    from sevenfold.spec.system import System

F = TypeVar("F", bound=Callable[..., Any])


def _picking(command: F) -> F:
    """Give a command the options that say which letters are meant."""
    options = (
        click.option("--stream", help="Of this stream only."),
        click.option("--reason", help="Of this reason only."),
        click.option(
            "--older-than", "age", metavar="DURATION", help="Buried at least so long ago: '30 d'."
        ),
    )
    for option in options:
        command = option(command)
    return command


@click.group("dead-letters")
def command() -> None:
    """Look at the rows that were refused, try them again, or remove them.

    A dead letter keeps the row as it came, the reason, where it came from and when.
    """


@command.command("list")
@click.argument("system")
@home_option
@_picking
@click.option("--limit", type=click.IntRange(1, 100_000), default=20, show_default=True)
@json_option
def list_letters(
    system: str,
    home: Path | None,
    stream: str | None,
    reason: str | None,
    age: str | None,
    limit: int,
) -> None:
    """Show the newest letters, and how many there are of each stream and reason."""
    from sevenfold.cli.load import load_system
    from sevenfold.serving.redrive import pick
    from sevenfold.stores.open import open_store

    declared = load_system(system)
    picked = _picked(declared, stream, reason, age)
    store = open_store(store_url(home_of(home, declared.name)), readonly=True)
    counts: Counter[tuple[str, str]] = Counter()
    newest: list[dict[str, Any]] = []
    try:
        for found in pick(store, picked):
            counts.update((one.stream, one.reason) for _, one in found)
            shown = [_letter(key, one) for key, one in found[-limit:]]
            newest = [*newest, *shown][-limit:]
    finally:
        store.close()
    result = {
        "system": declared.name,
        "count": counts.total(),
        "by_reason": [
            {"stream": name, "reason": why, "letters": n} for (name, why), n in counts.most_common()
        ],
        "letters": newest[::-1],
    }
    rows = [[name, why, n] for (name, why), n in counts.most_common()]
    parts = [table(["stream", "reason", "letters"], rows)] if rows else ["no dead letters"]
    parts += [
        f"{one['number']} {one['stream']}, {one['buried'] or 'earlier'}: {one['detail']}\n"
        f"  from {one['origin'] or 'a request'}\n  {one['row']}"
        for one in newest[::-1]
    ]
    show(result, "\n\n".join(parts))


@command.command("redrive")
@click.argument("system")
@home_option
@_picking
@json_option
def redrive_letters(
    system: str, home: Path | None, stream: str | None, reason: str | None, age: str | None
) -> None:
    """Take the rows of letters in again, as known now; what is refused again is a new letter.

    Each letter goes in the transaction in which its row is taken in: a run that is killed doubles nothing.
    """
    from sevenfold.cli.load import load_system
    from sevenfold.clock import SystemClock
    from sevenfold.engines.online import OnlineEngine
    from sevenfold.serving.definition import Definition
    from sevenfold.serving.ingest import Ingest
    from sevenfold.serving.redrive import redrive
    from sevenfold.stores.open import open_store

    declared = load_system(system)
    picked = _picked(declared, stream, reason, age)
    place = home_of(home, declared.name)
    refuse_beside_server(place)
    store = open_store(store_url(place))
    try:
        engine = OnlineEngine(Definition(declared).plan)
        ingest = Ingest(store, declared.streams, engine, SystemClock())
        done = redrive(ingest, store, list(declared.streams), picked)
    finally:
        store.close()
    result = {
        "system": declared.name,
        "letters": done.letters,
        "events": done.events,
        "duplicates": done.duplicates,
        "refused": done.refused,
        "kept": done.kept,
    }
    show(
        result,
        f"{done.letters:,} letters: {done.events:,} events, {done.duplicates:,} duplicates, "
        f"{done.refused:,} refused again, {done.kept:,} left as they are",
    )


@command.command("purge")
@click.argument("system")
@home_option
@_picking
@click.option("--yes", is_flag=True, help="Remove them; without it, only how many is said.")
@json_option
def purge_letters(
    system: str,
    home: Path | None,
    stream: str | None,
    reason: str | None,
    age: str | None,
    yes: bool,
) -> None:
    """Remove letters for good; what was ever counted stays counted."""
    from sevenfold.cli.load import load_system
    from sevenfold.serving.redrive import pick, purge
    from sevenfold.stores.open import open_store

    declared = load_system(system)
    picked = _picked(declared, stream, reason, age)
    place = home_of(home, declared.name)
    if yes:
        refuse_beside_server(place)
    store = open_store(store_url(place), readonly=not yes)
    try:
        count = purge(store, picked) if yes else sum(len(found) for found in pick(store, picked))
    finally:
        store.close()
    said = "removed" if yes else "would be removed: say --yes"
    show({"system": declared.name, "letters": count, "removed": yes}, f"{count:,} letters {said}")


def _picked(declared: System, stream: str | None, reason: str | None, age: str | None) -> Picked:
    from sevenfold.clock import SystemClock
    from sevenfold.serving.redrive import Picked
    from sevenfold.spec.units import parse_duration

    if stream is not None:
        declared.stream(stream)
    before_us = None if age is None else SystemClock().now_us() - parse_duration(age)
    return Picked(stream, reason, before_us)


def _letter(key: bytes, letter: Any) -> dict[str, Any]:
    return {
        "number": int.from_bytes(key, "big"),
        "stream": letter.stream,
        "reason": letter.reason,
        "detail": letter.detail,
        "origin": dict(letter.origin),
        "buried": written(letter.buried_us) if letter.buried_us else None,
        "row": {name: _shown(value) for name, value in letter.row.items()},
    }


def _shown(value: Any) -> Any:
    return repr(value) if isinstance(value, bytes) else value
