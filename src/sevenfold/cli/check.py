"""`sevenfold check`: what is wrong with a declaration, all of it at once."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from sevenfold.cli.output import json_option, problem_rows, show

if TYPE_CHECKING:
    from sevenfold.errors import Problem

_COLOURS = {"error": "red", "warning": "yellow", "info": "blue"}


@click.command("check")
@click.argument("system")
@click.option("--strict", is_flag=True, help="Let warnings be errors.")
@json_option
def command(system: str, strict: bool) -> None:
    """Check a declaration: every problem with its place and what to do.

    Ends with 1 when there is an error.
    """
    from sevenfold.cli.load import load_system
    from sevenfold.errors import SpecError
    from sevenfold.spec.check import check

    problems: Sequence[Problem]
    try:
        problems = check(load_system(system))
    except SpecError as error:
        problems = error.problems
    counts = {
        severity: sum(problem.severity == severity for problem in problems) for severity in _COLOURS
    }
    good = not counts["error"] and not (strict and counts["warning"])
    result = {"system": system, "ok": good, "counts": counts, "problems": problem_rows(problems)}
    show(result, "\n".join([*map(_block, problems), _summary(system, counts)]))
    sys.exit(0 if good else 1)


def _block(problem: Problem) -> str:
    head = click.style(f"{problem.severity:<8}", fg=_COLOURS[problem.severity], bold=True)
    lines = [f"{head}{problem.path}  [{problem.check}]", f"        {problem.message}"]
    if problem.remedy:
        lines.append(f"        → {problem.remedy}")
    return "\n".join(lines)


def _summary(system: str, counts: dict[str, int]) -> str:
    found = [f"{n} {severity}{'s' if n != 1 else ''}" for severity, n in counts.items() if n]
    return f"{system}: {', '.join(found) or 'no problem'}"
