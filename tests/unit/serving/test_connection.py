"""What a client may do to a connection before, between and after its requests; over real sockets."""

import itertools
import json
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import pytest
import uvicorn

from sevenfold.serving.app import App
from sevenfold.serving.connection import bounded
from sevenfold.serving.limits import Limits
from sevenfold.serving.listening import listen_port

Listen = Callable[..., AbstractContextManager[int]]
ASK = b'{"request_id":"r","keys":{"customer":"ada"}}'
LONG_S = 600  # of what is not to be over in a test


@pytest.fixture
def listen(make_stall: Callable[..., Any]) -> Listen:
    """A function that has a stall listen with given limits for a block, and gives its port."""

    @contextmanager
    def listening(**limits: Any) -> Iterator[int]:
        with accepting(make_stall(**limits).app, listen_port("127.0.0.1", 0), **limits) as port:
            yield port

    return listening


@contextmanager
def accepting(app: App, place: socket.socket, **limits: Any) -> Iterator[int]:
    """Have an application accept at a place that listens already, for a block; its port."""
    config = uvicorn.Config(
        app,
        http=bounded(Limits(**limits), app),  # type: ignore[arg-type]
        lifespan="off",
        log_level="critical",
        access_log=False,  # which would be uvicorn's own way of a request
        ws="none",
        timeout_graceful_shutdown=1,
    )
    server, port = uvicorn.Server(config), place.getsockname()[1]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [place]})
    thread.start()
    try:
        yield port
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def answer(connection: socket.socket) -> tuple[int, bytes]:
    """The status and body of the next answer; 0 when the connection ends without one."""
    raw = b""
    while b"\r\n\r\n" not in raw:
        try:
            part = connection.recv(65_536)
        except ConnectionError:
            part = b""
        if not part:
            return 0, raw
        raw += part
    head, _, body = raw.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(body) < length:
        part = connection.recv(65_536)
        assert part, "an answer that ends early"
        body += part
    return int(head.split()[1]), body


def is_ended(connection: socket.socket) -> bool:
    """Whether the other side ends it within the time that a socket waits."""
    try:
        while connection.recv(65_536):
            pass
    except ConnectionError:
        pass
    return True


def taken(connection: socket.socket, parts: Iterable[bytes], pause_s: float = 0.0) -> int:
    """How many of the parts go out before the other side ends the connection; all when it does not."""
    sent = 0
    try:
        for part in parts:
            connection.sendall(part)
            sent += 1
            threading.Event().wait(pause_s)
    except ConnectionError:
        pass
    return sent


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks Linux for the state")
def test_who_gave_up_before_it_was_accepted_is_not_answered(
    make_stall: Callable[..., Any],
) -> None:
    """After a stall the server's time is for those who still wait, not for those who have left their requests behind."""
    stall, place = make_stall(), listen_port("127.0.0.1", 0)
    port = place.getsockname()[1]
    head = b"POST /v1/recommend HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: %d\r\n\r\n" % len(
        ASK
    )
    for _ in range(50):
        with connect(port) as left:
            left.sendall(head + ASK)
            left.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with connect(port) as waits:
        waits.sendall(head + ASK)
        with accepting(stall.app, place):
            assert answer(waits)[0] == 200
    gate = stall.app.site.gate
    assert gate.admitted.total() + gate.refused.total() == 1


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nx: " + b"y" * 40_000 + b"\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n" + b"x" * 40_000,
        b"GET /healthz HTTP/1.1\r\n" + b"a: b\r\n" * 101 + b"\r\n",
        b"GET /healthz HTTP/1.1\r\n" + b"".join(b"a%d: bcdefgh\r\n" % i for i in range(5_000)),
    ],
    ids=["address", "header", "name", "many", "no end"],
)
@pytest.mark.parametrize("piece", [5_000, 200_000])
def test_a_head_has_a_size(listen: Listen, head: bytes, piece: int) -> None:
    with listen() as port, connect(port) as connection:
        taken(connection, (head[at : at + piece] for at in range(0, len(head), piece)))
        status, body = answer(connection)
        assert status in (431, 0)  # 0: what was still on its way made the system drop the answer
        if status:
            assert json.loads(body)["error"]["code"] == "head_too_large"
        assert is_ended(connection)


@pytest.mark.parametrize("start", [b"GET /hea", b"GET /healthz HTTP/1.1\r\nhost: x", b"\r\n\r\n"])
def test_a_head_that_does_not_come_is_not_waited_for(listen: Listen, start: bytes) -> None:
    with listen(head_timeout_s=0.2) as port, connect(port) as connection:
        connection.sendall(start)
        status, body = answer(connection)
        assert (status, json.loads(body)["error"]["code"]) == (408, "too_slow")
        assert is_ended(connection)


def test_a_head_that_comes_slowly_enough_is_late_though_it_goes_on(listen: Listen) -> None:
    with listen(head_timeout_s=0.5) as port, connect(port) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\n")
        assert taken(connection, [b"x: y\r\n"] * 400, 0.05) < 400


def test_a_connection_without_a_request_ends(listen: Listen) -> None:
    with listen(idle_timeout_s=0.2) as port:
        with connect(port) as silent:
            assert is_ended(silent)
        for _ in range(100):  # a machine may be too busy to send a request in time
            with connect(port) as used:
                if taken(used, [b"GET /healthz HTTP/1.1\r\n\r\n"]) and answer(used)[0] == 200:
                    assert is_ended(used)
                    return
        pytest.fail("no request came through in time")


def test_what_is_left_of_an_unwanted_body_has_its_time_too(listen: Listen) -> None:
    with listen(head_timeout_s=0.2, idle_timeout_s=60) as port, connect(port) as connection:
        connection.sendall(b"POST /nowhere HTTP/1.1\r\ncontent-length: 1000000\r\n\r\nx")
        assert answer(connection)[0] == 404
        assert is_ended(connection)


def test_a_new_connection_takes_the_place_of_the_longest_idle(listen: Listen) -> None:
    with listen(connections=3) as port:
        first, second, third = (connect(port) for _ in range(3))
        for one in (second, first, third):
            one.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
            assert answer(one)[0] == 200
        with connect(port) as fourth:
            fourth.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
            assert answer(fourth)[0] == 200
            assert is_ended(second)
            for one in (first, third):
                one.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
                assert answer(one)[0] == 200
        for one in (first, second, third):
            one.close()


def test_busy_connections_are_not_ended_for_a_new_one(listen: Listen) -> None:
    with listen(connections=2, body_timeout_s=LONG_S) as port:
        head = b"POST /v1/recommend HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(ASK)
        busy = [connect(port) for _ in range(2)]
        for one in busy:
            one.sendall(head + ASK[:5])
        while True:  # until both are known to be busy, a third may take the place of one
            with connect(port) as third:
                status, body = answer(third)
            if status:
                break
        assert (status, json.loads(body)["error"]["code"]) == (503, "too_many_connections")
        for i, one in enumerate(busy):
            try:
                one.sendall(ASK[5:])
                assert answer(one)[0] in (200, 0), i
            finally:
                one.close()


def test_a_body_has_a_time_and_all_bodies_a_size(listen: Listen) -> None:
    head = b"POST /v1/recommend HTTP/1.1\r\ncontent-length: 3000\r\n\r\n"
    with listen(body_timeout_s=0.2) as port, connect(port) as connection:
        connection.sendall(head + b"x")
        assert answer(connection)[0] == 408
        assert is_ended(connection)
    with listen(bodies_bytes=5_000, body_timeout_s=LONG_S) as port:
        waiting = [connect(port) for _ in range(3)]
        for one in waiting:
            one.sendall(head + b" " * 2_900)
        with connect(port) as late:
            late.sendall(head + b" " * 2_900)
            statuses = {answer(one)[0] for one in (late,)}
        assert statuses == {503}
        for one in waiting:
            one.close()


def test_a_body_without_an_end_is_cut_off(listen: Listen) -> None:
    with listen(max_body_bytes=100_000) as port, connect(port) as connection:
        connection.sendall(b"POST /v1/recommend HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n")
        chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
        assert (
            taken(connection, itertools.repeat(chunk, 1 << 14)) < 400
        )  # the system holds some on its way


def test_a_gigabyte_that_is_announced_is_refused_before_it_comes(listen: Listen) -> None:
    with listen() as port, connect(port) as connection:
        head = b"POST /v1/recommend HTTP/1.1\r\ncontent-length: 1073741824\r\n"
        connection.sendall(head + b"expect: 100-continue\r\n\r\n")
        assert answer(connection)[0] == 413
        assert is_ended(connection)


def test_many_tiny_chunks_are_one_body(listen: Listen) -> None:
    with listen() as port, connect(port) as connection:
        connection.sendall(b"POST /v1/recommend HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n")
        blanks = b"1\r\n \r\n" * 20_000
        body = b"".join(b"1;ext=x\r\n%c\r\n" % byte for byte in ASK)
        connection.sendall(blanks + body + b"0\r\nauthorization: Bearer x\r\n\r\n")
        assert answer(connection)[0] == 200


def test_a_client_that_does_not_read_is_left(listen: Listen) -> None:
    rows = [{"item": f"i{n}", "customer": "ada"} for n in range(2_000)]
    body = json.dumps({"rows": rows}).encode()
    head = b"POST /v1/features HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(body)
    with listen() as port, connect(port) as reader:
        reader.sendall(head + body)
        status, given = answer(reader)
        assert status == 200
        assert len(given) > 100_000
    with listen(write_timeout_s=0.2) as port:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.settimeout(20)
        with connection:
            connection.connect(("127.0.0.1", port))
            # It would hold a thousand answers that nobody reads.
            assert taken(connection, itertools.repeat(head + body, 1_000)) < 1_000


NOWHERE = b"POST /nowhere HTTP/1.1\r\ncontent-length: 30000\r\n\r\n" + b" " * 30_000
HEALTH = b"GET /healthz HTTP/1.1\r\n\r\n"
LAST = b"GET /healthz HTTP/1.1\r\nconnection: close\r\n\r\n"
RECOMMEND = b"POST /v1/recommend HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(ASK) + ASK


def statuses(connection: socket.socket, n: int) -> list[int]:
    """The statuses of the next n answers, however they are cut; fewer when the connection ends."""
    raw, found = b"", []
    while len(found) < n:
        head, ended, rest = raw.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        if ended and len(rest) >= length:
            found.append(int(head.split()[1]))
            raw = rest[length:]
            continue
        part = connection.recv(65_536)
        if not part:
            break
        raw += part
    assert raw == b"", "an answer more than was asked for"
    return found


@pytest.mark.parametrize("piece", [1_000_000, 997])
@pytest.mark.parametrize(
    "asked",
    [
        [(NOWHERE, 404), (HEALTH, 200), (NOWHERE, 404), (RECOMMEND, 200)],
        [(RECOMMEND, 200), (NOWHERE, 404), (RECOMMEND, 200), (HEALTH, 200), (NOWHERE, 404)],
        [(NOWHERE, 404)] * 20,
    ],
    ids=["refused first", "refused behind others", "refused only"],
)
def test_what_is_refused_at_its_head_leaves_the_connection_to_the_next(
    listen: Listen, asked: list[tuple[bytes, int]], piece: int
) -> None:
    """All are sent at once, and answered in their order."""
    sent = b"".join(request for request, _ in asked)
    with listen() as port, connect(port) as connection:
        for at in range(0, len(sent), piece):
            connection.sendall(sent[at : at + piece])
        assert statuses(connection, len(asked)) == [status for _, status in asked]
        connection.sendall(RECOMMEND)  # and in time, one after the other
        assert statuses(connection, 1) == [200]


def test_who_is_refused_at_the_head_hears_it_before_the_body_is_sent(listen: Listen) -> None:
    with listen(head_timeout_s=20) as port, connect(port) as connection:
        connection.sendall(NOWHERE[:-10])
        assert statuses(connection, 1) == [404]
        connection.sendall(NOWHERE[-10:] + HEALTH)
        assert statuses(connection, 1) == [200]


@pytest.mark.parametrize(
    "head",
    [b"POST /nowhere HTTP/1.0\r\n", b"POST /nowhere HTTP/1.1\r\nconnection: close\r\n"],
)
def test_a_refusal_keeps_no_connection_that_the_client_does_not(
    listen: Listen, head: bytes
) -> None:
    with listen(idle_timeout_s=60) as port, connect(port) as connection:
        connection.sendall(head + b"content-length: 2\r\n\r\n{}")
        status, _ = answer(connection)
        assert status == 404
        assert is_ended(connection)


def test_a_refusal_of_a_head_alone_has_no_body(listen: Listen) -> None:
    with listen() as port, connect(port) as connection:
        connection.sendall(b"HEAD /nowhere HTTP/1.1\r\n\r\n" + LAST)
        raw = b""
        while part := connection.recv(65_536):  # until what is asked last has ended it
            raw += part
        head, _, rest = raw.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 404 ")
        assert rest.startswith(b"HTTP/1.1 200 "), "a body came between them"


def test_an_address_that_is_none_is_refused(listen: Listen) -> None:
    with listen() as port, connect(port) as connection:
        connection.sendall(b"GET /%ff%00%zz HTTP/1.1\r\n\r\n" + HEALTH)
        assert statuses(connection, 2) == [404, 200]


def test_two_lengths_are_no_length(listen: Listen) -> None:
    for twice in (
        b"content-length: 44\r\ncontent-length: 45\r\n",
        b"content-length: 44\r\ntransfer-encoding: chunked\r\n",
        b"transfer-encoding: chunked, identity\r\n",
        b"content-length: 4 4\r\n",
    ):
        with listen() as port, connect(port) as connection:
            connection.sendall(b"POST /v1/recommend HTTP/1.1\r\n" + twice + b"\r\n" + ASK)
            status, body = answer(connection)
            assert status == 400, twice
            assert list(json.loads(body)) == ["error"]
            assert is_ended(connection)


def test_a_server_that_ends_answers_what_has_begun(make_stall: Callable[..., Any]) -> None:
    """Clients that ask all the while: whatever is answered is whole, and a body that is on its way is waited for."""
    place = listen_port("127.0.0.1", 0)
    half = RECOMMEND[:-10]
    told: list[int] = []
    failed: list[BaseException] = []

    def go_on(port: int) -> None:
        try:
            with connect(port) as connection:
                while True:
                    if not taken(connection, [RECOMMEND]):
                        return
                    status, body = answer(connection)
                    if not status:
                        assert body == b"", "an answer that ends early"
                        return
                    told.append(status)
        except BaseException as error:  # noqa: BLE001  told at the end, by the thread of the test
            failed.append(error)

    with ExitStack() as over:
        with accepting(make_stall().app, place) as port:
            slow = over.enter_context(connect(port))
            slow.sendall(half)
            clients = [threading.Thread(target=go_on, args=(port,)) for _ in range(8)]
            for client in clients:
                client.start()
            while len(told) < 100:
                threading.Event().wait(0.001)
            late = threading.Timer(0.3, slow.sendall, [RECOMMEND[len(half) :]])
            late.start()
        late.join()
        for client in clients:
            client.join()
        assert answer(slow)[0] == 200
        assert is_ended(slow)
    assert not failed
    assert set(told) == {200}
