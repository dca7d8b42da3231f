"""What the commands of a canary and of a shadow share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from sevenfold.cli.home import home_of, home_option
from sevenfold.cli.output import json_option, show, table
from sevenfold.cli.times import written

if TYPE_CHECKING:
    from sevenfold.registry.registry import Registry
    from sevenfold.registry.trial import Kind
    from sevenfold.serving.shadow import ShadowReport
    from sevenfold.serving.trials import TrialAnswer, TrialRequest
    from sevenfold.spec.system import System

__all__ = ["add_status_and_ends", "begin_option", "begin_trial"]

F = TypeVar("F", bound=Callable[..., Any])


def begin_option(command: F) -> F:
    """Give a command what a trial begins with."""
    options = (
        click.option(
            "--on",
            metavar="ENTITY",
            help="Whose keys decide who is in; without it, those of the first entity of a request.",
        ),
        click.option(
            "--share",
            type=click.FloatRange(0, 1, min_open=True),
            required=True,
            help="What part of them is in.",
        ),
        click.option("--version", type=click.IntRange(1), required=True, help="The version."),
    )
    for option in options:
        command = option(command)
    return command


def begin_trial(system: str, home: Path | None, kind: Kind, asked: TrialRequest) -> None:
    """Begin a trial, or change the one that there is, and print it."""
    from sevenfold.clock import SystemClock
    from sevenfold.serving.definition import Definition
    from sevenfold.serving.trials import begin

    declared, place, registry = _registry_of(system, home)
    begin(registry, Definition(declared), kind, asked, SystemClock().now_us())
    _show_trial(declared, place, registry, kind)


def add_status_and_ends(group: click.Group, kind: Kind, status: str, stop: str) -> None:
    """Give a group its commands `status`, `promote` and `stop`; what they do is said by `status` and `stop`."""
    reason = click.option("--reason", required=True, help="Why; kept in the history.")

    @group.command("status", help=status)
    @click.argument("system")
    @home_option
    @json_option
    def shown(system: str, home: Path | None) -> None:
        _show_trial(*_registry_of(system, home), kind)

    @group.command("promote", help=f"Make the {kind} the champion.")
    @click.argument("system")
    @home_option
    @reason
    @json_option
    def promoted(system: str, home: Path | None, reason: str) -> None:
        from sevenfold.serving.trials import promote

        _end(system, home, kind, promote, reason)

    @group.command("stop", help=stop)
    @click.argument("system")
    @home_option
    @reason
    @json_option
    def stopped(system: str, home: Path | None, reason: str) -> None:
        from sevenfold.serving.trials import finish

        _end(system, home, kind, finish, reason)


def _end(
    system: str, home: Path | None, kind: Kind, end: Callable[..., object], reason: str
) -> None:
    from sevenfold.clock import SystemClock
    from sevenfold.serving.trials import EndRequest

    declared, place, registry = _registry_of(system, home)
    end(registry, kind, EndRequest(reason), SystemClock().now_us())
    _show_trial(declared, place, registry, kind)


def _registry_of(system: str, home: Path | None) -> tuple[System, Path, Registry]:
    """The declaration, its home and the registry in it; RunError where there is none."""
    from sevenfold.cli.load import load_system
    from sevenfold.errors import RunError
    from sevenfold.registry.registry import Registry

    declared = load_system(system)
    place = home_of(home, declared.name)
    if not (place / "registry").is_dir():
        raise RunError(f"no registry in {place}: a model is registered when it is trained")
    return declared, place, Registry(place / "registry")


def _show_trial(declared: System, place: Path, registry: Registry, kind: Kind) -> None:
    """Print the trial of a kind, with what the store has kept of it."""
    import msgspec

    from sevenfold.registry.trial import read_trial
    from sevenfold.serving.referee import read_evidence
    from sevenfold.serving.trials import told, told_shadow
    from sevenfold.stores.open import open_store

    trial = read_trial(registry, kind)
    if trial is not None and (place / "store" / "data.mdb").exists():
        store = open_store(f"lmdb:{place / 'store'}", readonly=True)
        try:
            with store.read() as txn:
                if kind == "canary":
                    answer = told(registry, kind, read_evidence(txn, trial.id))
                else:
                    answer = told_shadow(registry, txn)
        finally:
            store.close()
    else:
        answer = told(registry, kind, None) if kind == "canary" else told_shadow(registry, None)
    built: Mapping[str, Any] = msgspec.to_builtins(answer)
    show({"system": declared.name, "kind": kind, **built}, _text(kind, answer))


def _text(kind: str, answer: TrialAnswer) -> str:
    lines = []
    if answer.state == "none":
        lines.append(f"no {kind}: the champion answers all")
    else:
        whose = f"the keys of {answer.on}" if answer.on else "requests"
        lines.append(
            f"{kind}: version {answer.version} beside version {answer.champion}, {answer.share:.1%} of {whose}, "
            f"since {written(answer.started_us)}"
        )
    if answer.guardrails:
        rows = [
            [
                one.name,
                "off" if one.limit is None else f"{one.limit:g}",
                one.seen,
                "-" if one.champion is None else f"{one.champion:.4g}",
                one.answers,
                f"{one.evidence:.0%}",
            ]
            for one in answer.guardrails
        ]
        lines.append(
            f"judged: {answer.answers['canary']:,} and {answer.answers['champion']:,} answers"
        )
        lines.append(
            table(["guardrail", "limit", "canary", "champion", "answers", "evidence"], rows)
        )
    if answer.scored is not None:
        lines += _scored(answer.scored)
    if answer.last is not None:
        lines.append(
            f"before it: version {answer.last.version}, {written(answer.last.at_us)}: {answer.last.reason}"
        )
    return "\n".join(lines)


def _scored(found: ShadowReport) -> list[str]:
    """What the table says of a shadow, as text."""
    lines = [f"scored: {found.answers:,} answers, {found.rows:,} rows, {found.failed:,} failed"]
    if found.overlap is not None:
        alike = "-" if found.correlation is None else f"{found.correlation:.3f}"
        lines.append(
            f"rank correlation {alike}, {found.overlap:.1%} of the first k the same, the first item the same in "
            f"{found.same_first:.1%}"
        )
        heads = [f"p{float(level) * 100:g}" for level in found.difference]
        rows = [
            ["score less the champion's", *found.difference.values()],
            ["microseconds a row", *found.row_us.values()],
        ]
        lines.append(table(["", *heads], rows))
    return lines
