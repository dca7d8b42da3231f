"""A process of its own beside a server, for work that would take the interpreter from the answers.

It reads its orders as one line of JSON from its standard input, and ends when that closes: so it does not outlive the server, however the
server ends, but for the moment that this takes. It may be killed at any time.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
from contextlib import suppress
from typing import TypeVar

import msgspec

from sevenfold.turns import LONG_S, ask_for_turns, take_leisure

__all__ = ["Companion"]

_NICE = 10
_AT_ONCE = 65_536

T = TypeVar("T", bound=msgspec.Struct)


class Companion:
    """The process that runs `module`, as its server sees it; `ordered` is what it hears itself."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process that was started and not closed; 0 when there is none."""
        return self._process.pid if self._process else 0

    @property
    def code(self) -> int | None:
        """What the process ended with, below 0 by a signal; None while it is at work, and where there is none."""
        return self._process.poll() if self._process else None

    def start(self, orders: msgspec.Struct, at_leisure: bool = False) -> None:
        """Start the process with its orders; raises OSError when it cannot be started.

        One `at_leisure` has of the processor only what nobody else wants, where the system lets it, and else a lower priority.
        """
        self.close()
        command = [sys.executable, "-m", self._module]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE)
        with suppress(OSError):  # it has ended already
            # At once: what it loads first takes a second of the processor.
            niceness = os.getpriority(os.PRIO_PROCESS, 0) + _NICE
            os.setpriority(os.PRIO_PROCESS, self._process.pid, niceness)
            # What it has of its server are turns as short as those of the thread that answers.
            ask_for_turns(LONG_S, self._process.pid)
        if at_leisure:
            take_leisure(self._process.pid)
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended already: its code says so
            self._process.stdin.write(msgspec.json.encode(orders) + b"\n")
            self._process.stdin.flush()

    def close(self) -> None:
        """End the process, at once: what it has half-done is swept by the next."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # what it had not read of its orders
                process.stdin.close()

    @staticmethod
    def ordered(kind: type[T]) -> T:
        """In the process itself: its orders. From now on it logs, and ends with its server; its priority is lower from its start on."""
        logging.basicConfig(
            level=logging.INFO,
            format="time=%(asctime)s level=%(levelname)s logger=%(name)s %(message)s",
        )
        line = b""
        # Unbuffered: a thread that waits inside a buffer holds its lock, and no interpreter ends in peace then.
        while not line.endswith(b"\n"):
            more = os.read(0, _AT_ONCE)
            if not more:  # the server has ended
                sys.exit(0)
            line += more
        threading.Thread(target=_end_with_the_server, daemon=True).start()
        return msgspec.json.decode(line, type=kind)


def _end_with_the_server() -> None:
    while os.read(0, 1):
        pass
    os._exit(0)  # whatever is half-done is swept by the next
