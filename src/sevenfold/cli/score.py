"""`sevenfold score`: slates of a population, made ahead into the store."""

from __future__ import annotations

from pathlib import Path

import click

from sevenfold.cli.home import home_of, home_option
from sevenfold.cli.output import json_option, progress, show


@click.command("score")
@click.argument("system")
@home_option
@click.option(
    "--population",
    default="all",
    show_default=True,
    metavar="FILE|all|active=SPAN",
    help="Who: a Parquet or CSV file with a column for each entity of a request, all that the log names, or those "
    "with an event in the last SPAN, such as 30d.",
)
@click.option(
    "--as-of",
    "as_of",
    metavar="T",
    help="The instant that features are read at, such as 2026-03-01T00:00:00Z; now when not given.",
)
@click.option(
    "--k",
    type=click.IntRange(1, 1000),
    help="Items of a slate; without it as many as an answer has, and for the mode hybrid as many candidates as a "
    "cheaper answer has.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the slates to this Parquet or CSV file too.",
)
@click.option(
    "--memory",
    type=click.IntRange(min=1),
    default=1024,
    show_default=True,
    metavar="MIB",
    help="What is held of a store's events at a time, and with a quarter of it of the rows to score.",
)
@json_option
def command(
    system: str,
    home: Path | None,
    population: str,
    as_of: str | None,
    k: int | None,
    out: Path | None,
    memory: int,
) -> None:
    """Make the slates of a population ahead, and have them served.

    Candidates, features and scores are those that the server would give each at that instant, bit for bit. The slates
    are a new table in the store, which takes the place of the one before in one transaction when all of it is there. A
    server may run beside it, and serves the new table from then on if the declaration says so (mode batch or hybrid).
    Killed at it, the same command with the same --as-of goes on where it was.
    """
    from sevenfold.serving.pools import keep_to_one_thread

    keep_to_one_thread()  # before what is imported next

    from sevenfold.batch.score import Wanted, score_population
    from sevenfold.cli.load import load_system
    from sevenfold.cli.times import instant, written
    from sevenfold.clock import SystemClock

    declared = load_system(system)
    place = home_of(home, declared.name)
    now_us = SystemClock().now_us()
    at_us = now_us if as_of is None else instant(as_of)
    with progress("scoring") as advance:

        def told(what: str, done: int, total: int) -> None:
            advance(done, total or None, what)

        wanted = Wanted(population, at_us, k, memory, out)
        scored = score_population(declared, place, wanted, now_us, told)
    table = scored.table
    result = {
        "system": declared.name,
        "table": table.number,
        "population": table.population,
        "keys": table.total,
        "slates": table.slates,
        "k": table.k,
        "as_of": written(table.as_of_us),
        "as_of_us": table.as_of_us,
        "model": table.model,
        "version": table.version,
        "feature_set": table.feature_set,
        "features": table.features,
        "resumed": scored.resumed,
        "out": None if out is None else str(out),
    }
    lines = [
        f"table {table.number}: {table.slates:,} slates of {table.total:,} keys, up to {table.k} items each, "
        f"as of {written(table.as_of_us)}",
        f"by {table.model} version {table.version}"
        if table.version
        else "by the rule: no version serves yet",
    ]
    if scored.resumed:
        lines.append(f"{scored.resumed:,} keys were done by a run that was interrupted")
    if out is not None:
        lines.append(f"written to {out}")
    show(result, "\n".join(lines))
