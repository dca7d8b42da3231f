"""`sevenfold compile`: compiles what a system runs, before it has to."""

from __future__ import annotations

import click

from sevenfold.cli.output import json_option, show


@click.command("compile")
@click.argument("system")
@json_option
def command(system: str) -> None:
    """Compile what a system runs, which takes a minute or two on a new machine and is kept on disk.

    Without it the first server to start does so. Run it where an image is built.
    """
    from sevenfold.cli.load import load_system
    from sevenfold.clock import SystemClock, elapsed_s
    from sevenfold.serving.definition import Definition
    from sevenfold.serving.rehearsal import rehearse

    declared = load_system(system)
    begin_s = elapsed_s()
    rehearse(Definition(declared), SystemClock())
    took_s = round(elapsed_s() - begin_s, 1)
    show({"system": declared.name, "took_s": took_s}, f"compiled in {took_s} s")
