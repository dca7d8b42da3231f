"""One connection of a listener: what a client may do to it before, between and after its requests.

uvicorn's protocol bounds neither the head of a request nor the time it takes, nor how long an answer may lie unread. The
application sees a request only when its head is whole, so this is done here; bodies are the application's.

Whether a request is taken is asked at once where its head ends (`Door`): under a load of ten times what can be answered, nine of
ten are refused, and a task, an event and a scope for each would leave no time for the tenth.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from asyncio import TimerHandle
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from sevenfold.serving.limits import Limits
from sevenfold.serving.problem import HttpError
from sevenfold.serving.route import Heard, Refused

__all__ = ["HEARD", "Connection", "Door", "bounded"]

_CLOSED = 7  # the state of a TCP connection that the other side has reset

HEARD = "sevenfold.heard"
"""Where in the state of a request's scope its connection leaves what the door made of it."""


class Door(Protocol):
    """Decides at the head of a request whether it is taken."""

    def hear(self, method: str, path: str, headers: list[tuple[bytes, bytes]]) -> Heard | Refused:
        """What a request is, or the answer that refuses it; raises nothing."""
        ...


class _Over:
    """Stands for a request that was answered at its head, as uvicorn's protocol looks at one."""

    response_complete = True
    keep_alive = True
    disconnected = False

    def __init__(self) -> None:
        self.message_event = self

    def set(self) -> None:
        """Nobody waits."""


_OVER: Any = _Over()


class _RefusedError(Exception):
    """Ends the parser's work on a head that is not taken."""


class Connection(HttpToolsProtocol):
    """A connection kept to `limits`; `idle` are those of its listener without a request, idle for longest first."""

    def __init__(
        self,
        *given: Any,
        limits: Limits,
        door: Door,
        idle: dict[Connection, None],
        **named: Any,
    ) -> None:
        super().__init__(*given, **named)
        self._limits = limits
        self._door = door
        self._idle = idle
        self.timeout_keep_alive = limits.idle_timeout_s  # type: ignore[assignment]  # call_later takes a float
        self._refusal: HttpError | None = None
        self._head_timer: TimerHandle | None = None
        self._write_timer: TimerHandle | None = None
        self._begun = False  # a head that is not whole
        self._whole = True  # nothing of a message is still to come
        self._fed = 0  # bytes of a head that is not whole yet
        self._size = 0  # of the parts of it that are
        self._n_headers = 0
        self._n_events = 0
        self._is_gone = False  # given up before it was accepted

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Make room for it, and wait for its first request as long as for any other.

        One that the client has given up is dropped: what it asked can still be read, and would be answered to nobody. After a stall those that nobody had
        accepted yet are thousands, and as long as they are answered, those that come after them give up as well.
        """
        if _is_reset(transport):
            self._is_gone, self.transport = True, transport
            transport.abort()
            return
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections:
            oldest = next(iter(self._idle), None)
            if oldest is None:
                self._refuse(HttpError(503, "too_many_connections", "try again in a second"))
                return
            self._idle.pop(oldest)
            oldest.transport.abort()
        self._idle[self] = None
        self.timeout_keep_alive_task = self.loop.call_later(
            self._limits.idle_timeout_s, self.timeout_keep_alive_handler
        )

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        if self._is_gone:
            return
        self._idle.pop(self, None)
        self._stop_head_timer()
        self._stop_write_timer()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take the bytes in; a head is counted, and timed once it is known to come in parts."""
        if self.transport.is_closing():
            return
        before = self._n_events
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self.cycle is _OVER and not self._whole and self._head_timer is None:
            self._start_head_timer()  # for what is left of a body that is not wanted
        # Empty lines before a request are no message yet, and may not go on for ever either.
        if self._begun or (self._whole and self._n_events == before):
            self._fed += len(data)
            if self._fed > self._limits.head_bytes:
                self._refuse(self._too_large())
            elif self._head_timer is None:
                self._start_head_timer()

    def on_message_begin(self) -> None:
        """Begin a head."""
        self._n_events += 1
        self._begun, self._whole = True, False
        self._size = self._n_headers = 0
        self._idle.pop(self, None)
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Take a part of the address."""
        self._check_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, one behind the body too."""
        self._n_headers += 1
        self._check_head(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Refuse the request, or hand it on."""
        self._begun = False
        self._fed = 0
        self._stop_head_timer()
        # One that comes before its turn on the connection is heard when that has come, by the application.
        before: RequestResponseCycle | None = self.cycle
        is_next = before is None or before.response_complete
        if is_next and not self.flow.write_paused and not self.parser.should_upgrade():
            method = self.parser.get_method().decode("ascii")
            heard = self._door.hear(method, _path(self.url), self.headers)
            if isinstance(heard, Refused):
                self._refuse_head(heard, method)
                return
            self.scope["state"][HEARD] = heard
        self._unset_keepalive_if_required()  # of one that was refused just before it
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that nothing of the message is still to come."""
        self._n_events += 1
        self._whole = True
        self._stop_head_timer()
        super().on_message_complete()
        if self.cycle is _OVER and not self.transport.is_closing():
            self._idle[self] = None
            self.timeout_keep_alive_task = self.loop.call_later(
                self._limits.idle_timeout_s, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        """Wait for the next request; what is left of a body that was not wanted has some seconds to come."""
        goes_on = bool(self.pipeline)
        super().on_response_complete()
        if goes_on or self.transport.is_closing():
            return
        if self._whole:
            self._idle[self] = None
        elif self._head_timer is None:
            self._start_head_timer()

    def pause_writing(self) -> None:
        """Give the client some seconds to read on."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(
                self._limits.write_timeout_s, self.transport.abort
            )

    def resume_writing(self) -> None:
        """The client reads."""
        self._stop_write_timer()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, or a head that was not taken, in the shape of all errors."""
        self._refuse(self._refusal or HttpError(400, "not_http", "this is not HTTP/1.1"))

    def _refuse_head(self, refused: Refused, method: str) -> None:
        """Answer a request by its head alone; its body is still read, for the sake of the next one."""
        self.cycle = _OVER
        keeps = self.parser.should_keep_alive() and self.parser.get_http_version() != "1.0"
        parts = [refused.head]
        parts += [b"%b: %b\r\n" % line for line in self.server_state.default_headers]
        if not keeps and not refused.closes:
            parts.append(b"connection: close\r\n")
        parts += (b"\r\n", b"" if method == "HEAD" else refused.body)
        self.transport.write(b"".join(parts))
        self.server_state.total_requests += 1
        if refused.closes or not keeps:
            self.transport.close()

    def _check_head(self, size: int) -> None:
        self._size += size
        if self._size > self._limits.head_bytes or self._n_headers > self._limits.headers:
            self._refusal = self._too_large()
            raise _RefusedError

    def _too_large(self) -> HttpError:
        limits = self._limits
        message = f"a head has at most {limits.head_bytes} bytes and {limits.headers} headers"
        return HttpError(431, "head_too_large", message)

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(self._limits.head_timeout_s, self._too_slow)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _too_slow(self) -> None:
        message = f"a head, or what is left of a body, has {self._limits.head_timeout_s} s to come"
        self._refuse(HttpError(408, "too_slow", message))

    def _refuse(self, error: HttpError) -> None:
        """Answer and close; where it would be a second answer to one request, only close."""
        if self.transport.is_closing():
            return
        cycle: RequestResponseCycle | None = self.cycle
        answered = cycle is not None and not (
            cycle.response_complete and (self._begun or self._whole)
        )
        if not answered:
            body = error.body("0")
            head = [
                f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}",
                "content-type: application/json",
                f"content-length: {len(body)}",
                "x-content-type-options: nosniff",
                "connection: close",
                *(["retry-after: 1"] if error.status == 503 else []),
            ]
            self.transport.write("\r\n".join(head).encode() + b"\r\n\r\n" + body)
        self.transport.close()


def bounded(limits: Limits, door: Door) -> Callable[..., Connection]:
    """What makes the connections of one listener, whose requests are taken by `door`."""
    return partial(Connection, limits=limits, door=door, idle={})


def _is_reset(transport: asyncio.Transport) -> bool:
    """Whether the other side of a new connection has reset it; nobody knows where that is no TCP, or no Linux."""
    given = transport.get_extra_info("socket")
    if given is None or given.family == socket.AF_UNIX or not sys.platform.startswith("linux"):
        return False
    state: int = given.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return state == _CLOSED


def _path(url: bytes) -> str:
    path: str = httptools.parse_url(url).path.decode("ascii")
    return unquote(path) if "%" in path else path
