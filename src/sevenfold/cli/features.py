"""`sevenfold features`: fills rows with features as of then."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sevenfold.cli.home import home_of, home_option
from sevenfold.cli.output import json_option, progress, show

if TYPE_CHECKING:
    from sevenfold.stores.history import StreamHistory
    from sevenfold.types import EventBatch


@click.command("features")
@click.argument("system")
@click.option(
    "--spine",
    type=click.Path(path_type=Path),
    required=True,
    help="Parquet or CSV: a column t, and one for each entity.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Parquet to write.")
@home_option
@click.option(
    "--events",
    "files",
    multiple=True,
    metavar="STREAM=FILE",
    help="Events from a file instead of the store; may be repeated.",
)
@click.option(
    "--feature",
    "wanted",
    multiple=True,
    metavar="NAME",
    help="A feature; may be repeated. Without it, all that the spine has the columns for.",
)
@click.option(
    "--memory",
    type=click.IntRange(min=1),
    default=1024,
    show_default=True,
    metavar="MIB",
    help="What is held of a store's events at a time.",
)
@click.option("--timezone", help="How times of t without an offset are meant, such as UTC.")
@json_option
def command(
    system: str,
    spine: Path,
    out: Path,
    home: Path | None,
    files: tuple[str, ...],
    wanted: tuple[str, ...],
    memory: int,
    timezone: str | None,
) -> None:
    """Fill the rows of a table with features, each as it was at the row's own instant.

    The rows come back all, once, in their order, their own columns untouched; each feature is a float32
    column, null where there is no value. Nothing that became known at t or later is in it.
    """
    from sevenfold.cli.events import pairs
    from sevenfold.cli.history import kept_events
    from sevenfold.cli.load import load_system
    from sevenfold.cli.spine import load_events, read_spine, readable, write_filled
    from sevenfold.engines.offline import read_at
    from sevenfold.features.plan import compile_plan
    from sevenfold.stores.history import HEAD_EVENTS

    declared = load_system(system)
    plan = compile_plan(declared.features)
    given = pairs(files, "STREAM=FILE")
    rows = read_spine(spine, plan, timezone)
    names, left_out = readable(plan, rows, wanted)
    events: Mapping[str, EventBatch | StreamHistory]
    with progress("reading events") as advance:
        if given:
            events = load_events(declared, plan, given, advance)
        else:
            events = kept_events(plan, home_of(home, declared.name), advance, HEAD_EVENTS)
    views = len(plan.readings_for(names))
    with progress("features") as advance:
        done = iter(range(1, views + 1))
        frame = read_at(
            plan, names, rows, events, lambda _: advance(next(done), views), memory << 20
        )
    write_filled(spine, frame, out)
    result = {
        "system": declared.name,
        "rows": len(rows),
        "features": list(names),
        "left_out": left_out,
        "out": str(out),
    }
    lines = [f"{len(rows):,} rows with {len(names)} features in {out}"]
    if left_out:
        lines.append(f"left out, for want of columns in the spine: {', '.join(left_out)}")
    show(result, "\n".join(lines))
