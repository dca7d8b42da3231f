"""`sevenfold replay`: a recorded file of rows and one of requests, sent to a server in order of time."""

from __future__ import annotations

from pathlib import Path

import click

from sevenfold.cli.home import home_of, home_option
from sevenfold.cli.output import json_option, progress, show


@click.command("replay")
@click.argument("system")
@click.argument("stream")
@click.argument("rows", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("requests", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@home_option
@json_option
def command(system: str, stream: str, rows: Path, requests: Path, home: Path | None) -> None:
    """Send recorded ROWS of STREAM and REQUESTS (Parquet or CSV) to the server that runs on the home.

    The server must run with `--clock replay`. REQUESTS has the columns request_id, t and one for each
    entity of a query. What was sent before is recognised, so an interrupted replay can be run again.
    """
    from sevenfold.cli.load import load_system
    from sevenfold.loop.recorded import read_world, running_client
    from sevenfold.loop.replay import Cursor, Replay

    declared = load_system(system)
    world = read_world(declared, stream, rows, requests)
    client = running_client(home_of(home, declared.name))
    try:
        with progress("requests") as advance:
            replay = Replay(
                world,
                client,
                declared.task.k,
                Cursor(),
                lambda cursor: advance(cursor.request, len(world.requests)),
            )
            last_us = max(int(world.arrival_us[-1]), int(world.requests.t_us[-1])) + 1
            sent = replay.advance(last_us)
    finally:
        client.close()
    result = {"system": declared.name, "rows": len(world), "requests": sent}
    show(result, f"{declared.name}: {len(world):,} rows and {sent:,} requests sent")
