"""Whether files may have changed since somebody looked last, at the price of one small call, or none, where Linux tells of changes."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import math
import os
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from sevenfold.clock import elapsed_s

__all__ = ["Watch"]

_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC if sys.platform.startswith("linux") else 0
# Events of inotify(7): of a name in a folder, and of the watched file itself.
_CONTENT = 0x002 | 0x040 | 0x080 | 0x100 | 0x200  # modify, moved from, moved to, create, delete
_AWAY = 0x400 | 0x800  # deleted, moved
_ITSELF = 0x004 | _AWAY  # attributes: how many names it has is among them
_ROOM = 4_096
_TRUSTED_S = 1.0


class Watch:
    """Counts the looks at which something about `paths` may have changed; with `content`, also in the folders among them.

    A change is counted by the first look that begins after it was made. Once a second a look counts though nothing is known to have changed,
    because file systems of a network do not tell; where the system does not tell of all of it, every look counts. Threads may share one.
    """

    def __init__(self, paths: Sequence[Path], content: bool = True) -> None:
        self._masks: dict[Path, int] = {}
        for path in (path.absolute() for path in paths):
            for folder in path.parents:  # with it goes what is in it, which itself does not move
                self._masks[folder] = self._masks.get(folder, 0) | _AWAY
            self._masks[path] = self._masks.get(path, 0) | _ITSELF | (_CONTENT if content else 0)
        self._turn = threading.Lock()
        self._handle: int | None = None
        self._begun = False
        self._is_heard = False
        self._is_whole = False  # whether all is told of
        self._asked_s = -math.inf
        self._counted_s = 0.0
        self._count = 0

    def heard_by(self, loop: asyncio.AbstractEventLoop) -> Callable[[], None]:
        """Have an event loop hear of changes from now on, so that a look asks nobody; what ends that.

        The loop hears of a change in the round in which it reads what was sent after the change; whoever looks does so in a later one.
        """
        self.look()
        handle = self._handle
        if handle is None:
            return lambda: None

        def ended() -> None:
            self._is_heard = False
            if not loop.is_closed():
                loop.remove_reader(handle)

        loop.add_reader(handle, self._hear)
        self._is_heard = True
        self.look()
        return ended

    def look(self) -> int:
        """How many looks have counted until now, this one among them: the same number as before means that nothing has changed."""
        if self._is_heard and self._is_whole and elapsed_s() - self._counted_s < _TRUSTED_S:
            return self._count
        with self._turn:
            if self._has_changed():
                self._count += 1
                self._counted_s = elapsed_s()
            return self._count

    def _hear(self) -> None:
        with self._turn:
            if self._has_changed():
                self._count += 1

    def _has_changed(self) -> bool:
        if not self._begun:
            self._begun = True
            self._handle = _opened()
            if self._handle is not None:
                weakref.finalize(self, os.close, self._handle)
        if self._handle is None:
            return True
        if not self._is_whole and elapsed_s() - self._asked_s < _TRUSTED_S:
            return True
        try:
            os.read(self._handle, _ROOM)
        except BlockingIOError:
            if self._is_whole and elapsed_s() - self._counted_s < _TRUSTED_S:
                return False
        # Also those that are there only now. What changed before they were watched is seen by whoever looks after this.
        told = [_is_watched(self._handle, path, mask) for path, mask in self._masks.items()]
        self._is_whole, self._asked_s = all(told), elapsed_s()
        return True


def _opened() -> int | None:
    """A file that tells of changes, None where there is none to be had."""
    if not _FLAGS:
        return None
    with suppress(AttributeError, OSError):
        handle = int(_library().inotify_init1(_FLAGS))
        return None if handle < 0 else handle
    return None


def _is_watched(handle: int, path: Path, mask: int) -> bool:
    """Have changes of a path told of; whether they are, or there is nothing of that name: then its folder tells when there is."""
    told = _library().inotify_add_watch(handle, os.fsencode(path), mask)
    return told >= 0 or ctypes.get_errno() == errno.ENOENT


@cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
