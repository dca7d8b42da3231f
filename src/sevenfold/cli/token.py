"""`sevenfold token`: who may ask the server of a home, and for what."""

from __future__ import annotations

from pathlib import Path

import click

from sevenfold.cli.home import home_of, home_option
from sevenfold.cli.output import json_option, show, table


@click.group("token")
def command() -> None:
    """Give, list and revoke the tokens of a home; a running server follows at its next request.

    Scopes: `events` to send events, `predict` for recommendations, rankings and features, `metrics` for the
    counters, `admin` for what changes the server, which is asked on the socket in its home only.
    """


@command.command("add")
@click.argument("system")
@click.argument("name")
@home_option
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice(["events", "predict", "metrics", "admin"]),
    help="What it is for; may be given more than once.",
)
@click.option("--rate", type=float, help="Requests a second; without it, no limit.")
@json_option
def add(
    system: str, name: str, home: Path | None, scopes: tuple[str, ...], rate: float | None
) -> None:
    """Make a token and print it, this once: the home keeps its hash only."""
    from typing import cast

    from sevenfold.cli.load import load_system
    from sevenfold.serving.route import Scope
    from sevenfold.serving.tokens import add_token

    declared = load_system(system)
    place = home_of(home, declared.name)
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    token = add_token(place, name, cast(tuple[Scope, ...], scopes), rate)
    result = {"system": declared.name, "name": name, "scopes": sorted(set(scopes)), "token": token}
    show(result, token)


@command.command("list")
@click.argument("system")
@home_option
@json_option
def list_tokens(system: str, home: Path | None) -> None:
    """List the tokens that were given: names, scopes and rates."""
    from sevenfold.cli.load import load_system
    from sevenfold.serving.tokens import TOKENS_FILE, read_tokens

    declared = load_system(system)
    tokens = read_tokens(home_of(home, declared.name) / TOKENS_FILE)
    listed = [{"name": one.name, "scopes": list(one.scopes), "rate": one.rate} for one in tokens]
    rows = [[one.name, ", ".join(one.scopes), one.rate or "no limit"] for one in tokens]
    text = table(["name", "scopes", "requests/s"], rows) if rows else "no tokens but the owner's"
    show({"system": declared.name, "tokens": listed}, text)


@command.command("revoke")
@click.argument("system")
@click.argument("name")
@home_option
@json_option
def revoke(system: str, name: str, home: Path | None) -> None:
    """Make a token void, for a running server too."""
    from sevenfold.cli.load import load_system
    from sevenfold.serving.tokens import revoke_token

    declared = load_system(system)
    revoke_token(home_of(home, declared.name), name)
    show({"system": declared.name, "revoked": name}, f"{name} is void")
