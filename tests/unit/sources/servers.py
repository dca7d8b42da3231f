"""Real servers for tests: their own binaries, on a free port of this machine, in a folder that goes with them."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def postgres_programs() -> Path | None:
    """The folder with `initdb` and `postgres`, of the newest version that is there."""
    kept = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: float(p.parent.name))
    folders = [*reversed(kept), *(Path(p) for p in os.environ.get("PATH", "").split(os.pathsep))]
    return next((f for f in folders if (f / "initdb").exists() and (f / "postgres").exists()), None)


@contextmanager
def postgres_server(programs: Path) -> Iterator[str]:
    """The address of a server, ready; it will not run as root, so there it runs as whoever owns nothing."""
    user = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    folder = Path(tempfile.mkdtemp(prefix="sevenfold-pg-"))
    if os.geteuid() == 0:
        shutil.chown(folder, user)
    as_user = {"user": user} if os.geteuid() == 0 else {}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
    data, port = folder / "data", free_port()
    made = [programs / "initdb", "-D", data, "-U", "shop", "-A", "trust", "-E", "UTF8"]
    try:
        subprocess.run(
            [*made, "--locale=C", "--no-sync"], check=True, cwd=folder, **quiet, **as_user
        )
        settings = [
            f"port={port}",
            "listen_addresses=127.0.0.1",
            f"unix_socket_directories={folder}",
        ]
        settings += ["fsync=off", "shared_buffers=16MB", "max_connections=20"]
        options = [part for one in settings for part in ("-c", one)]
        server = subprocess.Popen(
            [programs / "postgres", "-D", data, *options], cwd=folder, **quiet, **as_user
        )
        try:
            _await(port, server)
            yield f"postgresql://shop@127.0.0.1:{port}/postgres"
        finally:
            server.terminate()
            server.wait(20)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _await(port: int, server: "subprocess.Popen[bytes]") -> None:
    for _ in range(300):
        assert server.poll() is None, "the server has ended"
        try:
            psycopg.connect(f"postgresql://shop@127.0.0.1:{port}/postgres").close()
        except psycopg.OperationalError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("the server was not ready within 30 seconds")
