"""A thread beside the event loop that does one piece of work at a time: a commit, which is mostly waiting for the disk, or what nobody waits for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

from sevenfold.turns import LONG_S, ask_for_turns

__all__ = ["Beside", "Work"]

_BEGUN_S = 0.002  # that whoever gives work waits for its first part


class Work:
    """A piece of work: `do` is called on the thread with what it says `begun` by, then `told` there, whatever happened.

    Work begins with some calls of Python and goes on in a call that waits without the interpreter's lock. Each call of the first part gives
    the lock up for a moment, and would not have it back before a busy loop gives it up too.
    """

    def __init__(self, do: Callable[[Callable[[], None]], None], told: Callable[[], None]) -> None:
        self._do = do
        self._told = told
        self._begun = threading.Event()
        self._done = threading.Event()

    def run(self) -> None:
        """Do it, on the thread; `do` raises nothing."""
        try:
            self._do(self._begun.set)
        finally:
            self._begun.set()
            self._done.set()
            self._told()

    def wait_begun(self) -> None:
        """Leave the lock to it until its first part is done, two milliseconds at most."""
        self._begun.wait(_BEGUN_S)

    @property
    def is_done(self) -> bool:
        """Whether it is done."""
        return self._done.is_set()

    def wait(self) -> None:
        """Wait until it is done, however long that takes."""
        self._done.wait()


class Beside:
    """The thread; it is started with the first piece of work, and ends when it is closed.

    One that is `awaited` is left the lock until the first part of its work is done. Another takes long turns, so that the loop has the processor back from it as
    soon as it wakes: with turns as short as the loop's own it would keep it to the end of a tick, some milliseconds.
    """

    def __init__(self, name: str, awaited: bool = True) -> None:
        self._name, self._awaited = name, awaited
        self._given: SimpleQueue[Work | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def give(self, work: Work) -> None:
        """Have it done after what was given before; returns when its first part is done, where that is awaited."""
        if self._thread is None:
            # A process that ends does not wait for it: what it has not committed was told to nobody.
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        self._given.put(work)
        if self._awaited:
            work.wait_begun()

    def close(self) -> None:
        """Finish what was given, and end."""
        if self._thread is not None:
            self._given.put(None)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        if not self._awaited:
            ask_for_turns(LONG_S)
        while (work := self._given.get()) is not None:
            work.run()
