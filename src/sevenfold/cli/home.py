"""The folder in which a system keeps its store, its registry and its reports."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from sevenfold.errors import RunError

__all__ = [
    "home_of",
    "home_option",
    "refuse_beside_server",
    "require_admin",
    "running_server",
    "server_of",
    "store_url",
]

F = TypeVar("F", bound=Callable[..., Any])


def home_option(command: F) -> F:
    """Give a command `--home`."""
    return click.option(
        "--home",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder of the system; without it, .sevenfold/NAME here.",
    )(command)


def home_of(home: Path | None, system_name: str) -> Path:
    """The folder that was given, or the usual one of the system."""
    return home if home is not None else Path(".sevenfold") / system_name


def store_url(home: Path, must_exist: bool = True) -> str:
    """The address of a home's store; RunError when there is none and it must exist."""
    if must_exist and not (home / "store" / "data.mdb").exists():
        raise RunError(f"no store in {home}: `sevenfold ingest` makes one, or give another --home")
    return f"lmdb:{home / 'store'}"


def refuse_beside_server(home: Path) -> None:
    """Raise RunError while a server runs on this home: its generators would not see what is written."""
    server = running_server(home)
    if server is not None:
        raise RunError(
            f"a server (process {server['pid']}) runs on {home}: send the rows to it, POST /v1/events, "
            "or stop it first"
        )


def server_of(home: Path) -> dict[str, Any]:
    """The server that runs on this home: its pid, host and port; RunError when there is none."""
    server = running_server(home)
    if server is None:
        raise RunError(
            f"no server runs on {home}: `sevenfold serve` starts one, or give another --home"
        )
    return server


def require_admin(server: dict[str, Any], home: Path) -> None:
    """Raise RunError for a server that cannot be asked to change: it listens on no socket in its home."""
    if server.get("admin") is None:
        raise RunError(
            f"the server (process {server['pid']}) on {home} has no admin socket: it was started with --no-admin"
        )


def running_server(home: Path) -> dict[str, Any] | None:
    """The server that runs on this home, as its `server.json` says; None when there is none."""
    try:
        server: dict[str, Any] = json.loads((home / "server.json").read_text("utf-8"))
        os.kill(int(server["pid"]), 0)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return server
