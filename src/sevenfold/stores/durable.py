"""Changes on disk that happen whole or not at all, and survive a power cut once they have happened."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["locked", "replace_file", "sync_file", "sync_folder", "sync_tree"]


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_file(path: Path) -> None:
    """Make the content of a file durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Make every file and name below `folder` durable."""
    for where, _, files in os.walk(folder, topdown=False):
        for name in files:
            sync_file(Path(where, name))
        sync_folder(Path(where))


def replace_file(path: Path, content: bytes, private: bool = False) -> None:
    """Put `content` at `path`: a reader sees the old file or the new one, never a part.

    A `private` file is readable by its owner only, from its first moment.
    """
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666)
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(path)
    sync_folder(path.parent)


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[None]:
    """Hold the lock file `path` for this block, waiting for other processes and threads to leave it.

    Without `wait`, BlockingIOError while another holds it. The kernel lets go of the lock when a process dies, so
    none is ever left behind.
    """
    with path.open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
