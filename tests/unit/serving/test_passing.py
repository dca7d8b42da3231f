"""A request passed to another process: its answer is given on as it is, and where there is none, 503."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from sevenfold.clock import elapsed_s
from sevenfold.serving.listening import listen_home
from sevenfold.serving.members import merged
from sevenfold.serving.passing import Neighbour, passed, unless_overtaken
from sevenfold.serving.pending import OvertakenError
from sevenfold.serving.problem import HttpError
from sevenfold.serving.route import Asked, Reply, Route

NAME = "other.sock"
GOOD = b"HTTP/1.1 202 Accepted\r\ncontent-type: text/x\r\nx-more: 1\r\nDate: now\r\ncontent-length: 3\r\n\r\nyes"


class Other:
    """Another process: reads requests of a connection one by one, and says of each what it is told to."""

    def __init__(self, home: Path, says: list[bytes], each: int = 1_000) -> None:
        self.says, self.each = says, each
        self.connections = 0
        self.heard: list[tuple[bytes, bytes]] = []
        self.socket = listen_home(home, NAME)
        self.writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> "Other":
        self.server = await asyncio.start_unix_server(self._serve, sock=self.socket)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        for writer in self.writers:
            writer.close()
        await asyncio.sleep(0.01)  # what is closed is gone a turn of the loop later

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        try:
            for _ in range(self.each):
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                self.heard.append((head, await reader.readexactly(size)))
                writer.write(self.says.pop(0) if self.says else b"")
                await writer.drain()
        except (EOFError, ConnectionError):
            pass
        writer.close()


def run(
    home: Path, other: Other | None, work: Callable[[Neighbour], Awaitable[Any]], **more: Any
) -> Any:
    async def both() -> Any:
        neighbour = Neighbour(home, NAME, **more)
        try:
            return await work(neighbour)
        finally:
            for line in neighbour._lines:
                line.close()
            await asyncio.sleep(0)

    async def beside() -> Any:
        if other is None:
            return await both()
        async with other:
            return await both()

    return asyncio.run(beside())


def test_status_kind_headers_and_body_are_given_on_over_one_connection(tmp_path: Path) -> None:
    other = Other(tmp_path, [GOOD] * 3)
    headers = {b"authorization": b"Bearer x", b"transfer-encoding": b"chunked", b"host": b"shop"}

    async def work(neighbour: Neighbour) -> list[Reply]:
        return [await neighbour.ask("POST", "/v1/x", headers, b"body") for _ in range(3)]

    for reply in run(tmp_path, other, work):
        assert reply == Reply(b"yes", b"text/x", ((b"x-more", b"1"),), 202)
    assert other.connections == 1
    head, body = other.heard[0]
    assert head.split(b"\r\n")[0] == b"POST /v1/x HTTP/1.1"
    lines = set(head.split(b"\r\n")[1:-2])
    assert lines == {b"authorization: Bearer x", b"host: shop", b"content-length: 4"}
    assert body == b"body"


def test_who_is_asked_instead_has_the_time_that_is_left(tmp_path: Path) -> None:
    other = Other(tmp_path, [GOOD] * 3)

    def route(has_deadline: bool) -> Route:
        return Route("POST", "/v1/x", None, "", lambda *_: Reply(b""), has_deadline=has_deadline)

    async def work(neighbour: Neighbour) -> None:
        for passes, given in ((True, b"90000"), (True, b"10"), (False, b"soon")):
            asked = Asked(b"", {b"x-deadline-ms": given}, {}, elapsed_s() - 30)
            reply = passed(route(passes), neighbour).answer(None, asked)  # type: ignore[arg-type]
            assert not isinstance(reply, Reply)
            assert (await reply).status == 202

    run(tmp_path, other, work)
    given = [head.partition(b"x-deadline-ms: ")[2].partition(b"\r")[0] for head, _ in other.heard]
    assert 0 < float(given[0]) <= 60_000
    assert given[1:] == [b"0.000", b"soon"]


def test_a_connection_that_was_closed_meanwhile_is_made_anew(tmp_path: Path) -> None:
    other = Other(tmp_path, [GOOD] * 3, each=1)

    async def work(neighbour: Neighbour) -> list[int]:
        statuses = []
        for _ in range(3):
            statuses.append((await neighbour.ask("GET", "/", {})).status)
            await asyncio.sleep(0.01)
        return statuses

    assert run(tmp_path, other, work) == [202] * 3
    assert other.connections == 3


async def _ask(neighbour: Neighbour) -> Reply:
    return await neighbour.ask("GET", "/", {})


@pytest.mark.parametrize(
    "says",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"what?\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000,
    ],
)
def test_what_is_no_answer_is_503_with_retry_after(tmp_path: Path, says: bytes) -> None:
    with pytest.raises(HttpError, match="does not answer now") as caught:
        run(tmp_path, Other(tmp_path, [says], each=1), _ask)
    assert (caught.value.status, caught.value.code) == (503, "owner_away")
    assert (b"retry-after", b"1") in caught.value.headers


def test_who_is_not_there_or_is_stuck_is_503_too(tmp_path: Path) -> None:
    with pytest.raises(HttpError, match="does not answer now"):
        run(tmp_path, None, _ask)
    with pytest.raises(HttpError, match="does not answer now"):
        run(tmp_path, Other(tmp_path, []), _ask, timeout_s=0.05)


def route(answer: Callable[..., Any]) -> Route:
    return Route("GET", "/v1/{a}/x/{b}", None, "", answer, turn="answers", laddered=True)


def test_names_of_a_path_go_with_it(tmp_path: Path) -> None:
    other = Other(tmp_path, [GOOD])

    async def work(neighbour: Neighbour) -> Reply:
        made = passed(route(lambda *_: Reply(b"")), neighbour)
        assert (made.turn, made.laddered) == (None, False)
        reply = made.answer(None, Asked(b"", {}, {"a": "x/ y", "b": "é"}, 0.0))  # type: ignore[arg-type]
        assert not isinstance(reply, Reply)
        return await reply

    assert run(tmp_path, other, work).status == 202
    assert other.heard[0][0].startswith(b"GET /v1/x%2F%20y/x/%C3%A9 HTTP/1.1\r\n")


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("alone", [False, True])
def test_an_answer_that_was_overtaken_is_made_by_the_owner(
    tmp_path: Path, later: bool, alone: bool
) -> None:
    other = Other(tmp_path, [GOOD])
    calls: list[int] = []

    async def late() -> Reply:
        raise OvertakenError("overtaken")

    def answer(*_: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            return Reply(b"again")
        if later:
            return late()
        raise OvertakenError("overtaken")

    async def work(neighbour: Neighbour) -> Reply:
        made = unless_overtaken(route(answer), None if alone else neighbour)
        reply = made.answer(None, Asked(b"", {}, {"a": "a", "b": "b"}, 0.0))  # type: ignore[arg-type]
        return reply if isinstance(reply, Reply) else await reply

    reply = run(tmp_path, other, work)
    assert (reply.body, len(calls)) == ((b"again", 2) if alone else (b"yes", 1))


def test_counters_of_several_are_one_text_with_a_label() -> None:
    one = b'# HELP a_total What a is\n# TYPE a_total counter\na_total{x="1"} 2.0\n# TYPE b histogram\nb_bucket{le="+Inf"} 1.0\nb_count 1.0\nb_sum 0.5\n'
    text = merged([one.decode(), None, one.decode().replace("2.0", "5.0")]).decode()
    lines = text.splitlines()
    assert [line for line in lines if line.startswith("sevenfold_worker_up{")] == [
        'sevenfold_worker_up{worker="0"} 1.0',
        'sevenfold_worker_up{worker="1"} 0.0',
        'sevenfold_worker_up{worker="2"} 1.0',
    ]
    assert [line for line in lines if line.startswith("a_total")] == [
        'a_total{worker="0",x="1"} 2.0',
        'a_total{worker="2",x="1"} 5.0',
    ]
    assert lines.count("# TYPE a_total counter") == 1
    assert 'b_bucket{le="+Inf",worker="2"} 1.0' in lines
