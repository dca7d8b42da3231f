"""`sevenfold serve`: the HTTP server of a system."""

from __future__ import annotations

from pathlib import Path

import click

from sevenfold.cli.home import home_of, home_option
from sevenfold.cli.output import json_option, progress, say, show


class _StopError(Exception):
    """The server was asked to stop."""


def _stop(_number: int, _frame: object) -> None:
    raise _StopError


@click.command("serve")
@click.argument("system")
@home_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8077,
    show_default=True,
    help="0 takes a free one.",
)
@click.option(
    "--token",
    envvar="SEVENFOLD_TOKEN",
    help="What writers must show; without it, the one in HOME/token, made if it is not there.",
)
@click.option(
    "--clock",
    type=click.Choice(["live", "replay"]),
    default="live",
    show_default=True,
    help="replay: requests and events name their instant.",
)
@click.option(
    "--history-head",
    type=click.IntRange(min=0),
    default=200_000,
    show_default=True,
    metavar="EVENTS",
    help="Keep the past by key, for reads as of then, up to so many newest events; 0 keeps none.",
)
@click.option(
    "--admission/--no-admission",
    default=True,
    show_default=True,
    help="Refuse what there is no time for, and answer more cheaply under load; never with --clock replay.",
)
@json_option
def command(
    system: str,
    home: Path | None,
    host: str,
    port: int,
    token: str | None,
    clock: str,
    history_head: int,
    admission: bool,
) -> None:
    """Answer requests over HTTP until stopped.

    Takes events, recommends, ranks and reads features; /openapi.json says how. HOME/server.json tells the
    address once it listens.
    """
    import logging
    import signal
    from contextlib import suppress

    from sevenfold import __version__
    from sevenfold.cli.load import load_system, load_system_anew
    from sevenfold.serving.server import Door, Way, serve

    logging.basicConfig(
        level=logging.INFO,
        format="time=%(asctime)s level=%(levelname)s logger=%(name)s %(message)s",
    )
    declared = load_system(system)
    place = home_of(home, declared.name)
    where = f"http://{host}:{port}" if port else f"a free port of {host}, see {place}/server.json"
    say(f"{declared.name}: serving on {where}")
    # The server drains on these signals and then raises them again, for whoever started it.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    with suppress(_StopError), progress("reading the log") as advance:
        way = Way(clock == "replay", history_head, load_system_anew, admission)
        serve(declared, place, __version__, Door(host, port, token), way, advance)
    show({"system": declared.name, "home": str(place)}, f"{declared.name}: stopped")
