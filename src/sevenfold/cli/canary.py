"""`sevenfold canary`: a version answers a share of those who ask, under guardrails."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from sevenfold.cli.home import home_option
from sevenfold.cli.output import json_option
from sevenfold.cli.trial import add_status_and_ends, begin_option, begin_trial


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
    from sevenfold.serving.trials import TrialRequest

    limits = dict(_limit(text) for text in guardrails)
    begin_trial(system, home, "canary", TrialRequest(version, share, on, limits))


add_status_and_ends(
    command,
    "canary",
    status="Show the canary, what its guardrails have seen, and how the one before it ended.",
    stop="Have the champion answer all again.",
)


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
