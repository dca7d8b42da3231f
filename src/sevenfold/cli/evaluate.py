"""`sevenfold evaluate`: a version against what was served, on logged requests."""

from __future__ import annotations

from pathlib import Path

import click

from sevenfold.cli.home import home_of, home_option, store_url
from sevenfold.cli.output import json_option, show, table


@click.command("evaluate")
@click.argument("system")
@click.argument("version", type=click.IntRange(1), required=False)
@home_option
@click.option(
    "--last", default="14 d", show_default=True, help="How far back from the newest outcome."
)
@json_option
def command(system: str, version: int | None, home: Path | None, last: str) -> None:
    """Judge a version (the champion when none is given) on matured requests, beside the baseline.

    Every feature is computed again by the offline engine, and compared with what was logged.
    """
    from sevenfold.cli.load import load_system
    from sevenfold.loop.workshop import Workshop

    declared = load_system(system)
    place = home_of(home, declared.name)
    store_url(place)
    judged = Workshop(declared, place).evaluate(version, last)
    metrics = {
        model: {metric: [f.estimate, f.low, f.high] for metric, f in found.items()}
        for model, found in judged.metrics.items()
    }
    result = {
        "system": declared.name,
        "requests": judged.requests,
        "metrics": metrics,
        "parity": {"compared": judged.compared, "mismatched": judged.mismatched},
    }
    rows = [
        [model, *(f"{f.estimate:.4f} [{f.low:.4f}, {f.high:.4f}]" for f in found.values())]
        for model, found in judged.metrics.items()
    ]
    names = list(next(iter(judged.metrics.values())))
    parity = f"parity: {judged.compared:,} vectors compared, {judged.mismatched:,} differ"
    show(result, f"{judged.requests:,} requests\n{table(['model', *names], rows)}\n{parity}")
