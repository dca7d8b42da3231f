"""`sevenfold train`: a challenger from the logged answers of a home, judged and registered."""

from __future__ import annotations

from pathlib import Path

import click

from sevenfold.cli.home import home_of, home_option, store_url
from sevenfold.cli.output import json_option, say, show


@click.command("train")
@click.argument("system")
@home_option
@click.option(
    "--model", "name", help="The declared model; without it, the one whose role is strong."
)
@click.option("--promote", is_flag=True, help="Let it serve if it passes the gate.")
@json_option
def command(system: str, home: Path | None, name: str | None, promote: bool) -> None:
    """Train a model on matured requests, judge it on the newest, register it.

    Ends with 1 when the gate refuses it; it is registered all the same.
    """
    import sys

    from sevenfold.cli.load import load_system
    from sevenfold.loop.workshop import Workshop

    declared = load_system(system)
    place = home_of(home, declared.name)
    store_url(place)
    workshop = Workshop(declared, place)
    spec = workshop.spec(name)
    say(f"{declared.name}: training {spec.name}")
    made = workshop.train(spec, promote)
    verdict = made.verdict
    result = {
        "system": declared.name,
        "model": spec.name,
        "version": made.version,
        "rows": made.rows,
        "requests": made.requests,
        "passed": verdict.promote,
        "promoted": promote and verdict.promote,
        "reasons": list(verdict.reasons),
    }
    said = "passes the gate" if verdict.promote else "does not pass the gate"
    head = f"{spec.name} version {made.version}, from {made.requests:,} requests: {said}"
    show(result, "\n".join([head, *(f"  {reason}" for reason in verdict.reasons)]))
    sys.exit(0 if verdict.promote else 1)
