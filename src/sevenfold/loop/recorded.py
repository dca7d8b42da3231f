"""A world recorded in two files, and the server to send it to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from sevenfold.errors import InputError, RunError
from sevenfold.loop.client import Client
from sevenfold.loop.world import RawColumn, Requests, World
from sevenfold.sources.files import read_chunks
from sevenfold.spec.system import System
from sevenfold.types import Ints, Texts

__all__ = ["read_world", "running_client"]


def read_world(system: System, stream: str, rows: Path, requests: Path) -> World:
    """The world of a file of a stream's rows and one of requests, both sorted by time here.

    Times must be whole numbers of microseconds; raises InputError otherwise, or for a missing column.
    """
    declared = system.stream(stream)
    columns = _columns(rows)
    arrival = _instants(columns, declared.time, rows)
    order = np.argsort(arrival, kind="stable")
    taken = {name: _take(column, order) for name, column in columns.items()}
    asked = _columns(requests)
    t_us = _instants(asked, "t", requests)
    by_time = np.argsort(t_us, kind="stable")
    wanted = ["request_id", *(entity.name for entity in system.task.query)]
    fields = {name: _texts(asked, name, requests).take(by_time) for name in wanted}
    ids = fields.pop("request_id")
    return World(stream, taken, arrival[order], Requests(t_us[by_time], ids, fields))


def running_client(home: Path) -> Client:
    """A client of the server that runs on `home`; RunError when none says that it does."""
    place, token = home / "server.json", home / "token"
    if not place.exists() or not token.exists():
        raise RunError(f"no server runs on {home}: start `sevenfold serve` with --clock replay")
    described = msgspec.json.decode(place.read_bytes())
    if described["url"].startswith("https:"):
        raise RunError(
            f"the server on {home} speaks TLS: a replay goes to one on loopback, started without --tls-cert"
        )
    return Client(int(described["port"]), token.read_text().strip(), described["host"])


def _columns(path: Path) -> dict[str, RawColumn]:
    chunks = list(read_chunks(path))
    if not chunks:
        raise InputError(f"{path} holds no rows")
    return {name: _joined([chunk[name] for chunk in chunks]) for name in chunks[0]}


def _joined(parts: Sequence[object]) -> RawColumn:
    texts = [part for part in parts if isinstance(part, Texts)]
    return Texts.concat(texts) if texts else np.concatenate([np.asarray(part) for part in parts])


def _take(column: RawColumn, order: Ints) -> RawColumn:
    return column.take(order) if isinstance(column, Texts) else column[order]


def _instants(columns: dict[str, RawColumn], name: str, path: Path) -> Ints:
    column = columns.get(name)
    if column is None or isinstance(column, Texts) or column.dtype.kind not in "iuM":
        raise InputError(
            f"{path}: column {name!r} must hold instants, as whole microseconds since 1970-01-01 UTC"
        )
    if column.dtype.kind == "M":
        column = column.astype("datetime64[us]")
    instants: Ints = column.astype(np.int64)
    return instants


def _texts(columns: dict[str, RawColumn], name: str, path: Path) -> Texts:
    column = columns.get(name)
    if column is None:
        raise InputError(f"{path}: no column {name!r}; there are {', '.join(columns)}")
    return column if isinstance(column, Texts) else Texts.of([str(v) for v in column.tolist()])
