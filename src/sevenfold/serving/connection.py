"""One connection of a listener: what a client may do to it before, between and after its requests.

uvicorn's protocol bounds neither the head of a request nor the time it takes, nor how long an answer may lie unread. The
application sees a request only when its head is whole, so this is done here; bodies are the application's.

Whether a request is taken is asked at once where its head ends (`Door`): under a load of ten times what can be answered, nine of
ten are refused, and a task, an event and a scope for each would leave no time for the tenth. What is taken is an `Exchange`; only what comes before its turn,
or asks for more than an answer, is a call of an ASGI application.
"""

from __future__ import annotations

import asyncio
import math
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

from sevenfold.serving.exchange import Answers, Exchange
from sevenfold.serving.known_heads import KnownHeads
from sevenfold.serving.limits import Limits
from sevenfold.serving.problem import HttpError
from sevenfold.serving.route import Head, Heard, Refused

__all__ = ["HEARD", "Connection", "Door", "bounded"]

_HEAD_ENDS = b"\r\n\r\n"
_CLOSED = 7  # the state of a TCP connection that the other side has reset

HEARD = "sevenfold.heard"
"""Where in the state of a request's scope its connection leaves what the door made of it."""


class Door(Answers, Protocol):
    """Decides at the head of a request whether it is taken, and answers it."""

    def hear(self, method: str, path: str, headers: list[tuple[bytes, bytes]]) -> Heard | Refused:
        """What a request is, or the answer that refuses it; raises nothing."""
        ...

    def hear_again(self, head: Head) -> Heard | Refused:
        """The same of one whose head came before."""
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
    """A connection kept to `limits`.

    `idle` are those of its listener without a request, idle for longest first, and `heads` what it knows of the heads of requests.
    """

    def __init__(
        self,
        *given: Any,
        limits: Limits,
        door: Door,
        idle: dict[Connection, None],
        heads: KnownHeads,
        **named: Any,
    ) -> None:
        super().__init__(*given, **named)
        self.limits = limits
        self.answers_at_once = True  # what comes of these bytes may still be
        self._door = door
        self._idle = idle
        self._idle_until_s = math.inf
        self._heads = heads
        self._left = 0  # bytes of a body that the parser does not see
        self._raw: bytes | None = None  # what may be a head that is to be known
        self._is_learning = self._is_upgrade = False
        self._learned: Head | None = None
        # What is asked of uvicorn beside what we have of it, its own way has.
        # uvicorn asks whether anybody would hear the log of requests; whoever runs it may have said that there is none.
        self.access_log = self.access_log and self.config.access_log
        self._is_plain = not (self.access_log or self.limit_concurrency or self.root_path)
        self._refusal: HttpError | None = None
        self._head_timer: TimerHandle | None = None
        self._write_timer: TimerHandle | None = None
        self._begun = False  # a head that is not whole
        self._whole = True  # nothing of a message is still to come
        self._fed = 0  # bytes of a head that is not whole yet
        self._size = 0  # of the parts of it that are
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
        if len(self.connections) > self.limits.connections:
            oldest = next(iter(self._idle), None)
            if oldest is None:
                self._refuse(HttpError(503, "too_many_connections", "try again in a second"))
                return
            self._idle.pop(oldest)
            oldest.transport.abort()
        self._rest()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        if self._is_gone:
            return
        self._idle.pop(self, None)
        self._stop_head_timer()
        self._stop_write_timer()
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
        super().connection_lost(exc)
        self.cycle = None  # type: ignore[assignment]  # which has this connection

    def data_received(self, data: bytes) -> None:
        """Take the bytes in; a head is counted, and timed once it is known to come in parts."""
        if self.transport.is_closing():
            return
        self._idle_until_s = math.inf
        self.answers_at_once = True
        if self._left:
            data = self._take_left(data)
        if self._whole and not self._fed and self._is_plain and self._is_next:
            data = self._take_known(data)
        if data:
            self._parse(data)
        if not self._whole and not self.transport.is_closing():
            self._wait_for_body()

    def on_message_begin(self) -> None:
        """Begin a head."""
        self._n_events += 1
        self._begun, self._whole = True, False
        self._size = 0
        self._idle.pop(self, None)
        self.url, self.headers, self.expect_100_continue = b"", [], False

    def on_url(self, url: bytes) -> None:
        """Take a part of the address."""
        self._check_head(len(url))
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, one behind the body too."""
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))
        self._check_head(len(name) + len(value))

    def on_headers_complete(self) -> None:
        """Refuse the request, or hand it on."""
        self._begun = False
        self._fed = 0
        self._stop_head_timer()
        if self.transport.is_closing():
            self.cycle = _OVER  # it came behind one that was the last
            return
        parser = self.parser
        # One that comes before its turn on the connection is heard when that has come, by the application.
        if not self._is_next or parser.should_upgrade():
            self._ask_application(None)
            return
        method = parser.get_method().decode("ascii")
        heard = self._door.hear(method, _path(self.url), self.headers)
        keeps = parser.should_keep_alive() and parser.get_http_version() != "1.0"
        is_plain = self._is_plain and not self.expect_100_continue
        if is_plain and keeps and self._is_learning:
            self._learned = heard.head
        if isinstance(heard, Refused):
            self._refuse_head(heard, method == "HEAD", keeps)
        elif is_plain:
            exchange: Any = Exchange(self, self._door, heard, method == "HEAD", keeps)
            self.cycle = exchange
        else:
            self._ask_application(heard)

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._learned = None
        cycle: Any = self.cycle
        if type(cycle) is Exchange:
            cycle.take(body)
        elif cycle is not _OVER:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that nothing of the message is still to come."""
        self._n_events += 1
        self._whole = True
        self._stop_head_timer()
        cycle: Any = self.cycle
        is_over = cycle is _OVER or (type(cycle) is Exchange and cycle.response_complete)
        if not is_over and type(cycle) is Exchange:
            cycle.end()
        elif not is_over:
            super().on_message_complete()
        elif not self.transport.is_closing():  # nothing of what is not wanted is still to come
            self._rest()

    def on_response_complete(self) -> None:
        """Wait for the next request; what is left of a body that was not wanted has some seconds to come."""
        if self.pipeline:
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self._whole:
            self._rest()
        elif self._head_timer is None:
            self._start_head_timer()

    def timeout_keep_alive_handler(self) -> None:
        """Close it if it has been idle for long; it may have been used since this was to be looked at."""
        self.timeout_keep_alive_task = None
        left_s = self._idle_until_s - self.loop.time()
        if left_s <= 0:
            super().timeout_keep_alive_handler()
        elif left_s < math.inf:
            self._look_later(left_s)

    def pause_writing(self) -> None:
        """Give the client some seconds to read on."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(
                self.limits.write_timeout_s, self.transport.abort
            )

    def resume_writing(self) -> None:
        """The client reads."""
        self._stop_write_timer()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, or a head that was not taken, in the shape of all errors."""
        self._refuse(self._refusal or HttpError(400, "not_http", "this is not HTTP/1.1"))

    @property
    def _is_next(self) -> bool:
        """Whether a request that comes now has its turn on the connection at once."""
        before: RequestResponseCycle | None = self.cycle
        return (before is None or before.response_complete) and not self.flow.write_paused

    def _take_known(self, data: bytes) -> bytes:
        """Take a request in whose head is known, without the parser: it would make of these bytes what it made of them before.

        Gives what is left of them.
        """
        end = data.find(_HEAD_ENDS) + len(_HEAD_ENDS)
        raw = data[:end]
        head = self._heads.find(raw)
        if head is None:
            self._raw = raw if end >= len(_HEAD_ENDS) else None
            return data
        self._idle.pop(self, None)
        heard = self._door.hear_again(head)
        rest, is_head = end + head.size, head.method == "HEAD"
        is_whole = len(data) >= rest
        if isinstance(heard, Refused):
            self._refuse_head(heard, is_head, keeps=True)
            if is_whole and not self.transport.is_closing():
                self._rest()
        else:
            exchange: Any = Exchange(self, self._door, heard, is_head, keep_alive=True)
            self.cycle = exchange
            if is_whole:
                exchange.whole(data[end:rest])
        if is_whole:
            return data[rest:]
        self._n_events += 1
        self._whole, self._left = False, head.size
        return self._take_left(data[end:])

    def _take_left(self, data: bytes) -> bytes:
        """Take what is left of the body of such a request, as the parser gives it; gives what is behind it."""
        part = data[: self._left]
        self._left -= len(part)
        if part:
            self.on_body(part)
        if not self._left:
            self.on_message_complete()
        return data[len(part) :]

    def _parse(self, data: bytes) -> None:
        """Give bytes to the parser."""
        before = self._n_events
        raw, self._raw = self._raw, None
        if raw is None:
            super().data_received(data)
        else:
            self._learn(raw, data)
        if self.transport.is_closing():
            return
        # Empty lines before a request are no message yet, and may not go on for ever either.
        if self._begun or (self._whole and self._n_events == before):
            self._fed += len(data)
            if self._fed > self.limits.head_bytes:
                self._refuse(self._too_large())
            elif self._head_timer is None:
                self._start_head_timer()

    def _learn(self, raw: bytes, data: bytes) -> None:
        """Give what may be a head to the parser by itself, to see that it is one and no more, and then what is behind it."""
        begun = self._n_events
        self._is_learning, self._is_upgrade, self._learned = True, False, None
        super().data_received(raw)
        self._is_learning = False
        self._keep(raw, self._learned, self._n_events - begun)
        # What comes with an upgrade is of the other protocol.
        if len(data) > len(raw) and not (self._is_upgrade or self.transport.is_closing()):
            super().data_received(data[len(raw) :])

    def _unsupported_upgrade_warning(self) -> None:
        """Note that the parser leaves what follows to another protocol, which is not spoken here."""
        self._is_upgrade = True
        super()._unsupported_upgrade_warning()

    def _keep(self, raw: bytes, learned: Head | None, n_events: int) -> None:
        """Know a head from now on, if the parser is where its body begins, or the next request: its length is said, or there is no body."""
        if learned is None or b"transfer-encoding" in learned.headers:
            return
        if (n_events, self._whole) == ((1, False) if learned.size else (2, True)):
            self._heads.keep(raw, learned)

    def _ask_application(self, heard: Heard | None) -> None:
        """Have uvicorn call the application, with what the door has made of the head."""
        url, headers, waits = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()  # for the scope
        self.url, self.headers, self.expect_100_continue = url, headers, waits
        self.scope["headers"] = headers
        if heard is not None:
            self.scope["state"][HEARD] = heard
        super().on_headers_complete()

    def _wait_for_body(self) -> None:
        """Have what is left of a body come in time, whether it is wanted or not."""
        cycle: Any = self.cycle
        if self._begun:
            return
        if type(cycle) is Exchange:
            cycle.wait()
        elif cycle is _OVER and self._head_timer is None:
            self._start_head_timer()

    def _rest(self) -> None:
        """Wait for the next request."""
        self._idle[self] = None
        self._idle_until_s = self.loop.time() + self.limits.idle_timeout_s
        if self.timeout_keep_alive_task is None:
            self._look_later(self.limits.idle_timeout_s)

    def _look_later(self, wait_s: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(wait_s, self.timeout_keep_alive_handler)

    def _unset_keepalive_if_required(self) -> None:
        """Have it not be idle; that is looked at when it would have been for long: a timer a request would cost more."""
        self._idle_until_s = math.inf

    def _refuse_head(self, refused: Refused, is_head: bool, keeps: bool) -> None:
        """Answer a request by its head alone; its body is still read, for the sake of the next one."""
        self.cycle = _OVER
        state = self.server_state
        keeps = keeps and not refused.closes
        ending = b"\r\n" if keeps or refused.closes else b"connection: close\r\n\r\n"
        given = self._door.heads.lines(state.default_headers)
        body = b"" if is_head else refused.body
        self.transport.write(b"%b%b%b%b" % (refused.sent, given, ending, body))
        state.total_requests += 1
        if not keeps:
            self.transport.close()

    def _check_head(self, size: int) -> None:
        self._size += size
        if self._size > self.limits.head_bytes or len(self.headers) > self.limits.headers:
            self._refusal = self._too_large()
            raise _RefusedError

    def _too_large(self) -> HttpError:
        limits = self.limits
        message = f"a head has at most {limits.head_bytes} bytes and {limits.headers} headers"
        return HttpError(431, "head_too_large", message)

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(self.limits.head_timeout_s, self._too_slow)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _too_slow(self) -> None:
        message = f"a head, or what is left of a body, has {self.limits.head_timeout_s} s to come"
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
    return partial(Connection, limits=limits, door=door, idle={}, heads=KnownHeads())


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
