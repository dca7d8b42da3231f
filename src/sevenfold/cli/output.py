"""What a command prints: text for people, or one line of JSON, last on standard output."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import click

from sevenfold.errors import SevenfoldError, SpecError

__all__ = ["Advance", "fail", "json_option", "problem_rows", "progress", "say", "show", "table"]

F = TypeVar("F", bound=Callable[..., Any])

_JSON = "sevenfold.json"


def json_option(command: F) -> F:
    """Give a command `--json`: everything for people goes to standard error, one object to standard output."""
    return click.option(
        "--json",
        is_flag=True,
        expose_value=False,
        is_eager=True,
        callback=_remember,
        help="Print one line of JSON instead of text.",
    )(command)


def show(result: Mapping[str, Any], text: str) -> None:
    """Print the outcome of a command: `result` as one line of JSON if it was asked for, else `text`."""
    if _wants_json(click.get_current_context()):
        click.echo(json.dumps(result, ensure_ascii=False))
    else:
        click.echo(text)


def fail(ctx: click.Context, error: SevenfoldError) -> None:
    """Print an error: its message to standard error, and as JSON to standard output if that was asked for."""
    if _wants_json(ctx):
        body: dict[str, Any] = {"code": type(error).__name__, "message": str(error)}
        if isinstance(error, SpecError):
            body["problems"] = problem_rows(error.problems)
        click.echo(json.dumps({"error": body}, ensure_ascii=False))
    click.secho("Error: ", fg="red", bold=True, nl=False, err=True)
    click.echo(str(error), err=True)


def problem_rows(problems: Sequence[Any]) -> list[dict[str, str]]:
    """Problems as JSON has them."""
    names = ("severity", "check", "path", "message", "remedy")
    return [{name: getattr(problem, name) for name in names} for problem in problems]


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Rows as columns of text under their heads, numbers to the right.

    >>> print(table(["stream", "events"], [["lines", 1200], ["returns", 7]]))
    stream   events
    lines     1,200
    returns       7
    """
    numeric = [all(isinstance(row[i], int | float) for row in rows) for i in range(len(heads))]
    texts = [list(heads), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in texts) for i in range(len(heads))]
    lines = []
    for row in texts:
        cells = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def say(text: str) -> None:
    """Tell people what is going on, on standard error."""
    click.echo(text, err=True)


class Advance(Protocol):
    """Takes how much is done, of how much where that is known, and of what where that changes."""

    def __call__(self, done: int, total: int | None = None, what: str | None = None) -> None:
        """Move the bar."""
        ...


@contextmanager
def progress(what: str) -> Iterator[Advance]:
    """A bar on standard error where that is a terminal; gives the function that moves it."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)

        def advance(done: int, total: int | None = None, what: str | None = None) -> None:
            bar.update(task, completed=done, total=total, description=what)

        yield advance


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _remember(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    ctx.meta[_JSON] = value


def _wants_json(ctx: click.Context) -> bool:
    return bool(ctx.meta.get(_JSON, False))
