"""`sevenfold retain`: what is older than its retention leaves a home."""

from __future__ import annotations

from pathlib import Path

import click

from sevenfold.cli.home import home_of, home_option, refuse_beside_server, store_url
from sevenfold.cli.output import json_option, progress, show


@click.command("retain")
@click.argument("system")
@home_option
@json_option
def command(system: str, home: Path | None) -> None:
    """Remove events, dead letters and answers that are older than their declared retention.

    A server does it by itself, once a minute. States stay as they are: no window reaches beyond the retention
    of its stream.
    """
    import msgspec

    from sevenfold.cli.load import load_system
    from sevenfold.clock import SystemClock
    from sevenfold.serving.retention import Retention
    from sevenfold.serving.server import alone
    from sevenfold.stores.open import open_store

    declared = load_system(system)
    place = home_of(home, declared.name)
    refuse_beside_server(place)
    url, clock = store_url(place), SystemClock()
    with alone(place):
        store = open_store(url)
        try:
            job = Retention(store, declared, lambda _: clock.now_us())
            with progress("removing") as advance:
                while job.step():
                    advance(job.removed.events)
        finally:
            store.close()
    removed = job.removed
    text = (
        f"removed {removed.events:,} events, {removed.predictions:,} answers, "
        f"{removed.dead_letters:,} dead letters"
    )
    show({"system": declared.name, **msgspec.to_builtins(removed)}, text)
