"""The server process: a home folder, a loopback port, a token; `server.json` tells who listens where."""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import uvicorn

from sevenfold.clock import SystemClock
from sevenfold.errors import ServingError, SevenfoldError
from sevenfold.registry.registry import Registry
from sevenfold.serving.app import App
from sevenfold.serving.changing import ChangeStatus
from sevenfold.serving.cleanse import cleanse, is_to_be_cleansed
from sevenfold.serving.order import read_order, withdraw_order
from sevenfold.serving.service import Service
from sevenfold.spec.system import System
from sevenfold.stores.history import HEAD_EVENTS, HISTORY
from sevenfold.stores.open import open_store

__all__ = ["Door", "Way", "alone", "home_token", "serve"]

_LOG = logging.getLogger(__name__)
_DRAIN_S = 10


@dataclass(frozen=True, slots=True)
class Door:
    """Where a server listens, loopback unless told otherwise, and the token that writes need."""

    host: str = "127.0.0.1"
    port: int = 8077
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Way:
    """How a server serves: in replay or live, with `history_head` events left in the log (0: no histories are kept).

    `load` reads a declaration anew when the home orders a change (see `order`). With `admission` a live server refuses
    what it has no time for (see `Gate`); without, it answers all in the order of arrival, however late.
    """

    replay: bool = False
    history_head: int = HEAD_EVENTS
    load: Callable[[str], System] | None = None
    admission: bool = True


def serve(
    system: System,
    home: Path,
    version: str,
    door: Door,
    way: Way | None = None,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Serve `system` from the store and registry in `home` until SIGTERM or SIGINT.

    Port 0 takes a free one. A change that a killed server had begun is taken up again. When it listens, `server.json` in the home says pid, host and port. A request in
    flight is finished before the process ends. Raises ServingError when the port is taken or another server
    runs on this home.
    """
    way = way or Way()
    home.mkdir(parents=True, exist_ok=True)
    with alone(home):
        if is_to_be_cleansed(home):
            _LOG.info("compacting the store: something was deleted from it")
            cleanse(home)
        url = f"lmdb:{home / 'store'}"
        store = open_store(url)
        try:
            registry = Registry(home / "registry")
            service = Service(system, store, registry, SystemClock(), way.replay, progress)
            if way.history_head:
                service.keep_histories(url, home / HISTORY, way.history_head)
            try:
                _serve(service, home, version, door, way)
            finally:
                service.close()
        finally:
            store.close()


def _serve(
    service: Service,
    home: Path,
    version: str,
    door: Door,
    way: Way,
) -> None:
    change = partial(_change, service, home, way.load) if way.load else None
    token = door.token or home_token(home)
    app = App(service, token, version, change=change, admission=way.admission)
    if change is not None:
        _take_up(change)
    service.rehearse()
    if reason := service.ready():  # also loads the kernels, so that the first answer is not slow
        _LOG.warning("not ready reason=%s", reason)
    listening = _listen(door.host, door.port)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="on",
        ws="none",
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=_DRAIN_S,
    )
    _announce(home, door.host, listening.getsockname()[1])
    # The server drains at a signal and then raises it again; by then there is nothing left to end.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    uvicorn.Server(config).run(sockets=[listening])


def _take_up(change: Callable[[], ChangeStatus]) -> None:
    """Go on with a change that was ordered of a server that is no more; without it, serve all the same."""
    try:
        change()
    except SevenfoldError as error:
        _LOG.error("change not taken up error=%s", error)


def _change(service: Service, home: Path, load: Callable[[str], System]) -> ChangeStatus:
    """Begin what the home orders; nothing ordered is the status of what goes on."""
    order = read_order(home)
    if order is None:
        return service.changing.status
    return service.change(load(order.system), order.force, partial(withdraw_order, home))


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """Hold the home: two servers would each miss the events that the other takes in."""
    with (home / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ServingError(
                f"another server runs on {home}: stop it first, or give another --home"
            ) from error
        yield  # the lock ends with the process, however it ends


def home_token(home: Path) -> str:
    """The token of a home, made with the first server and readable by its owner only."""
    path = home / "token"
    if not path.exists():
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_urlsafe(32))
    return path.read_text().strip()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise ServingError(
            f"cannot listen on {host}:{port}: {error.strerror}; give another --port, 0 for a free one"
        ) from error
    listening.listen(1024)
    return listening


def _announce(home: Path, host: str, port: int) -> None:
    described = {"pid": os.getpid(), "host": host, "port": port, "url": _url(host, port)}
    partial = home / ".server.json"
    partial.write_bytes(msgspec.json.encode(described))
    partial.replace(home / "server.json")


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
