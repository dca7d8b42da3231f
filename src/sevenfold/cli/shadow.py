"""`sevenfold shadow`: a version scores what is answered, and answers nobody."""

from __future__ import annotations

from pathlib import Path

import click

from sevenfold.cli.home import home_option
from sevenfold.cli.output import json_option
from sevenfold.cli.trial import add_status_and_ends, begin_option, begin_trial


@click.group("shadow")
def command() -> None:
    """Have a version score what is answered, after it was answered, and see how alike it scores.

    A server that runs on the home takes all of it over by itself. What it has no time for is dropped and counted.
    """


@command.command("start")
@click.argument("system")
@home_option
@begin_option
@json_option
def start(system: str, home: Path | None, version: int, share: float, on: str | None) -> None:
    """Begin a shadow; of the shadow that there is, change its share."""
    from sevenfold.serving.trials import TrialRequest

    begin_trial(system, home, "shadow", TrialRequest(version, share, on))


add_status_and_ends(
    command,
    "shadow",
    status="Show the shadow, how alike it scores, and how the one before it ended.",
    stop="Have it score no more.",
)
