"""A listener whose connections are given bytes as a transport gives them, and what there is to ask of it."""

import asyncio
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from sevenfold.serving.app import App
from sevenfold.serving.connection import Connection, bounded
from sevenfold.serving.exchange import Exchange
from sevenfold.serving.limits import Limits

ASK = b'{"request_id":"r","keys":{"customer":"ada"}}'
ROWS = b'{"rows":[{"customer":"ada","item":"a"}]}'
TOKEN = b"authorization: Bearer the-token\r\n"
AS_ASGI = {"limit_concurrency": 1 << 30}  # of uvicorn: then it has all calls
# What says when, how long, or which of all requests it was.
CHANGES = re.compile(
    rb'"request_id":"[0-9a-f]+"|"timing_ms":{[^}]*}|server-timing: [^\r]*|content-length: \d+'
)


@dataclass
class Wire:
    """One listener, and connections to it whose bytes are given as a transport gives them: part by part."""

    config: uvicorn.Config
    loop: asyncio.AbstractEventLoop
    state: ServerState = field(default_factory=ServerState)

    def ask(self, *parts: bytes, pauses: bool = False) -> bytes:
        """All that a new connection is sent for some parts; with `pauses` the loop comes round between them."""
        return self.loop.run_until_complete(self._ask(parts, pauses))

    async def _ask(self, parts: Sequence[bytes], pauses: bool) -> bytes:
        connection, theirs = await self.connect()
        with theirs:
            for part in parts:
                connection.data_received(part)
                for _ in range(20 if pauses else 0):
                    await asyncio.sleep(0)
            raw = await self.sent(theirs)
            connection.transport.abort()
            await self.settle()
        return raw

    async def connect(self) -> tuple[Connection, socket.socket]:
        """A new connection, and the client's end of it."""
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        make = self.config.http_protocol_class

        def protocol() -> Any:
            return make(config=self.config, server_state=self.state, app_state={})  # type: ignore[call-arg]

        _, connection = await self.loop.connect_accepted_socket(protocol, ours)
        return connection, theirs

    async def sent(self, theirs: socket.socket) -> bytes:
        """What the client has been sent when nothing is being done any more."""
        await self.settle()
        raw = b""
        try:
            while part := theirs.recv(1 << 20):
                raw += part
                await asyncio.sleep(0)
        except BlockingIOError:
            pass
        return raw

    async def settle(self) -> None:
        """Wait until nothing is being done."""
        for _ in range(5_000):
            for _ in range(5):
                await asyncio.sleep(0)
            if len(self.state.tasks) == sum(map(waits_for_body, self.state.connections)):
                return
            await asyncio.sleep(0.001)
        raise AssertionError("requests that nobody answers")


def waits_for_body(connection: Any) -> bool:
    """Whether nothing is done on a connection until the client sends more of a body."""
    cycle = connection.cycle
    if isinstance(cycle, Exchange):
        return not (cycle._begun or cycle.response_complete) and cycle._timer is not None
    if not isinstance(cycle, RequestResponseCycle) or cycle.response_complete:
        return False
    begun = cycle.body or not cycle.more_body or cycle.message_event.is_set()
    return not (begun or connection.pipeline)


@contextmanager
def wired(app: App, limits: Limits | None = None, **more: Any) -> Iterator[Wire]:
    """A listener of an application, for a block."""
    config = uvicorn.Config(
        app,
        http=bounded(limits or Limits(), app),  # type: ignore[arg-type]
        lifespan="off",
        log_level="critical",
        access_log=False,
        ws="none",
        server_header=False,
        **more,
    )
    config.load()
    make_loop = config.get_loop_factory() or asyncio.new_event_loop
    wire = Wire(config, make_loop())
    wire.state.default_headers = [(b"date", b"today")]
    try:
        yield wire
    finally:
        wire.loop.close()


def request(line: bytes, body: bytes = b"", more: bytes = b"") -> bytes:
    length = b"content-length: %d\r\n" % len(body) if body else b""
    return line + b" HTTP/1.1\r\nhost: stall\r\n" + more + length + b"\r\n" + body


def chunked(line: bytes, body: bytes, n: int) -> bytes:
    chunks = [body[at : at + n] for at in range(0, len(body), n)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in chunks)
    return request(line, more=b"transfer-encoding: chunked\r\n") + framed + b"0\r\n\r\n"


def masked(raw: bytes) -> bytes:
    return CHANGES.sub(b"~", raw)


MENU = {
    "health": request(b"GET /healthz"),
    "head": request(b"HEAD /healthz"),
    "last": request(b"GET /healthz", more=b"connection: close\r\n"),
    "old": b"GET /healthz HTTP/1.0\r\n\r\n",
    "old that keeps": b"GET /healthz HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
    "nowhere": request(b"POST /nowhere", b"x" * 50),
    "put": request(b"PUT /healthz", b"x"),
    "bodied get": request(b"GET /healthz", b"{}"),
    "features": request(b"POST /v1/features", ROWS),
    "features in chunks": chunked(b"POST /v1/features", ROWS, 7),
    "trailer": chunked(b"POST /v1/features", ROWS, 30)[:-2] + b"authorization: Bearer x\r\n\r\n",
    "answer": request(b"POST /v1/recommend", ASK),
    "no json": request(b"POST /v1/recommend", ASK[:-1]),
    "no body": request(b"POST /v1/recommend"),
    "length of nothing": request(b"POST /v1/recommend", more=b"content-length: 0\r\n"),
    "waits": request(b"POST /v1/features", ROWS, b"expect: 100-continue\r\n"),
    "upgrade": request(b"GET /healthz", more=b"connection: upgrade\r\nupgrade: x\r\n"),
    "connect": b"CONNECT stall:80 HTTP/1.1\r\nhost: stall\r\n\r\n",
    "two hosts": request(b"GET /healthz", more=b"host: other\r\n"),
    "deadline": request(b"POST /v1/features", ROWS, b"x-deadline-ms: 60000\r\n"),
    "no time": request(b"POST /v1/recommend", ASK, b"x-deadline-ms: 0\r\n"),
    "no deadline": request(b"POST /v1/features", ROWS, b"x-deadline-ms: soon\r\n"),
    "compressed": request(b"POST /v1/features", ROWS, b"content-encoding: gzip\r\n"),
    "too large": request(b"POST /v1/features", b" " * 2_000 + ROWS),
    "too large in chunks": chunked(b"POST /v1/features", b" " * 2_000 + ROWS, 500),
    "no token": request(b"POST /v1/events", b"{}"),
    "token": request(b"POST /v1/events", b"{}", TOKEN),
    "page": request(b"POST /v1/features", ROWS, b"origin: http://else\r\n"),
    "folded": request(b"GET /healthz", more=b"a: b\r\n c\r\n"),
    "bare line feeds": b"GET /healthz HTTP/1.1\nhost: stall\n\n\r\n\r\n",
    "blank before": b"\r\n" + request(b"GET /healthz"),
    "blank behind": request(b"GET /healthz") + b"\r\n",
    "two lengths": request(b"POST /v1/features", ROWS, b"content-length: 3\r\n"),
    "both ways": request(b"POST /v1/features", ROWS, b"transfer-encoding: chunked\r\n"),
    "bad chunk": request(b"POST /v1/features", more=b"transfer-encoding: chunked\r\n") + b"x\r\n",
    "no http": b"hello\r\n\r\n",
    "escaped": request(b"GET /health%7a"),
    "query": request(b"GET /healthz?a=b"),
    "whole address": request(b"GET http://stall/healthz"),
    "model": request(b"GET /v2/models/none"),
}
