"""A request answered by an exchange is answered as by the application that uvicorn calls: byte for byte, however it comes in parts."""

import asyncio
import gc
import json
import weakref
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sevenfold.serving.admission import Priority
from sevenfold.serving.app import App
from sevenfold.serving.limits import Limits
from sevenfold.serving.route import Asked, Reply, Route
from sevenfold.serving.site import Site
from tests.unit.serving.wire import AS_ASGI, MENU, ROWS, Wire, chunked, masked, request, wired

MakeStall = Callable[..., Any]


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


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_however_it_is_cut_it_is_answered_the_same(ways: tuple[Wire, Wire], data: Any) -> None:
    asgi, direct = ways
    names = data.draw(st.lists(st.sampled_from(sorted(MENU)), min_size=1, max_size=4))
    raw = b"".join(MENU[name] for name in names)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(raw) - 1), max_size=6)))
    parts = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    pauses = data.draw(st.booleans())
    found = masked(direct.ask(*parts, pauses=pauses))
    assert found in _expected(asgi, [MENU[name] for name in names], parts, pauses)


@pytest.mark.parametrize("first", MENU)
def test_two_that_come_together_are_answered_the_same(ways: tuple[Wire, Wire], first: str) -> None:
    asgi, direct = ways
    for second in ("health", "features", "no http"):
        both = MENU[first] + MENU[second]
        for _ in range(2):
            expected = _expected(asgi, [MENU[first], MENU[second]], [both], False)
            assert masked(direct.ask(both)) in expected, second


def _same(found: bytes, asgi: Wire, *parts: bytes) -> None:
    """What was found is what the application answers, be it to one byte after the other: then it is asked before it is known what is behind."""
    if masked(found) != masked(asgi.ask(*parts, pauses=len(parts) > 1)):
        slowly = [bytes([byte]) for byte in b"".join(parts)]
        assert masked(found) == masked(asgi.ask(*slowly, pauses=True))


def _expected(
    asgi: Wire, requests: list[bytes], parts: list[bytes], pauses: bool
) -> tuple[bytes, ...]:
    """What may be answered: as the application does, or as it does where each request comes by itself.

    An answer that is ready is given before what is behind it is read. uvicorn has not begun it by then, and closes without it where that is no HTTP:
    then those answers are missing that were not ready.
    """
    whole = masked(asgi.ask(*parts, pauses=pauses))
    alone = masked(asgi.ask(*requests, pauses=True))
    if whole == alone:
        return (whole,)
    first = [masked(asgi.ask(*requests[:n], pauses=True)) for n in range(1, len(requests))]
    return whole, alone, *first


@pytest.mark.parametrize("name", ["health", "features", "answer", "features in chunks"])
def test_every_cut_in_two_gives_the_same(ways: tuple[Wire, Wire], name: str) -> None:
    _, direct = ways
    whole = masked(direct.ask(MENU[name]))
    assert whole.startswith(b"HTTP/1.1 200 ")
    for at in range(1, len(MENU[name])):
        assert masked(direct.ask(MENU[name][:at], MENU[name][at:], pauses=True)) == whole, at


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
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
        _same(direct.ask(sent), asgi, sent)
    _same(direct.ask(sent, sent, pauses=True), asgi, sent, sent)


def test_heads_are_known_in_these_tests(ways: tuple[Wire, Wire]) -> None:
    """Else what they compare is the parser with itself."""
    _, direct = ways
    heads = []

    async def ask() -> None:
        connection, theirs = await direct.connect()
        with theirs:
            heads.append(
                connection._heads.find(MENU["answer"].partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
            )
            connection.transport.abort()
            await direct.settle()

    direct.loop.run_until_complete(ask())
    assert heads[0] is not None


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


def test_a_connection_that_is_over_is_let_go_of_at_once(make_stall: MakeStall) -> None:
    """Without a look through all of memory: that would stop the answers."""
    with wired(make_stall().app) as wire:

        async def use(name: str) -> Any:
            connection, theirs = await wire.connect()
            with theirs:
                connection.data_received(MENU[name])
                await wire.sent(theirs)
            while wire.state.connections:
                await asyncio.sleep(0)
            return weakref.ref(connection)

        gc.disable()
        try:
            for name in ("health", "health", "answer", "nowhere"):
                left = wire.loop.run_until_complete(use(name))
                wire.loop.run_until_complete(asyncio.sleep(0))
                assert left() is None, name
        finally:
            gc.enable()
