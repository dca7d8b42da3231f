"""The command `sevenfold`: finds its subcommands, and turns errors into a message and an exit code."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import click

from sevenfold import __version__
from sevenfold.cli.output import fail
from sevenfold.errors import SevenfoldError

__all__ = ["main"]

# In the order in which a system comes to life.
_COMMANDS = (
    "check",
    "search",
    "lineage",
    "ingest",
    "data",
    "dead-letters",
    "features",
    "history",
    "compile",
    "token",
    "serve",
    "diff",
    "change",
    "audit",
    "retain",
    "forget",
    "compact",
    "replay",
    "train",
    "evaluate",
    "models",
    "promote",
    "score",
    "canary",
    "shadow",
    "run",
)


class _Commands(click.Group):
    """Subcommands by name, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of a system's life."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, or None for another name."""
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(
            f"sevenfold.cli.{cmd_name.replace('-', '_')}"
        ).command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error raised on purpose becomes its message and exit code 2."""
        try:
            return super().invoke(ctx)
        except SevenfoldError as error:
            fail(ctx, error)
            sys.exit(2)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 done, 1 the answer is no, 2 not understood or not possible.",
)
@click.version_option(__version__, package_name="sevenfold")
def main() -> None:
    """Declare a ranking system in seven steps and run it as one closed loop.

    SYSTEM is the name of a system that is shipped (shop), a Python file, or a module, with `:name` behind
    it where it holds more than one.
    """
