"""Servers asked in turns: the times are each server's own, and an answer that is none is told of."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from benchmarks.alternating import Asked, alternate
from benchmarks.load_client import NUMBER


@contextmanager
def server(
    wait_s: float, status: int = 200, first_s: float = 0.0
) -> Iterator[tuple[int, list[bytes]]]:
    """One that takes so long for an answer, longer for each first of ten; its port and the bodies it was sent."""
    heard: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            time.sleep(wait_s if len(heard) % 10 else first_s)
            heard.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield listener.server_address[1], heard
        finally:
            listener.shutdown()
            thread.join()


def test_each_servers_times_are_its_own_and_all_are_asked_the_same() -> None:
    with ExitStack() as stack:
        quick, heard = stack.enter_context(server(0.0, first_s=1.0))
        slow, also = stack.enter_context(server(0.1))
        asked = Asked([quick, slow], "/", (b"a" + NUMBER, b"b" + NUMBER), rounds=3)
        taken = alternate(asked)
    assert taken.shape == (2, 3, 7)
    assert np.median(taken[0]) < 100 <= taken[1].min()
    assert taken[0].max() < 1_000, "the first after another server's is not counted"
    assert [body[:1] for body in heard] == [body[:1] for body in also] == [b"a", b"b"] * 15
    assert len({*heard, *also}) == 60


def test_an_answer_that_is_no_answer_is_told_of() -> None:
    with server(0.0, status=503) as (port, _), pytest.raises(RuntimeError, match="503"):
        alternate(Asked([port], "/", (b"",), rounds=1))
