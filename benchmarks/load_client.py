"""The client's side of `benchmarks.load`: takes a load on its input, leaves what became of each request on its output.

One thread, one selector, no framework: what a request costs the client is some 30 us of its core. In the last millisecond before a request is
due it does not sleep, because a selector wakes by whole milliseconds.
"""

from __future__ import annotations

import gc
import resource
import selectors
import socket
import struct
import sys
import time
from array import array
from collections import deque
from typing import Any

import httptools
import msgspec
import numpy as np

NUMBER = b"@@@number@@@"
"""Stands in a body for the number of the request, twelve digits: no two requests are the same."""

OUTCOMES = ("answered", "timeout", "closed", "refused", "no_connection", "bad_answer")
"""Answered; given up; the server closed the connection, or took none; none was free in time; not HTTP."""

ANSWERED, TIMEOUT, CLOSED, REFUSED, NO_CONNECTION, BAD_ANSWER = range(len(OUTCOMES))
_WAKE_S = 0.001
_READ = 1 << 14
_IN_A_ROW = 8  # requests that a client who is behind sends before it looks for answers again
_DRAWN = 4096  # kinds of a closed loop, then the same again
_ABORT = struct.pack("ii", 1, 0)
_NONE = float("nan")


class Kind(msgspec.Struct, frozen=True):
    """Requests of one kind, `share` of all; they take the bodies in turn."""

    name: str
    path: str
    bodies: tuple[bytes, ...] = (b"",)
    share: float = 1.0
    method: str = "POST"
    headers: dict[str, str] = {}


class Phase(msgspec.Struct, frozen=True):
    """Seconds of an open loop at `rate` requests a second, or else of a closed one of `clients`."""

    name: str
    seconds: float
    rate: float = 0.0
    clients: int = 0


class Load(msgspec.Struct, frozen=True):
    """Phases after one another, of kinds mixed by their shares.

    Requests of an open loop are due at instants of a Poisson process, or evenly with `poisson` false. The client gives one up `timeout_s` after it
    was due, and closes its connection. The rung that served is read from the header `rung_header`, else from `"rung":` in the body.
    """

    port: int
    kinds: list[Kind]
    phases: list[Phase]
    host: str = "127.0.0.1"
    poisson: bool = True
    seed: int = 0
    connections: int = 1024
    timeout_s: float = 2.0
    rung_header: str = "x-rung"


class Taken(msgspec.Struct):
    """What became of each request: columns as bytes, float64 seconds since `start_s`, or int32."""

    due_s: bytes
    sent_s: bytes
    done_s: bytes
    late_s: bytes
    phase: bytes
    kind: bytes
    outcome: bytes
    status: bytes
    rung: bytes
    retry_after_s: bytes
    rungs: list[str]
    start_s: float
    busy: float


class Request:
    """A request that is under way."""

    __slots__ = ("conn", "due_s", "kind", "late_s", "number", "over", "phase", "sent_s")

    def __init__(self, number: int, due_s: float, phase: int, kind: int) -> None:
        self.number, self.due_s, self.phase, self.kind = number, due_s, phase, kind
        self.sent_s, self.late_s = _NONE, 0.0
        self.conn: Connection | None = None
        self.over = False


class Connection:
    """A kept connection; carries one request at a time and reads its answer."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.request: Request | None = None
        self.rest: bytes | memoryview = b""
        self.connecting = True
        self._clear()
        self.parser = httptools.HttpResponseParser(self)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _clear(self) -> None:
        self.rung = ""
        self.retry_after_s = _NONE
        self.complete = self.kept = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """The parser: a header."""
        lower = name.lower()
        if lower == self.client.rung_header:
            self.rung = value.decode("latin-1")
        elif lower == b"retry-after":
            text = value.decode("latin-1")
            self.retry_after_s = float(text) if text.replace(".", "", 1).isdigit() else _NONE

    def on_body(self, body: bytes) -> None:
        """The parser: a part of the body."""
        if not self.rung:
            at = body.find(b'"rung":"')
            if at >= 0:
                self.rung = body[at + 8 : body.find(b'"', at + 8)].decode("latin-1")

    def on_message_complete(self) -> None:
        """The parser: the answer is whole."""
        self.complete = True
        self.kept = self.parser.should_keep_alive()  # asked later, it always says no

    def send(self, request: Request, now_s: float) -> None:
        """Begin to send a request."""
        self._clear()
        self.request, request.conn, request.sent_s = request, self, now_s
        self.rest = self.client.bytes_of(request)
        if not self.connecting:
            self.write()

    def write(self) -> None:
        """Send what can be sent now."""
        if not self.rest:
            return
        try:
            sent = self.socket.send(self.rest)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.client.lost(self, CLOSED)
            return
        whole = sent == len(self.rest)
        self.rest = b"" if whole else memoryview(self.rest)[sent:]
        self.client.watch(self, not whole)

    def ready(self, events: int) -> None:
        """Go on, now that the socket can be read or written."""
        if self.connecting:
            if self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self.client.lost(self, REFUSED)
                return
            self.connecting = False
            self.client.watch(self, False)
            self.write()
            return
        if events & selectors.EVENT_WRITE:
            self.write()
        if events & selectors.EVENT_READ:
            self._read()

    def _read(self) -> None:
        try:
            data = self.socket.recv(_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.client.lost(self, CLOSED)
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.client.lost(self, BAD_ANSWER)
            return
        if self.complete:
            self.client.answered(self, self.parser.get_status_code())


class Client:
    """Sends what is due and notes what becomes of it."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.rung_header = load.rung_header.lower().encode()
        self._rng = np.random.default_rng(load.seed)
        self._heads = [_head(kind, load) for kind in load.kinds]
        shares = np.array([kind.share for kind in load.kinds], dtype=float)
        self._shares = shares / shares.sum()
        self._selector = selectors.DefaultSelector()
        self._watched: dict[Connection, bool] = {}
        self._free: list[Connection] = []
        self._waiting: deque[Request] = deque()
        self._given: deque[Request] = deque()
        self._number = 0
        self.under_way = 0
        self.rungs: dict[str, int] = {"": 0}
        self.floats = {
            name: array("d") for name in ("due_s", "sent_s", "done_s", "late_s", "retry_after_s")
        }
        self.ints = {name: array("i") for name in ("phase", "kind", "outcome", "status", "rung")}
        self.start_s = 0.0

    def now(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.start_s

    def bytes_of(self, request: Request) -> bytes:
        """The request as it is sent."""
        bodies = self.load.kinds[request.kind].bodies
        body = bodies[request.number % len(bodies)]
        return self._heads[request.kind][request.number % len(bodies)] + body.replace(
            NUMBER, b"%012d" % request.number
        )

    def run(self) -> Taken:
        """Go through the phases, then wait for what is under way."""
        self.start_s, worked_s = time.perf_counter(), time.process_time()
        begin_s = 0.0
        for at, phase in enumerate(self.load.phases):
            if phase.clients:
                self._closed(at, phase, begin_s + phase.seconds)
            else:
                self._open(at, phase, begin_s)
            begin_s += phase.seconds
        while self.under_way:
            self._turn(self.now() + 0.05)
        busy = (time.process_time() - worked_s) / max(self.now(), 1e-9)
        for conn in list(self._watched):
            self._close(conn)
        columns: dict[str, Any] = {name: bytes(c) for name, c in (self.floats | self.ints).items()}
        return Taken(**columns, rungs=list(self.rungs), start_s=self.start_s, busy=busy)

    def _open(self, at: int, phase: Phase, begin_s: float) -> None:
        due = self._due(phase)
        kinds = self._rng.choice(len(self._shares), len(due), p=self._shares).tolist()
        in_a_row = 0
        for due_s, kind in zip((due + begin_s).tolist(), kinds, strict=True):
            in_a_row += 1
            while (now_s := self.now()) < due_s or in_a_row > _IN_A_ROW:
                self._turn(due_s)
                in_a_row = 0
            self._take_up(Request(self._next(), due_s, at, kind), now_s)
        while self.now() < begin_s + phase.seconds:
            self._turn(begin_s + phase.seconds)

    def _due(self, phase: Phase) -> np.ndarray[Any, np.dtype[np.float64]]:
        if self.load.poisson:
            n = self._rng.poisson(phase.rate * phase.seconds)
            return np.sort(self._rng.uniform(0, phase.seconds, n))
        return np.arange(int(phase.rate * phase.seconds)) / phase.rate

    def _closed(self, at: int, phase: Phase, end_s: float) -> None:
        kinds = self._rng.choice(len(self._shares), _DRAWN, p=self._shares).tolist()
        while (now_s := self.now()) < end_s:
            while self.under_way < phase.clients:
                kind = kinds[self._number % len(kinds)]
                self._take_up(Request(self._next(), now_s, at, kind), now_s)
            self._turn(end_s)

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _take_up(self, request: Request, now_s: float) -> None:
        request.late_s = now_s - request.due_s
        self.under_way += 1
        self._given.append(request)
        if self._free:
            self._free.pop().send(request, now_s)
        elif len(self._watched) < self.load.connections:
            self._connect().send(request, now_s)
        else:
            self._waiting.append(request)

    def _connect(self) -> Connection:
        conn = Connection(self)
        conn.socket.connect_ex((self.load.host, self.load.port))
        self._selector.register(conn.socket, selectors.EVENT_WRITE, conn)
        self._watched[conn] = True
        return conn

    def watch(self, conn: Connection, writing: bool) -> None:
        """Hear of what arrives, and with `writing` of room to send."""
        if self._watched[conn] != writing or conn.connecting:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)
            self._selector.modify(conn.socket, events, conn)
            self._watched[conn] = writing

    def _turn(self, until_s: float) -> None:
        """Handle what has happened, waiting for it until shortly before `until_s`, and give up what is overdue."""
        due_s = self._given[0].due_s + self.load.timeout_s if self._given else until_s
        wait_s = min(until_s, due_s) - self.now() - _WAKE_S
        for key, events in self._selector.select(max(0.0, wait_s)):
            if key.data in self._watched:
                key.data.ready(events)
        self._give_up()

    def _give_up(self) -> None:
        now_s = self.now()
        while self._given and (
            self._given[0].over or self._given[0].due_s + self.load.timeout_s <= now_s
        ):
            request = self._given.popleft()
            if request.over:
                continue
            if request.conn is None:
                self._note(request, NO_CONNECTION)
            else:
                self._drop(request.conn)
                self._note(request, TIMEOUT)

    def _drop(self, conn: Connection) -> None:
        # A reset, so that thousands of clients who gave up do not use the machine's ports up.
        conn.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        self._close(conn)
        self._serve_waiting()

    def _close(self, conn: Connection) -> None:
        del self._watched[conn]
        self._selector.unregister(conn.socket)
        conn.socket.close()
        conn.request = None

    def lost(self, conn: Connection, why: int) -> None:
        """A connection is no more, and what was asked on it has no answer."""
        request = conn.request
        self._close(conn)
        if request is None:
            self._free.remove(conn)
        else:
            self._note(request, why)
        self._serve_waiting()

    def answered(self, conn: Connection, status: int) -> None:
        """An answer is whole; the connection is free for the next request."""
        request = conn.request
        if request is None:  # more than was asked for
            self.lost(conn, BAD_ANSWER)
            return
        kept = conn.kept and not conn.rest
        self._note(request, ANSWERED, status, conn.rung, conn.retry_after_s)
        conn.request = None
        if kept:
            self._free.append(conn)
        else:
            self._close(conn)
        self._serve_waiting()

    def _serve_waiting(self) -> None:
        while self._waiting and (self._free or len(self._watched) < self.load.connections):
            request = self._waiting.popleft()
            now_s = self.now()
            if not request.over and now_s < request.due_s + self.load.timeout_s:
                (self._free.pop() if self._free else self._connect()).send(request, now_s)

    def _note(
        self,
        request: Request,
        outcome: int,
        status: int = 0,
        rung: str = "",
        retry_after_s: float = _NONE,
    ) -> None:
        request.over = True
        request.conn = None
        self.under_way -= 1
        floats = (request.due_s, request.sent_s, self.now(), request.late_s, retry_after_s)
        for column, value in zip(self.floats.values(), floats, strict=True):
            column.append(value)
        ints = (
            *(request.phase, request.kind, outcome, status),
            self.rungs.setdefault(rung, len(self.rungs)),
        )
        for counted, number in zip(self.ints.values(), ints, strict=True):
            counted.append(number)


def _head(kind: Kind, load: Load) -> list[bytes]:
    """Everything before the body, for each of the bodies."""
    headers = {"host": f"{load.host}:{load.port}", "content-type": "application/json"}
    lines = [f"{name}: {value}" for name, value in (headers | kind.headers).items()]
    begin = f"{kind.method} {kind.path} HTTP/1.1"
    return [
        "\r\n".join([begin, *lines, f"content-length: {len(body)}", "", ""]).encode()
        for body in kind.bodies
    ]


def main() -> None:
    """Read a load, put it on, write what became of it."""
    load = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Load)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = load.connections + 64
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, most) if most >= 0 else wanted, most))
    gc.disable()  # a collection would be late for what is due; there is little to collect
    sys.stdout.buffer.write(msgspec.msgpack.encode(Client(load).run()))


if __name__ == "__main__":
    main()
