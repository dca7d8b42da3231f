"""`sevenfold canary`: a version answers a share of those who ask, under guardrails."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from sevenfold.cli.home import home_option
from sevenfold.cli.output import json_option
from sevenfold.cli.trial import begin_option, registry_of, show_trial


@click.group("canary")
def command() -> None:
    """Have a version answer a share of those who ask, beside the champion and under guardrails.

    A server that runs on the home takes all of it over by itself. It takes a canary that breaks a guardrail back, and
    then the champion answers all again.
    """


@command.command("start")
@click.argument("system")
@home_option
@begin_option
@click.option(
    "--guardrail",
    "guardrails",
    multiple=True,
    metavar="NAME=LIMIT",
    help="A limit other than the usual one, or NAME=off; may be given again.",
)
@json_option
def start(
    system: str,
    home: Path | None,
    version: int,
    share: float,
    on: str | None,
    guardrails: Sequence[str],
) -> None:
    """Begin a canary; of the canary that there is, change its share and its guardrails.

    Who is in is decided by a stable hash: always the same, others in the next canary, and whoever is in stays in when the
    share is raised.
    """
    from sevenfold.clock import SystemClock
    from sevenfold.serving.definition import Definition
    from sevenfold.serving.trials import TrialRequest, begin

    limits = dict(_limit(text) for text in guardrails)
    declared, place, registry = registry_of(system, home)
    asked = TrialRequest(version, share, on, limits)
    begin(registry, Definition(declared), "canary", asked, SystemClock().now_us())
    show_trial(declared, place, registry, "canary")


@command.command("status")
@click.argument("system")
@home_option
@json_option
def status(system: str, home: Path | None) -> None:
    """Show the canary, what its guardrails have seen, and how the one before it ended."""
    show_trial(*registry_of(system, home), "canary")


@command.command("promote")
@click.argument("system")
@home_option
@click.option("--reason", required=True, help="Why; kept in the history.")
@json_option
def promoted(system: str, home: Path | None, reason: str) -> None:
    """Make the canary the champion."""
    from sevenfold.clock import SystemClock
    from sevenfold.serving.trials import EndRequest, promote

    declared, place, registry = registry_of(system, home)
    promote(registry, "canary", EndRequest(reason), SystemClock().now_us())
    show_trial(declared, place, registry, "canary")


@command.command("stop")
@click.argument("system")
@home_option
@click.option("--reason", required=True, help="Why; kept in the history.")
@json_option
def stop(system: str, home: Path | None, reason: str) -> None:
    """Have the champion answer all again."""
    from sevenfold.clock import SystemClock
    from sevenfold.serving.trials import EndRequest, finish

    declared, place, registry = registry_of(system, home)
    finish(registry, "canary", EndRequest(reason), SystemClock().now_us())
    show_trial(declared, place, registry, "canary")


def _limit(text: str) -> tuple[str, float | None]:
    """A limit as it is given: a name and a number, or `off`."""
    name, _, value = text.partition("=")
    if value == "off":
        return name, None
    try:
        return name, float(value)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is no limit: give NAME=NUMBER or NAME=off", param_hint="--guardrail"
        ) from None
