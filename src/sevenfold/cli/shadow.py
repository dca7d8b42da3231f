"""`sevenfold shadow`: a version scores what is answered, and answers nobody."""

from __future__ import annotations

from pathlib import Path

import click

from sevenfold.cli.home import home_option
from sevenfold.cli.output import json_option
from sevenfold.cli.trial import begin_option, registry_of, show_trial


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
    from sevenfold.clock import SystemClock
    from sevenfold.serving.definition import Definition
    from sevenfold.serving.trials import TrialRequest, begin

    declared, place, registry = registry_of(system, home)
    asked = TrialRequest(version, share, on)
    begin(registry, Definition(declared), "shadow", asked, SystemClock().now_us())
    show_trial(declared, place, registry, "shadow")


@command.command("status")
@click.argument("system")
@home_option
@json_option
def status(system: str, home: Path | None) -> None:
    """Show the shadow, how alike it scores, and how the one before it ended."""
    show_trial(*registry_of(system, home), "shadow")


@command.command("promote")
@click.argument("system")
@home_option
@click.option("--reason", required=True, help="Why; kept in the history.")
@json_option
def promoted(system: str, home: Path | None, reason: str) -> None:
    """Make the shadow the champion."""
    from sevenfold.clock import SystemClock
    from sevenfold.serving.trials import EndRequest, promote

    declared, place, registry = registry_of(system, home)
    promote(registry, "shadow", EndRequest(reason), SystemClock().now_us())
    show_trial(declared, place, registry, "shadow")


@command.command("stop")
@click.argument("system")
@home_option
@click.option("--reason", required=True, help="Why; kept in the history.")
@json_option
def stop(system: str, home: Path | None, reason: str) -> None:
    """Have it score no more."""
    from sevenfold.clock import SystemClock
    from sevenfold.serving.trials import EndRequest, finish

    declared, place, registry = registry_of(system, home)
    finish(registry, "shadow", EndRequest(reason), SystemClock().now_us())
    show_trial(declared, place, registry, "shadow")
