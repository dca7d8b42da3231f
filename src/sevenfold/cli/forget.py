"""`sevenfold forget`: one entity leaves a home."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sevenfold.cli.home import home_of, home_option, require_admin, running_server, store_url
from sevenfold.cli.output import json_option, progress, show

if TYPE_CHECKING:
    from sevenfold.spec.system import System

_POLL_S = 0.1


@click.command("forget")
@click.argument("system")
@home_option
@click.option("--entity", required=True, help="The entity, such as customer.")
@click.option("--key", required=True, help="Its key.")
@click.option("--no-compact", is_flag=True, help="Leave the store's file to `sevenfold compact`.")
@json_option
def command(system: str, home: Path | None, entity: str, key: str, no_compact: bool) -> None:
    """Take one entity out of the log, the states, the answers and the dead letters of a home.

    Events keep their place and count for other entities as before, without the key, the fields declared
    personal and the event's id. Killed at it, the next call or the next server goes on. With a server running,
    it does the work beside its answers; the file is then written anew when it is next started.
    """
    from sevenfold.cli.load import load_system

    declared = load_system(system)
    place = home_of(home, declared.name)
    server = running_server(place)
    if server is not None:
        require_admin(server, place)
        done = _by_server(place, entity, key)
    else:
        done = _alone(declared, place, entity, key)
    compacted = server is None and not no_compact
    if compacted:
        from sevenfold.serving.cleanse import cleanse

        cleanse(place)
    result = {"system": declared.name, "entity": entity, **done, "compacted": compacted}
    counts = ", ".join(f"{n:,} {what.replace('_', ' ')}" for what, n in done.items())
    later = "" if compacted else "\nunused pages of the store's file go with `sevenfold compact`"
    show(result, f"one {entity} forgotten: {counts}{later}")


def _by_server(place: Path, entity: str, key: str) -> dict[str, int]:
    import time

    from sevenfold.loop.client import admin_client

    client = admin_client(place)
    try:
        before = client.get("/v1/forget")
        status = client.post("/v1/forget", {"entity": entity, "key": key})
        with progress("forgetting") as advance:
            while status["open"]:
                advance(status["events"] - before["events"])
                time.sleep(_POLL_S)
                status = client.get("/v1/forget")
    finally:
        client.close()
    return _since(status, before)


def _alone(declared: System, place: Path, entity: str, key: str) -> dict[str, int]:
    import msgspec

    from sevenfold.clock import SystemClock
    from sevenfold.engines.online import OnlineEngine
    from sevenfold.serving.definition import Definition
    from sevenfold.serving.forgetting import Forgetting, forgotten
    from sevenfold.serving.ingest import Ingest
    from sevenfold.serving.sealed_answers import PREDICTIONS_FOLDER, SealedAnswers
    from sevenfold.serving.server import alone
    from sevenfold.stores.open import open_store

    url = store_url(place)
    with alone(place):
        store = open_store(url)
        try:
            plan = Definition(declared).plan
            ingest = Ingest(store, declared.streams, OnlineEngine(plan), SystemClock())
            job = Forgetting(store, declared, lambda: ingest.views)
            job.sealed = SealedAnswers(place / PREDICTIONS_FOLDER)
            with store.read() as txn:
                before = forgotten(txn)
            job.order(entity, key)
            with progress("forgetting") as advance:
                steps = 0
                while job.step():
                    advance(steps := steps + 1)
            with store.read() as txn:
                after = forgotten(txn)
        finally:
            store.close()
    return _since(msgspec.to_builtins(after), msgspec.to_builtins(before))


def _since(after: dict[str, Any], before: dict[str, Any]) -> dict[str, int]:
    names = ("events", "predictions", "dead_letters", "states")
    return {name: after[name] - before[name] for name in names}
