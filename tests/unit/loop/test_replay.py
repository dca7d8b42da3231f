"""A replay sends what had arrived, before each request, and goes on from any cursor."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from sevenfold.errors import RunError, ServingError
from sevenfold.loop.client import Client
from sevenfold.loop.replay import Cursor, Replay
from sevenfold.loop.world import Requests, World
from sevenfold.types import Texts


@dataclass
class Listener:
    """A real HTTP server that writes down what it is sent, and can be told to refuse or to hang up."""

    port: int = 0
    heard: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)
    hang_up: int = 0
    refusal: tuple[int, bytes] | None = None


@pytest.fixture
def listener() -> Iterator[Listener]:
    told = Listener()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if told.hang_up:
                told.hang_up -= 1
                self.close_connection = True
                self.connection.close()
                return
            told.heard.append((self.path, body))
            told.tokens.add(self.headers["Authorization"])
            status, raw = told.refusal or (200, b'{"timing_ms": {"score": 1.5}}')
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *args: None  # type: ignore[method-assign,assignment]
    told.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield told
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def client(listener: Listener) -> Iterator[Client]:
    made = Client(listener.port, "secret", timeout_s=10)
    yield made
    made.close()


def world(n: int = 2_500) -> World:
    requests = Requests(
        np.array([0, 11, 11, 20_000, 24_991]),
        Texts.of([f"r{i}" for i in range(5)]),
        {"user": Texts.of(["u0", None, "u2", "u3", "u4"])},
    )
    return World("sales", {"number": np.arange(n)}, np.arange(n) * 10, requests)


def numbers(listener: Listener, path: str = "/v1/events") -> list[list[int]]:
    return [[row["number"] for row in body["events"]] for p, body in listener.heard if p == path]


def asked(listener: Listener) -> list[str]:
    return [body["request_id"] for path, body in listener.heard if path == "/v1/recommend"]


def test_everything_that_arrived_before_a_request_is_sent_and_nothing_later(
    listener: Listener, client: Client
) -> None:
    saved: list[tuple[int, int]] = []
    replay = Replay(
        world(), client, 7, Cursor(), lambda c: saved.append((c.row, c.request)), save_every=2
    )
    assert replay.advance(20_000) == 3
    seen = 0
    for path, body in listener.heard:
        if path == "/v1/events":
            rows = [row["number"] for row in body["events"]]
            assert rows == list(range(seen, seen + len(rows)))
            assert len(rows) <= 1_000
            assert body["known_us"] == rows[-1] * 10
            seen += len(rows)
        else:
            assert seen == -(-body["t"] // 10)
    assert seen == 2_000
    assert listener.heard[0] == (
        "/v1/recommend",
        {"request_id": "r0", "keys": {"user": "u0"}, "k": 7, "t": 0},
    )
    assert asked(listener) == ["r0", "r1", "r2"]
    assert saved == [(2, 2), (2_000, 3)]
    assert replay.stages_ms == {"score": [1.5] * 3}
    assert listener.tokens == {"Bearer secret"}


def test_a_replay_goes_on_from_its_cursor(listener: Listener, client: Client) -> None:
    cursor = Cursor()
    assert Replay(world(), client, 7, cursor, lambda _: None).advance(11) == 1
    assert Replay(world(), client, 7, cursor, lambda _: None).advance(1 << 60) == 4
    assert asked(listener) == [f"r{i}" for i in range(5)]
    assert [n for rows in numbers(listener) for n in rows] == list(range(2_500))
    assert (cursor.row, cursor.request) == (2_500, 5)
    heard = len(listener.heard)
    assert Replay(world(), client, 7, cursor, lambda _: None).advance(1 << 60) == 0
    assert len(listener.heard) == heard


def test_a_lost_connection_is_opened_once_more(listener: Listener, client: Client) -> None:
    listener.hang_up = 1
    assert client.post("/v1/events", {"n": 1}) == {"timing_ms": {"score": 1.5}}
    assert listener.heard == [("/v1/events", {"n": 1})]
    listener.hang_up = 2
    with pytest.raises(RunError, match="the server does not answer POST /v1/events"):
        client.post("/v1/events", {"n": 2})
    assert client.post("/v1/events", {"n": 3})


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b'{"error": {"code": "no", "message": "give a key"}}', "give a key"),
        (b"<h1>gone</h1>", "<h1>gone</h1>"),
        (b"[1]", r"\[1\]"),
    ],
)
def test_a_refusal_is_told_with_the_servers_words(
    listener: Listener, client: Client, raw: bytes, told: str
) -> None:
    listener.refusal = (422, raw)
    with pytest.raises(ServingError, match=rf"POST /v1/rank was refused \(422\): {told}"):
        client.post("/v1/rank", {})


def test_the_cursor_stays_where_the_server_failed(listener: Listener, client: Client) -> None:
    cursor = Cursor()
    replay = Replay(world(), client, 7, cursor, lambda _: None)
    replay.advance(11)
    listener.refusal = (500, b"{}")
    with pytest.raises(ServingError):
        replay.advance(20_000)
    assert (cursor.row, cursor.request) == (2, 1)
    listener.refusal = None
    assert replace(replay).advance(20_000) == 2
    assert asked(listener).count("r1") >= 1
    assert cursor.row == 2_000
