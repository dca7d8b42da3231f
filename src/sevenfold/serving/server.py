"""The server process: a home folder, a port, a socket in the home; `server.json` tells who listens where."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import logging
import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
import uvicorn

from sevenfold.clock import SystemClock
from sevenfold.errors import ServingError, SevenfoldError
from sevenfold.heap import give_back
from sevenfold.registry.registry import Registry
from sevenfold.serving.app import App
from sevenfold.serving.changing import ChangeStatus
from sevenfold.serving.cleanse import cleanse, is_to_be_cleansed
from sevenfold.serving.connection import bounded
from sevenfold.serving.door import Door, Tls, admin_guard, check_door, inner_guard, public_guard
from sevenfold.serving.guard import Guard
from sevenfold.serving.instants import Instants
from sevenfold.serving.limits import Limits
from sevenfold.serving.listening import ADMIN_SOCKET, files_at_once, listen_home, listen_port
from sevenfold.serving.members import inner_routes, outer_routes, socket_name
from sevenfold.serving.offers import Offers
from sevenfold.serving.order import (
    keep_declared,
    read_declared,
    read_order,
    withdraw_declared,
    withdraw_order,
)
from sevenfold.serving.pools import keep_to_one_thread
from sevenfold.serving.rotation import LOG_HEAD
from sevenfold.serving.routes.table import ADMIN_ROUTES, PUBLIC_ROUTES
from sevenfold.serving.sealed_answers import PREDICTIONS_FOLDER
from sevenfold.serving.service import Service
from sevenfold.serving.site import Site
from sevenfold.serving.supervisor import Place, Supervisor, end_with
from sevenfold.serving.tokens import home_token
from sevenfold.serving.tracing import Tracing
from sevenfold.serving.worker import Worker
from sevenfold.spec.system import System
from sevenfold.stores.history import HEAD_EVENTS, HISTORY
from sevenfold.stores.open import open_store
from sevenfold.turns import SHORT_S, ask_for_turns

__all__ = ["Way", "alone", "serve", "serve_place", "supervise"]

_LOG = logging.getLogger(__name__)
_DRAIN_S = 10
_OTHER_FILES = 256
_INSTANTS = "instants"
_OFFERS = "offers"
_BEAT_S = 1.0
_SWITCH_S = 0.0005


# Listens in another protocol for as long as its block runs, and gives the port.
Beside: TypeAlias = Callable[[Site, Guard, Door], AbstractAsyncContextManager[int]]


@dataclass(frozen=True, slots=True)
class Way:
    """How a server serves: in replay or live, with `history_head` events left in the log (0: no histories are kept).

    `load` reads a declaration anew when the home orders a change (see `order`). With `admission` a live server refuses
    what it has no time for (see `Gate`); without, it answers all in the order of arrival, however late. Only models of
    `kinds` are loaded; None for all that this version knows. `tracing` says which answers are traced, and where to; it
    ends with the server. The newest `log_head` answers stay in the store, older ones go to files (0: all stay). With `log_sync` an answer is
    on disk before it is given; without, within a second, and outlives the process all the same.
    """

    replay: bool = False
    history_head: int = HEAD_EVENTS
    load: Callable[[str], System] | None = None
    admission: bool = True
    kinds: frozenset[str] | None = None
    tracing: Tracing | None = None
    beside: Beside | None = None
    log_head: int = LOG_HEAD
    log_sync: bool = True


def serve(
    system: System,
    home: Path,
    version: str,
    door: Door,
    way: Way | None = None,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Serve `system` from the store and registry in `home` until SIGTERM or SIGINT.

    Port 0 takes a free one. A change that a killed server had begun is taken up again. When it listens, `server.json`
    in the home says pid, host and port. A request in flight is finished before the process ends. Raises ServingError
    when the port is taken, another server runs on this home, or others would reach it unguarded (see `check_door`).
    """
    way = way or Way()
    keep_to_one_thread()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with alone(home):
        check_door(door, home)
        _clean(home)
        url = f"lmdb:{home / 'store'}"
        store = open_store(url)
        try:
            registry = Registry(home / "registry", way.kinds)
            service = Service(system, store, registry, SystemClock(), way.replay, progress)
            service.keep_answers(home / PREDICTIONS_FOLDER, url, way.log_head)
            if way.history_head:
                service.keep_histories(url, home / HISTORY, way.history_head)
            try:
                _serve(service, home, version, door, way)
            finally:
                service.close()
                if way.tracing is not None:
                    way.tracing.traces.close()
        finally:
            store.close()


def supervise(home: Path, door: Door, n: int, command: Callable[[Place], Sequence[str]]) -> None:
    """Serve by `n` processes on one port until SIGTERM or SIGINT; `command` starts the one of a place (`serve_place`).

    Raises ServingError as `serve` does, and when a process dies again and again.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with alone(home) as lock:
        check_door(door, home)
        _clean(home)
        withdraw_declared(home)
        home_token(home)  # made once, here
        for name in (_INSTANTS, _OFFERS):
            (home / name).unlink(missing_ok=True)
        Offers(home / _OFFERS, 0, n).close()  # made before it is needed, while there is room
        instants = Instants(home / _INSTANTS, SystemClock())
        with closing(instants), listen_port(door.host, door.port) as port:

            def ready(told: bytes) -> None:
                _announce(home, door, port.getsockname()[1], msgspec.json.decode(told), n)

            # What the owner had announced when it was killed was never committed, or can be seen by now.
            supervisor = Supervisor(command, n, port, ready, instants.withdraw)
            supervisor.keep = (lock,)  # the home is held until the last of them has ended
            try:
                supervisor.run()
            finally:
                for number in range(n):
                    (home / socket_name(number)).unlink(missing_ok=True)


def serve_place(
    system: System,
    home: Path,
    version: str,
    door: Door,
    way: Way,
    place: Place,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Serve as one of several processes, until SIGTERM, SIGINT or the end of the supervisor that has started this one.

    The owner does what `serve` does; the others answer from its store, and pass to it what they cannot answer.
    """
    end_with(place.life)
    keep_to_one_thread()
    url = f"lmdb:{home / 'store'}"
    clock = SystemClock()
    with (
        closing(open_store(url)) as store,
        closing(Instants(home / _INSTANTS, clock)) as instants,
        closing(Offers(home / _OFFERS, place.number, place.among)) as offers,
    ):
        registry = Registry(home / "registry", way.kinds)
        if place.number:
            declared = partial(_declared, home, way.load)
            service: Service = Worker(system, store, registry, instants, declared, progress)
            service.pending.offers = offers
            service.keep_answers(home / PREDICTIONS_FOLDER)  # the owner moves them
        else:
            service = Service(system, store, registry, clock, False, progress)
            service.share(instants, offers)
            service.keep_answers(home / PREDICTIONS_FOLDER, url, way.log_head)
            if way.history_head:
                service.keep_histories(url, home / HISTORY, way.history_head)
        with closing(service):
            try:
                _serve(service, home, version, door, way, place)
            finally:
                if way.tracing is not None:
                    way.tracing.traces.close()


def _declared(home: Path, load: Callable[[str], System] | None) -> System | None:
    """The declaration that the server has changed to since it was started."""
    name = read_declared(home)
    return None if name is None or load is None else load(name)


def _clean(home: Path) -> None:
    if is_to_be_cleansed(home):
        _LOG.info("compacting the store: something was deleted from it")
        cleanse(home)


def _serve(
    service: Service,
    home: Path,
    version: str,
    door: Door,
    way: Way,
    place: Place | None = None,
) -> None:
    change = partial(_change, service, home, way.load, place) if way.load and service.owns else None
    site = Site(service, change, way.admission, way.tracing, version)
    if change is not None:
        _take_up(change)
    if not service.replay:  # what a replay answers is to come of one thread
        aside = service.store.aside() if place is None else None
        service.pending.write_beside(aside, way.log_sync)
    service.rehearse()
    if reason := service.ready():  # also loads the kernels, so that the first answer is not slow
        _LOG.warning("not ready reason=%s", reason)
    # The store, the log and the segments have files of their own.
    most = max(16, min(door.limits.connections, files_at_once() - _OTHER_FILES))
    limits = replace(door.limits, connections=most)
    only_tls = door.tls is not None
    guard = public_guard(door, home)
    inner = PUBLIC_ROUTES if place is None else inner_routes(place, home)
    routes = inner if place is None else outer_routes(inner, place, home)
    public = App(site, guard, limits, routes, only_tls)
    port = listen_port(door.host, door.port) if place is None else socket.socket(fileno=place.port)
    listeners = [(_config(public, limits, "on", door.tls), port)]
    if place is not None:
        between = App(site, inner_guard(door, home), limits, inner, counts=False)
        listeners.append(
            (_config(between, limits, "off"), listen_home(home, socket_name(place.number)))
        )
    if door.admin and service.owns:
        admin = App(site, admin_guard(home), limits, ADMIN_ROUTES)
        listeners.append((_config(admin, limits, "off"), listen_home(home)))
    announce = partial(_announce, home, door, port.getsockname()[1])
    if place is not None:
        announce = partial(_say, place.says)
    beside = None if way.beside is None or not service.owns else way.beside(site, guard, door)
    # The server drains at a signal and then raises it again; by then there is nothing left to end.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    _put_answers_first()
    try:
        with asyncio.Runner(loop_factory=listeners[0][0].get_loop_factory()) as runner:
            runner.run(_listen_beside(listeners, beside, announce))
    finally:
        if service.owns:
            (home / ADMIN_SOCKET).unlink(missing_ok=True)


def _put_answers_first() -> None:
    """Have what else this process and the machine do stand back while answers are made."""
    # What is there now stays: to look through all of it for garbage took 0.1 s, in the middle of answers.
    gc.collect()
    gc.freeze()
    give_back()
    # A thread beside the loop that computes keeps the interpreter for so long each time that the loop wants it back.
    sys.setswitchinterval(_SWITCH_S)
    ask_for_turns(SHORT_S)


def _say(says: int, other_port: int | None) -> None:
    """Tell the supervisor that this process is ready, and from now on that it lives."""

    def beat() -> None:
        with suppress(BrokenPipeError):  # it is gone, and this process about to end
            os.write(says, b"\n")
        asyncio.get_running_loop().call_later(_BEAT_S, beat)

    os.write(says, msgspec.json.encode(other_port))
    beat()


def _config(
    app: App, limits: Limits, lifespan: Literal["on", "off"], tls: Tls | None = None
) -> uvicorn.Config:
    config = uvicorn.Config(
        app,
        http=bounded(limits, app),  # type: ignore[arg-type]  # called as the class would be
        log_level="warning",
        access_log=False,
        lifespan=lifespan,
        ws="none",
        server_header=False,
        proxy_headers=False,  # whom a client claims to be matters nowhere
        timeout_graceful_shutdown=_DRAIN_S,
        ssl_certfile=tls.certificate if tls else None,
        ssl_keyfile=tls.key if tls else None,
    )
    config.load()
    if config.ssl is not None:
        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
    return config


class _Beside(uvicorn.Server):
    """A server beside the one that hears the signals."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave them to the other."""
        yield


async def _listen_beside(
    listeners: Sequence[tuple[uvicorn.Config, socket.socket]],
    beside: AbstractAsyncContextManager[int] | None,
    announce: Callable[[int | None], None],
) -> None:
    if beside is None:
        announce(None)
        await _listen(listeners)
        return
    async with beside as port:
        announce(port)
        await _listen(listeners)


async def _listen(listeners: Sequence[tuple[uvicorn.Config, socket.socket]]) -> None:
    """Serve on the first listener until a signal, and on the others as long."""
    (config, first), *others = listeners
    beside = [(_Beside(config), listening) for config, listening in others]
    tasks = [asyncio.create_task(server.serve([listening])) for server, listening in beside]
    try:
        await uvicorn.Server(config).serve([first])
    finally:
        for server, _ in beside:
            server.should_exit = True
        await asyncio.gather(*tasks)


def _take_up(change: Callable[[], ChangeStatus]) -> None:
    """Go on with a change that was ordered of a server that is no more; without it, serve all the same."""
    try:
        change()
    except SevenfoldError as error:
        _LOG.error("change not taken up error=%s", error)


def _change(
    service: Service, home: Path, load: Callable[[str], System], place: Place | None
) -> ChangeStatus:
    """Begin what the home orders; nothing ordered is the status of what goes on."""
    order = read_order(home)
    if order is None:
        return service.changing.status
    system = load(order.system)

    def ended() -> None:
        if place is not None and service.system is system:
            keep_declared(home, order.system)  # for those beside this process, and after it
        withdraw_order(home)

    return service.change(system, order.force, ended)


@contextmanager
def alone(home: Path) -> Iterator[int]:
    """Hold the home: two servers would each miss the events that the other takes in. Gives the file that holds it."""
    with (home / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ServingError(
                f"another server runs on {home}: stop it first, or give another --home"
            ) from error
        yield lock.fileno()  # the lock ends with the process, however it ends


def _announce(home: Path, door: Door, port: int, other_port: int | None, workers: int = 1) -> None:
    described = {
        "pid": os.getpid(),
        "host": door.host,
        "port": port,
        "url": _url(door, port),
        "admin": ADMIN_SOCKET if door.admin else None,
        "grpc_port": other_port,
        "workers": workers,
    }
    partial = home / ".server.json"
    partial.write_bytes(msgspec.json.encode(described))
    partial.replace(home / "server.json")
    _LOG.info("listening on %s", described["url"])


def _url(door: Door, port: int) -> str:
    host = f"[{door.host}]" if ":" in door.host else door.host
    return f"{'http' if door.tls is None else 'https'}://{host}:{port}"
