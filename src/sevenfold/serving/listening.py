"""Where a server listens: a port, and a socket in its home that only the home's owner can reach."""

from __future__ import annotations

import os
import resource
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sevenfold.errors import ServingError

__all__ = ["ADMIN_SOCKET", "connect_home", "files_at_once", "listen_home", "listen_port"]

ADMIN_SOCKET = "admin.sock"
_BACKLOG = 1024


def listen_port(host: str, port: int) -> socket.socket:
    """A socket that listens on a port, 0 for a free one; ServingError when it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise ServingError(
            f"cannot listen on {host}:{port}: {error.strerror}; give another --port, 0 for a free one"
        ) from error
    listening.listen(_BACKLOG)
    return listening


def listen_home(home: Path, name: str = ADMIN_SOCKET) -> socket.socket:
    """A socket that listens in the home, for its owner only; the home must be held, see `alone`.

    What a killed server left at its place is replaced. ServingError where none can be made.
    """
    (home / name).unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)  # for its owner only from the first moment
    try:
        with _address(home, name) as address:
            listening.bind(address)
    except OSError as error:
        listening.close()
        raise ServingError(
            f"cannot listen on {home / name}: {error}; give a shorter --home on a disk that can hold "
            "sockets, or --no-admin"
        ) from error
    finally:
        os.umask(before)
    listening.listen(_BACKLOG)
    return listening


def connect_home(home: Path, timeout_s: float, name: str = ADMIN_SOCKET) -> socket.socket:
    """A connection to a socket in a home; OSError when nobody listens there."""
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connected.settimeout(timeout_s)
    try:
        with _address(home, name) as address:
            connected.connect(address)
    except OSError:
        connected.close()
        raise
    return connected


def files_at_once() -> int:
    """How many files and connections this process may have open, once it has asked for as many as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard and hard != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return hard
    return soft if soft != resource.RLIM_INFINITY else sys.maxsize


@contextmanager
def _address(home: Path, name: str) -> Iterator[str]:
    """The address of a socket in a home: it has about 100 characters, and a home may have more."""
    if not sys.platform.startswith("linux"):
        yield str(home / name)
        return
    folder = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{name}"
    finally:
        os.close(folder)
