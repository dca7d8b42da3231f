"""`sevenfold change`: a running server takes over another declaration, without a pause."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sevenfold.cli.home import home_of, home_option, require_admin, server_of
from sevenfold.cli.output import json_option, progress, show

_POLL_S = 0.1


@click.command("change")
@click.argument("system")
@home_option
@click.option(
    "--without-model",
    is_flag=True,
    help="Switch as soon as the states are filled, though the model that serves reads other definitions.",
)
@click.option("--no-wait", is_flag=True, help="Return when it has begun.")
@click.option("--status", "only_status", is_flag=True, help="Only say how far a change is.")
@json_option
def command(
    system: str, home: Path | None, without_model: bool, no_wait: bool, only_status: bool
) -> None:
    """Change the server that runs on a home to SYSTEM, while it serves.

    The states of new and altered views are filled from the log beside the answers; then the server switches
    in one step. Where the model that serves reads a definition that is altered, it goes on serving on the
    old one until a version that reads the new one is promoted. Ends with 1 when the change fails.
    """
    import sys
    import time

    from sevenfold.cli.load import load_system
    from sevenfold.loop.client import admin_client
    from sevenfold.serving.order import ChangeOrder, write_order

    declared = load_system(system)
    place = home_of(home, declared.name)
    require_admin(server_of(place), place)
    client = admin_client(place)
    try:
        if not only_status:
            write_order(place, ChangeOrder(_absolute(system), without_model))
            client.post("/v1/change", {})
        status = client.get("/v1/change")
        with progress("filling states") as advance:
            while status["state"] == "filling" and not (no_wait or only_status):
                advance(status["done"], status["total"])
                time.sleep(_POLL_S)
                status = client.get("/v1/change")
    finally:
        client.close()
    show({"system": declared.name, **status}, _text(status))
    sys.exit(1 if status["state"] == "failed" else 0)


def _absolute(system: str) -> str:
    """The declaration as the server finds it too, wherever that was started."""
    place, colon, attribute = system.partition(":")
    return f"{Path(place).resolve()}{colon}{attribute}" if place.endswith(".py") else system


def _text(status: dict[str, Any]) -> str:
    head = f"definition {status['serving']} serves"
    if status["state"] == "none":
        return head
    views = ", ".join(status["views"]) or "no view"
    lines = [head, f"{status['state']}: {status['target']} ({views})"]
    if status["state"] == "filling":
        lines[-1] += f", {status['done']:,} of {status['total']:,} events"
    if status["reason"]:
        lines.append(str(status["reason"]))
    return "\n".join(lines)
