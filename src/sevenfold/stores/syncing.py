"""A thread that waits for the disk and never for the interpreter.

A thread of Python that waits for the disk needs the interpreter's lock to begin, and once more to say that it is done; each time it stands behind whoever computes.
Beside a busy event loop that took longer than the disk (5 ms where the disk took 0.2). This one is a loop of machine code between two pipes: a byte
asks, the disk is waited for, a byte tells.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
import threading
from contextlib import suppress
from typing import Any

import numpy as np
from numba import types

from sevenfold.compiled import COMPILES, released
from sevenfold.turns import BRIEF_S, ask_for_turns, go_first

__all__ = ["Syncing", "rehearse_syncing"]

_IS_NATIVE = COMPILES and sys.platform.startswith("linux")
_read: Any = types.ExternalFunction("read", types.intp(types.intc, types.uintp, types.uintp))
_write: Any = types.ExternalFunction("write", types.intp(types.intc, types.uintp, types.uintp))
_fdatasync: Any = types.ExternalFunction("fdatasync", types.intc(types.intc))


@released
def _serve(asks: int, tells: int, handle: int, byte: Any) -> int:
    """Wait for the disk once for each byte that `asks` gives, until it ends; each is told by a byte, 0 or 1 where it failed."""
    at = byte.ctypes.data
    while _read(np.int32(asks), np.uint64(at), np.uint64(1)) == 1:
        byte[0] = 0 if _fdatasync(np.int32(handle)) == 0 else 1
        if _write(np.int32(tells), np.uint64(at), np.uint64(1)) != 1:
            break
    return 0


def _serve_plainly(asks: int, tells: int, handle: int, byte: Any) -> int:
    """The same where there is no such call, or no compiler."""
    while os.read(asks, 1):
        try:
            os.fsync(handle)
            byte[0] = 0
        except OSError:
            byte[0] = 1
        os.write(tells, byte.tobytes())
    return 0


class Syncing:
    """Waits for the disk to have what was written to the open file `handle`: `begin`, then `end` when `told` can be read.

    One wait at a time; the file stays open until this is closed. What is begun holds all that was written before.
    """

    def __init__(self, handle: int) -> None:
        asks, self._ask = os.pipe()
        self.told, tells = os.pipe()
        os.set_blocking(self.told, False)
        self._theirs = asks, tells
        self._thread = threading.Thread(target=self._run, args=(handle,), name="sync", daemon=True)
        self._thread.start()

    def begin(self) -> None:
        """Have the disk waited for."""
        os.write(self._ask, b"\0")

    def end(self, wait: bool = False) -> bool:
        """Whether what was begun is on disk; with `wait` as soon as it is. Raises OSError where the disk failed."""
        if wait:
            ready = select.poll()  # a server has more files open than `select` takes
            ready.register(self.told, select.POLLIN)
            ready.poll()
        try:
            said = os.read(self.told, 1)
        except BlockingIOError:
            return False
        if said != b"\0":
            raise OSError(errno.EIO, "what was written is not known to be on disk")
        return True

    def close(self) -> None:
        """End the thread, and with it what is under way."""
        os.close(self._ask)
        self._thread.join()
        for handle in (self.told, *self._theirs):
            os.close(handle)

    def _run(self, handle: int) -> None:
        # A signal would end a call of the loop; others take it.
        with suppress(AttributeError):
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        serve = _serve if _IS_NATIVE else _serve_plainly
        byte = np.zeros(1, dtype=np.uint8)
        if _IS_NATIVE:
            serve(-1, -1, -1, byte)  # compiled by now: nothing that computes goes first
        if not (_IS_NATIVE and go_first()):
            ask_for_turns(BRIEF_S)
        serve(*self._theirs, handle, byte)


def rehearse_syncing() -> None:
    """Have the loop compiled."""
    own, other = os.pipe()
    try:
        waits = Syncing(own)
        waits.begin()
        with suppress(OSError):  # a pipe is on no disk
            waits.end(wait=True)
        waits.close()
    finally:
        os.close(own)
        os.close(other)
