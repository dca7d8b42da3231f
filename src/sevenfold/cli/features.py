"""`sevenfold features`: fills rows with features as of then."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sevenfold.cli.home import home_of, home_option
from sevenfold.cli.output import json_option, progress, say, show

if TYPE_CHECKING:
    from sevenfold.batch import SpineOptions


@click.command("features")
@click.argument("system")
@click.option(
    "--spine",
    type=click.Path(path_type=Path),
    required=True,
    help="Parquet or CSV: a column t, and one for each entity.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Parquet to write; needed without --explain."
)
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
    help="What is held of a store's events at a time, and with a quarter of it of the spine's rows.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Threads that share the keys; the answer is the same to the bit.",
)
@click.option("--time", default="t", show_default=True, help="The column of instants.")
@click.option("--timezone", help="How times without an offset are meant, such as UTC.")
@click.option(
    "--null-keys",
    type=click.Choice(["refuse", "empty"]),
    default="refuse",
    show_default=True,
    help="What a null key is: refused, or one that nothing is known of.",
)
@click.option(
    "--explain", is_flag=True, help="Say what would be read and what each feature means, and stop."
)
@click.option("--float64", "is_double", is_flag=True, help="Features as float64, not float32.")
@json_option
def command(
    system: str,
    spine: Path,
    out: Path | None,
    home: Path | None,
    files: tuple[str, ...],
    wanted: tuple[str, ...],
    memory: int,
    threads: int,
    time: str,
    timezone: str | None,
    null_keys: Any,
    explain: bool,
    is_double: bool,
) -> None:
    """Fill the rows of a table with features, each as it was at the row's own instant.

    The rows come back all, once, in their order, their own columns untouched; each feature is a float32
    column, null where there is no value. Nothing that became known at t or later is in it. A file larger
    than memory is filled part by part; killed at it, the same command goes on where it was. --explain says what would be done, and computes no feature.
    """
    from sevenfold.batch import Reader
    from sevenfold.cli.events import pairs
    from sevenfold.cli.load import load_system

    if out is None and not explain:
        raise click.UsageError("give --out, a Parquet file to write, or --explain")
    declared = load_system(system)
    given = pairs(files, "STREAM=FILE")
    place = home_of(home, declared.name)
    meant: SpineOptions = {
        "time": time,
        "timezone": timezone,
        "null_keys": null_keys,
        "dtype": "float64" if is_double else "float32",
    }
    with progress("features") as advance:

        def told(what: str, done: int, total: int) -> None:
            advance(done, total, what)

        reader = Reader(
            declared,
            home=None if given else place,
            events=given or None,
            memory_mib=memory,
            threads=threads,
            progress=told,
        )
        if out is None or explain:
            explanation = reader.explain(spine, wanted, **meant)
        else:
            filled = reader.backfill(spine, out, wanted, **meant)
    for stream, reasons in reader.refused.items():
        say(
            f"{sum(reasons.values()):,} rows of {stream} refused, such as: "
            f"{reader.refused_because[stream]}"
        )
    if out is None or explain:
        show({"system": declared.name, **explanation.as_dict()}, str(explanation))
        return
    result = {
        "system": declared.name,
        "rows": filled.rows,
        "features": list(filled.features),
        "left_out": list(filled.left_out),
        "refused": {name: dict(reasons) for name, reasons in reader.refused.items()},
        "resumed": filled.resumed,
        "out": str(out),
    }
    lines = [f"{filled.rows:,} rows with {len(filled.features)} features in {out}"]
    if filled.resumed:
        lines.append(f"{filled.resumed:,} of them were there from a run that was interrupted")
    if filled.left_out:
        lines.append(f"left out, for want of columns in the spine: {', '.join(filled.left_out)}")
    show(result, "\n".join(lines))
