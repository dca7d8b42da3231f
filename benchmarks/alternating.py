"""Servers asked in turns by one client, so that whatever the machine does it does to all of them.

A client that asks one server for seconds and then the other measures the seconds: on a shared machine those differ by more than the
servers do. Here each is asked a few requests at a time, one after the other on a connection that is kept, in an order that is drawn anew each
round. The first of its requests after another server's do not count: they may stand behind what that one does once it has answered.

The client is a process of its own on a core of its own, as in `benchmarks.load`.
"""

from __future__ import annotations

import gc
import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from benchmarks.load import on_core
from benchmarks.load_client import NUMBER

__all__ = ["Asked", "alternate"]

_IN_A_ROW, _UNCOUNTED = 10, 3
_SPARE_S = 60.0
_LATEST_S = 5.0
Times = npt.NDArray[np.float64]


class Asked(msgspec.Struct, frozen=True):
    """Servers by port, each asked `rounds` times ten POST requests of `path`; `bodies` are taken in turn, the same by all.

    `NUMBER` in a body becomes a number of its own.
    """

    ports: list[int]
    path: str
    bodies: tuple[bytes, ...]
    rounds: int
    seed: int = 0


def alternate(asked: Asked, core: int | None = None) -> Times:
    """The time each request took in ms, (servers, rounds, 7). Raises RuntimeError where any had no answer of status 200."""
    place = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, (place, os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "benchmarks.alternating"]
    requests = len(asked.ports) * asked.rounds * _IN_A_ROW
    with on_core(core):
        done = subprocess.run(
            command,
            input=msgspec.msgpack.encode(asked),
            capture_output=True,
            check=False,
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            timeout=_SPARE_S + requests * _LATEST_S,
        )
    if done.returncode:
        raise RuntimeError(done.stderr.decode(errors="replace").strip()[-500:])
    shape = len(asked.ports), asked.rounds, _IN_A_ROW - _UNCOUNTED
    return np.frombuffer(done.stdout, dtype=np.float64).reshape(shape) * 1000


def _main() -> None:
    asked = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Asked)
    order, number = random.Random(asked.seed), 0
    servers = [_Server(port, asked.path) for port in asked.ports]
    taken: list[list[float]] = [[] for _ in servers]
    gc.disable()
    for at in range(asked.rounds):
        for which in order.sample(range(len(servers)), len(servers)):
            for n in range(_IN_A_ROW):
                number += 1
                body = asked.bodies[(at * _IN_A_ROW + n) % len(asked.bodies)]
                seconds = servers[which].ask(body.replace(NUMBER, b"%012d" % number))
                if n >= _UNCOUNTED:
                    taken[which].append(seconds)
    sys.stdout.buffer.write(np.array(taken).tobytes())


class _Server:
    """A connection that is kept."""

    def __init__(self, port: int, path: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=_LATEST_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._head = (
            f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        )

    def ask(self, body: bytes) -> float:
        """The seconds from the first byte sent to the last one read."""
        whole = f"{self._head}content-length: {len(body)}\r\n\r\n".encode() + body
        begin = time.perf_counter()
        self._socket.sendall(whole)
        said = b""
        while not _is_whole(said):
            read = self._socket.recv(1 << 16)
            if not read:
                raise RuntimeError("the server has closed the connection")
            said += read
        taken = time.perf_counter() - begin
        if not said.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(said[:300].decode(errors="replace"))
        return taken


def _is_whole(said: bytes) -> bool:
    head, end, body = said.partition(b"\r\n\r\n")
    if not end:
        return False
    lengths = [
        line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
    ]
    return len(body) >= int(lengths[0])


if __name__ == "__main__":
    _main()
