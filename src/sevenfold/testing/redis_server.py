"""A real Redis server for a test or a benchmark: on a free loopback port, in a folder of its own, then stopped."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sevenfold.errors import StoreError

__all__ = ["RedisServer", "redis_server"]

_READY_S = 60.0
_PATIENCE_S = 15.0


@dataclass
class RedisServer:
    """A running server; `stop` and `start` let a test have it go away and come back with what is on disk."""

    folder: Path
    port: int
    options: Sequence[str] = ()
    process: subprocess.Popen[bytes] | None = None

    def url(self, home: str, **options: str) -> str:
        """The URL of the store `home`."""
        further = "".join(f"&{name}={value}" for name, value in options.items())
        return f"redis://127.0.0.1:{self.port}/0?home={home}{further}"

    def start(self) -> None:
        """Start the server and wait until it answers."""
        program = shutil.which("redis-server")
        if program is None:
            raise StoreError(
                "no redis-server on the PATH: install one, as with `apt install redis`"
            )
        command = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        command += ["--dir", str(self.folder), "--appendonly", "yes", "--appendfsync", "always"]
        with (self.folder / "redis.log").open("ab") as log:
            self.process = subprocess.Popen([*command, *self.options], stdout=log, stderr=log)
        until = time.monotonic() + _READY_S
        while not _answers(self.port):
            if self.process.poll() is not None or time.monotonic() > until:
                self.stop()
                raise StoreError(f"redis-server does not start: see {self.folder / 'redis.log'}")
            time.sleep(0.02)

    def stop(self, kill: bool = False) -> None:
        """Stop the server, by SIGKILL when `kill`; what was acknowledged is on disk either way."""
        if self.process is None:
            return
        if kill:
            self.process.kill()
        else:
            self.process.terminate()
        try:
            self.process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:  # it does not end while it begins an append-only file
            self.process.kill()
            self.process.wait(_PATIENCE_S)
        self.process = None


@contextmanager
def redis_server(folder: Path, *options: str) -> Iterator[RedisServer]:
    """A server that keeps its files in `folder`, every commit on disk; stopped at the end."""
    server = RedisServer(folder, _free_port(), options)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _free_port() -> int:
    """A free port whose bus, as a member of a cluster 10,000 above it, has a free one too."""
    while True:
        with socket.socket() as probe, socket.socket() as bus:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
            with suppress(OSError, OverflowError):
                bus.bind(("127.0.0.1", port + 10_000))
                return port


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as connection:
        connection.sendall(b"PING\r\n")
        # A server that still reads its files answers LOADING; one with a password NOAUTH: it is there.
        reply = connection.recv(64)
        return bool(reply) and not reply.startswith(b"-LOADING")
    return False
