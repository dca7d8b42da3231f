"""`sevenfold compact`: the store's file written anew, without what was deleted."""

from __future__ import annotations

from pathlib import Path

import click

from sevenfold.cli.home import home_of, home_option, refuse_beside_server, store_url
from sevenfold.cli.output import json_option, show


@click.command("compact")
@click.argument("system")
@home_option
@json_option
def command(system: str, home: Path | None) -> None:
    """Write the store's file anew: smaller, and without bytes of what was deleted or overwritten.

    Histories by key are deleted with it, and made again when they are next read. Needs room for a second copy. A server does it at its start when an entity was forgotten.
    """
    from sevenfold.cli.load import load_system
    from sevenfold.serving.cleanse import cleanse
    from sevenfold.serving.server import alone

    declared = load_system(system)
    place = home_of(home, declared.name)
    refuse_beside_server(place)
    store_url(place)
    with alone(place):
        before, after = cleanse(place)
    result = {"system": declared.name, "bytes_before": before, "bytes_after": after}
    show(result, f"{before:,} bytes before, {after:,} after")
