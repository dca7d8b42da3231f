"""A request answered by an exchange is answered as by the application that uvicorn calls: byte for byte, however it comes in parts."""

import asyncio
import json
import re
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
from uvicorn.server import ServerState

from sevenfold.serving.admission import Priority
from sevenfold.serving.app import App
from sevenfold.serving.connection import Connection, bounded
from sevenfold.serving.exchange import Exchange
from sevenfold.serving.known_heads import KnownHeads
from sevenfold.serving.limits import Limits
from sevenfold.serving.route import Asked, Head, Reply, Route
from sevenfold.serving.site import Site

MakeStall = Callable[..., Any]
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
                if pauses:
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


@pytest.fixture
def ways(make_stall: MakeStall) -> Iterator[tuple[Wire, Wire]]:
    """A listener that has uvicorn call the application, and one as it is; the answer of `answer` has been given at both."""
    limits = Limits(max_body_bytes=1_000)
    stalls = [make_stall(max_body_bytes=1_000) for _ in range(2)]
    with wired(stalls[0].app, limits, **AS_ASGI) as asgi, wired(stalls[1].app, limits) as direct:
        for wire in (asgi, direct):
            wire.ask(MENU["answer"])
        yield asgi, direct


def test_every_route_answers_the_same_both_ways(ways: tuple[Wire, Wire]) -> None:
    """What is asked three times has a head that is known the last two."""
    asgi, direct = ways
    for name, raw in MENU.items():
        expected = [masked(asgi.ask(raw)) for _ in range(3)]
        assert [masked(direct.ask(raw)) for _ in range(3)] == expected, name
        assert expected[0].startswith(b"HTTP/1.1 ") or name == "bad chunk", name
    counted = [b"sevenfold_requests_total", b"sevenfold_request_seconds_count"]
    told = [
        sorted(line for line in wire.ask(ask).split(b"\n") if line.startswith(tuple(counted)))
        for wire, ask in ((asgi, request(b"GET /metrics")), (direct, request(b"GET /metrics")))
    ]
    assert told[0] == told[1]
    assert len(told[0]) > 10


def test_the_description_answers_the_same_both_ways(ways: tuple[Wire, Wire]) -> None:
    """An answer that is longer than what is written in one piece with its head."""
    asgi, direct = ways
    for _ in range(2):
        raw = direct.ask(request(b"GET /openapi.json"))
        assert masked(raw) == masked(asgi.ask(request(b"GET /openapi.json")))
    assert b"content-length: %d\r\n" % len(raw.partition(b"\r\n\r\n")[2]) in raw


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_however_it_is_cut_it_is_answered_the_same(ways: tuple[Wire, Wire], data: Any) -> None:
    asgi, direct = ways
    names = data.draw(st.lists(st.sampled_from(sorted(MENU)), min_size=1, max_size=4))
    raw = b"".join(MENU[name] for name in names)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(raw) - 1), max_size=6)))
    parts = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    pauses = data.draw(st.booleans())
    expected = asgi.ask(*parts, pauses=pauses)
    assert masked(direct.ask(*parts, pauses=pauses)) == masked(expected)


@pytest.mark.parametrize("first", MENU)
def test_two_that_come_together_are_answered_the_same(ways: tuple[Wire, Wire], first: str) -> None:
    asgi, direct = ways
    for second in ("health", "features", "no http"):
        both = MENU[first] + MENU[second]
        for _ in range(2):
            assert masked(direct.ask(both)) == masked(asgi.ask(both)), second


@pytest.mark.parametrize("name", ["health", "features", "answer", "features in chunks"])
def test_every_cut_in_two_gives_the_same(ways: tuple[Wire, Wire], name: str) -> None:
    _, direct = ways
    whole = masked(direct.ask(MENU[name]))
    assert whole.startswith(b"HTTP/1.1 200 ")
    for at in range(1, len(MENU[name])):
        assert masked(direct.ask(MENU[name][:at], MENU[name][at:], pauses=True)) == whole, at


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_what_is_known_is_what_the_parser_reads(ways: tuple[Wire, Wire], data: Any) -> None:
    """Any bytes sent again and again, on connections of their own and on one, are answered as by the parser alone."""
    asgi, direct = ways
    raw = bytearray(MENU[data.draw(st.sampled_from(sorted(MENU)))])
    pieces = [
        b"\r",
        b"\n",
        b"\r\n",
        b"\n\n",
        b" ",
        b"\t",
        b":",
        b"\0",
        b"0",
        b"connection: close\r\n",
    ]
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(raw)))
        raw[at : at + data.draw(st.integers(0, 2))] = data.draw(st.sampled_from(pieces))
    sent = bytes(raw) or b" "
    for _ in range(3):
        assert masked(direct.ask(sent)) == masked(asgi.ask(sent))
    assert masked(direct.ask(sent, sent, pauses=True)) == masked(asgi.ask(sent, sent, pauses=True))


def test_an_answer_that_is_ready_is_given_without_a_round_but_one_at_a_time(
    make_stall: MakeStall,
) -> None:
    with wired(make_stall().app) as wire:

        async def ask() -> None:
            connection, theirs = await wire.connect()
            with theirs:
                connection.data_received(MENU["health"] * 50)
                assert wire.state.total_requests == 1  # others are heard before the next
                assert (await wire.sent(theirs)).count(b"HTTP/1.1 200 OK") == 50
                connection.transport.abort()
                await wire.settle()

        wire.loop.run_until_complete(ask())


@pytest.mark.parametrize("name", ["last", "too large in chunks"])
def test_what_came_behind_the_last_request_is_not_heard(make_stall: MakeStall, name: str) -> None:
    stall = make_stall(max_body_bytes=1_000)
    with wired(stall.app) as wire:
        raw = wire.ask(MENU[name] + MENU["answer"])
        assert raw.count(b"HTTP/1.1") == 1
    assert stall.service.pending.find("r") is None
    assert stall.app.site.gate.admitted["/v1/recommend", Priority.NORMAL] == 0


@pytest.mark.parametrize("frame", [request, lambda line, body: chunked(line, body, 100)])
def test_a_body_has_as_many_bytes_as_it_may_and_not_one_more(
    make_stall: MakeStall, frame: Callable[[bytes, bytes], bytes]
) -> None:
    stall = make_stall(max_body_bytes=1_000)
    with wired(stall.app, Limits(max_body_bytes=1_000)) as wire:
        for _ in range(2):
            fits = frame(b"POST /v1/features", ROWS.rjust(1_000))
            assert wire.ask(fits).startswith(b"HTTP/1.1 200 ")
            over = wire.ask(frame(b"POST /v1/features", ROWS.rjust(1_001)))
            assert over.startswith(b"HTTP/1.1 413 ")
            assert b"\r\nconnection: close\r\n" in over
    assert stall.app.bodies.n == 0


def test_all_bodies_together_have_room_whether_they_come_at_once_or_not(
    make_stall: MakeStall,
) -> None:
    stall = make_stall(bodies_bytes=len(ROWS))
    with wired(stall.app) as wire:
        for _ in range(3):  # the head is known after the first
            assert wire.ask(MENU["features"]).startswith(b"HTTP/1.1 200 ")
        over = request(b"POST /v1/features", b" " + ROWS)
        for _ in range(3):
            raw = wire.ask(over)
            assert raw.startswith(b"HTTP/1.1 503 ")
            assert b"too_much_at_once" in raw
        stall.app.bodies.n += 1  # as another has begun to come
        assert b"too_much_at_once" in wire.ask(MENU["features"])
        stall.app.bodies.n -= 1
    assert stall.app.bodies.n == 0


@pytest.mark.parametrize("name", ["features", "features in chunks", "answer", "health"])
@pytest.mark.parametrize("is_known", [False, True])
def test_a_client_that_goes_at_any_point_leaves_nothing_behind(
    make_stall: MakeStall, name: str, is_known: bool
) -> None:
    stall = make_stall()
    raw = MENU[name]
    ends = raw.index(b"\r\n\r\n") + 4
    with wired(stall.app) as wire:
        if is_known:
            wire.ask(raw)

        async def go(at: int) -> None:
            connection, theirs = await wire.connect()
            connection.data_received(raw[:at])
            theirs.close()
            while wire.state.connections:
                await asyncio.sleep(0)
            await wire.settle()
            assert not wire.state.tasks
            assert not connection._idle
            assert stall.app.bodies.n == 0

        def counted(status: int) -> float:
            text = wire.ask(request(b"GET /metrics")).decode()
            path = raw.split()[1].decode()
            mark = f'sevenfold_requests_total{{route="{path}",status="{status}"}} '
            return float(text.partition(mark)[2].partition("\n")[0] or 0)

        for at in range(1, len(raw) + 1):
            before = counted(400), counted(200)
            wire.loop.run_until_complete(go(at))
            whole, headed = at == len(raw), at >= ends
            assert counted(400) - before[0] == (headed and not whole)
            assert counted(200) - before[1] == whole


def test_a_body_that_does_not_come_is_too_slow(make_stall: MakeStall) -> None:
    limits = Limits(body_timeout_s=0.05)
    stall = make_stall(body_timeout_s=0.05)
    with wired(stall.app, limits) as wire:

        async def ask() -> bytes:
            connection, theirs = await wire.connect()
            with theirs:
                connection.data_received(MENU["features"][:-5])
                assert len(wire.state.tasks) == 1  # a server that ends waits for it
                while wire.state.tasks:
                    await asyncio.sleep(0.01)
                connection.data_received(MENU["features"][-5:])
                return await wire.sent(theirs)

        raw = wire.loop.run_until_complete(ask())
        assert raw.startswith(b"HTTP/1.1 408 ")
        assert b"\r\nconnection: close\r\n" in raw
        assert b"did not arrive within 0.05 s" in raw
        assert not wire.state.connections
    assert stall.app.bodies.n == 0


@pytest.mark.parametrize("is_there", [False, True])
def test_a_server_that_ends_cuts_off_what_it_has_no_time_for(
    make_stall: MakeStall, is_there: bool
) -> None:
    """As uvicorn does: it cancels what is left."""

    async def never(site: Site, asked: Asked) -> Reply:
        await asyncio.Event().wait()
        raise AssertionError

    def begin(site: Site, asked: Asked) -> Awaitable[Reply]:
        return never(site, asked)

    stall = make_stall()
    app = App(stall.app.site, stall.app._guard, routes=[Route("POST", "/x", None, "", begin)])
    raw = request(b"POST /x", b"body")
    with wired(app) as wire:

        async def ask() -> bytes:
            connection, theirs = await wire.connect()
            with theirs:
                connection.data_received(raw if is_there else raw[:-1])
                for _ in range(3):
                    await asyncio.sleep(0)
                connection.shutdown()
                for task in wire.state.tasks:
                    task.cancel(msg="time is over")
                return await wire.sent(theirs)

        sent = wire.loop.run_until_complete(ask())
        assert sent.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
        assert b"\r\nconnection: close\r\n" in sent
        assert not wire.state.tasks
        assert not wire.state.connections
    assert app.bodies.n == 0


def _raising(site: Site, asked: Asked) -> Reply:
    raise RuntimeError("a secret")


async def _raising_late(site: Site, asked: Asked) -> Reply:
    await asyncio.sleep(0)
    raise RuntimeError("a secret")


def _splitting(site: Site, asked: Asked) -> Reply:
    return Reply(b"x", headers=((b"location", b"/\r\nset-cookie: a=b"),))


@pytest.mark.parametrize("answer", [_raising, _raising_late, _splitting])
@pytest.mark.parametrize("turn", [None, "answers"])
def test_a_fault_of_ours_is_a_refusal_and_the_server_goes_on(
    make_stall: MakeStall, answer: Any, turn: Any
) -> None:
    stall = make_stall()
    routes = [
        Route("POST", "/x", None, "", answer, turn=turn),
        Route("GET", "/y", None, "", lambda *_: Reply(b"y")),
    ]
    app = App(stall.app.site, stall.app._guard, routes=routes)
    with wired(app) as wire:
        for _ in range(2):
            raw = wire.ask(request(b"POST /x", b"{}"))
            assert raw.startswith(b"HTTP/1.1 500 ")
            assert b"secret" not in raw
            assert b"set-cookie" not in raw
            if answer is not _splitting:
                assert json.loads(raw.partition(b"\r\n\r\n")[2])["error"]["code"] == "internal"
            assert wire.ask(request(b"GET /y")).endswith(b"\r\n\r\ny")


def head_of_path(path: str) -> Head:
    route = Route("GET", path, None, "", _raising)
    return Head("GET", path, route, {}, {}, 0, 0, 0.0)


def test_only_heads_of_late_are_known() -> None:
    known = KnownHeads(most=3, most_bytes=10)
    heads = {b"%d" % n: head_of_path(f"/{n}") for n in range(10)}
    for raw, head in heads.items():
        known.keep(raw, head)
        assert known.find(b"0") is heads[b"0"]  # asked for again and again, it stays
        assert known.find(raw) is head
    assert known.find(b"1") is None
    assert known.find(b"9") is heads[b"9"]
    known.keep(b"x" * 11, heads[b"0"])
    assert known.find(b"x" * 11) is None


def test_a_head_that_there_was_no_time_for_is_known(make_stall: MakeStall) -> None:
    """Under a great load it is most that come."""
    late = MENU["no time"]
    with wired(make_stall().app) as wire:
        wire.ask(MENU["answer"])  # what an answer takes is known
        heads = wire.config.http_protocol_class.keywords["heads"]  # type: ignore[union-attr]

        async def ask(*parts: bytes) -> bytes:
            (ahead, one), (connection, theirs) = await wire.connect(), await wire.connect()
            with one, theirs:
                ahead.data_received(MENU["answer"][:-1])  # it is waited for
                for part in parts:
                    connection.data_received(part)
                raw = await wire.sent(theirs)
                for used in (ahead, connection):
                    used.transport.abort()
                await wire.settle()
            return raw

        first = wire.loop.run_until_complete(ask(late))
        assert first.startswith(b"HTTP/1.1 503 ")
        assert len(heads._new) == 2
        assert b'"code":"overloaded"' in first
        again = wire.loop.run_until_complete(ask(late[:-5], late[-5:] + MENU["health"]))
        assert [again.count(b"HTTP/1.1 503 "), again.count(b"HTTP/1.1 200 ")] == [1, 1]
        assert not wire.state.connections


@pytest.mark.parametrize(
    "name", ["last", "old", "old that keeps", "waits", "upgrade", "features in chunks", "no token"]
)
def test_what_is_more_than_its_bytes_is_not_known(make_stall: MakeStall, name: str) -> None:
    app = make_stall().app
    with wired(app) as wire:
        for _ in range(3):
            wire.ask(MENU[name])
        heads = wire.config.http_protocol_class.keywords["heads"]  # type: ignore[union-attr]
        assert not heads._new
        wire.ask(MENU["health"])
        assert len(heads._new) == 1
