"""The process above the workers of one server: starts them, starts again what dies or hangs, ends them in order.

It answers nothing itself. The port is its own and its children inherit it, so that a child that is killed takes no more with
it than the requests it had: connections that nobody has accepted yet are accepted by the others. Each child has two pipes
with it: one on which it says that it is ready and, every second, that it lives; and one that ends with the supervisor,
so that no child outlives it.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from sevenfold.clock import elapsed_s
from sevenfold.errors import InputError, ServingError

__all__ = ["Patience", "Place", "Supervisor", "end_with"]

_LOG = logging.getLogger(__name__)
_LOOK_S = 0.5
_END_S = 0.05


@dataclass(frozen=True, slots=True)
class Place:
    """A child's place: its `number` among so many, the owner is 0; and the files it has from its parent.

    `port` is the socket that listens, `says` what it tells its parent by, `life` what ends with the parent.
    """

    number: int
    among: int
    port: int
    says: int
    life: int

    def text(self) -> str:
        """The place as an argument.

        >>> Place.of(Place(1, 3, 5, 6, 7).text())
        Place(number=1, among=3, port=5, says=6, life=7)
        """
        return f"{self.number}/{self.among}:{self.port},{self.says},{self.life}"

    @classmethod
    def of(cls, text: str) -> Place:
        """The place that an argument says; raises InputError."""
        try:
            who, _, files = text.partition(":")
            numbers = [int(part) for part in (*who.split("/"), *files.split(","))]
            return cls(*numbers)
        except (ValueError, TypeError):
            raise InputError(f"{text!r} is no place of a worker: leave the option out") from None


@dataclass(frozen=True, slots=True)
class Patience:
    """How long things may take, in seconds, and how often they may fail.

    A child that hangs for `stuck_s` is ended. One that dies is started again after `again_s`, twice that the next time, up
    to `longest_s`; one that dies `deaths` times without having been ready for `steady_s` ends the server. Asked to end, children
    have `drain_s`.
    """

    stuck_s: float = 30
    again_s: float = 0.1
    longest_s: float = 5
    steady_s: float = 10
    deaths: int = 5
    drain_s: float = 15


@dataclass(eq=False)
class _Child:
    number: int
    process: subprocess.Popen[bytes] | None = None
    said: int = -1  # the pipe by which it speaks
    is_ready: bool = False
    ready_s: float = 0.0
    silent_s: float = 0.0  # since it was heard of
    due_s: float = 0.0
    deaths: int = 0
    words: bytes = b""
    told: list[bytes] = field(default_factory=list)


class Supervisor:
    """Runs `command(place)` for each of `n` children over the socket `port` until SIGTERM or SIGINT.

    The owner is started first, the others once it is ready. `ready` is told, once all are, what the owner said of itself;
    `gone` is called when the owner has died, before another is started. Raises ServingError when a child cannot live.
    """

    def __init__(
        self,
        command: Callable[[Place], Sequence[str]],
        n: int,
        port: socket.socket,
        ready: Callable[[bytes], None],
        gone: Callable[[], None] = lambda: None,
        patience: Patience | None = None,
    ) -> None:
        self._command = command
        self._port = port
        self._tell_ready = ready
        self._tell_gone = gone
        self._patience = patience or Patience()
        self._children = [_Child(number) for number in range(n)]
        self._selector = selectors.DefaultSelector()
        self._life, self._held = os.pipe()  # nothing is ever written: it ends when we do
        self._stopping = False
        self._announced = False
        self._minded_s = elapsed_s()
        self.keep: tuple[int, ...] = ()  # further files that the children hold

    def run(self) -> None:
        """Keep the children running until a signal, then end them: those that only answer first, the owner last."""
        with self._signals():
            try:
                self._start(self._children[0])
                while not self._stopping:
                    self._hear()
                    self._reap()
                    self._mind()
            finally:
                self._end()  # whoever asks twice is not to be left with half of them

    def pids(self) -> list[int]:
        """The children's process ids, in the order of their numbers; 0 where one is not running."""
        return [0 if one.process is None else one.process.pid for one in self._children]

    @contextmanager
    def _signals(self) -> Iterator[None]:
        woken, waking = socket.socketpair()
        for end in (woken, waking):
            end.setblocking(False)
        self._selector.register(woken, selectors.EVENT_READ, None)
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
        before = [signal.signal(number, self._signalled) for number in numbers]
        wakeup = signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
        self._woken = woken
        try:
            yield
        finally:
            signal.set_wakeup_fd(wakeup)
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)
            self._selector.close()
            woken.close()
            waking.close()

    def _signalled(self, number: int, _frame: object) -> None:
        if number != signal.SIGCHLD:
            self._stopping = True

    def _start(self, child: _Child) -> None:
        said, says = os.pipe()
        files = (self._port.fileno(), says, self._life)
        place = Place(child.number, len(self._children), *files)
        try:
            # In a session of its own: a key pressed at a terminal is for the supervisor, which ends them in order.
            child.process = subprocess.Popen(
                self._command(place),
                stdin=subprocess.DEVNULL,
                pass_fds=(*files, *self.keep),
                start_new_session=True,
            )
        finally:
            os.close(says)
        os.set_blocking(said, False)
        child.said, child.is_ready, child.words = said, False, b""
        child.told = []
        child.silent_s = 0.0
        self._selector.register(said, selectors.EVENT_READ, child)

    def _hear(self) -> None:
        """Wait for a word, a death, or until something is due."""
        for child in self._wait(_LOOK_S if self._due_s() is None else 0.02):
            raw = os.read(child.said, 65_536)
            if raw:
                self._said(child, raw)
            else:
                self._hush(child)

    def _wait(self, timeout_s: float) -> list[_Child]:
        """The children that have said something, after a signal, or so many seconds at most."""
        heard = [key.data for key, _ in self._selector.select(timeout_s)]
        with suppress(BlockingIOError):
            while self._woken.recv(4096):
                pass
        return [child for child in heard if child is not None]

    def _said(self, child: _Child, raw: bytes) -> None:
        """Take a child's words: the first line says that it is ready, and what there is to know; others that it lives."""
        child.silent_s = 0.0
        *lines, child.words = (child.words + raw).split(b"\n")
        if not lines or child.is_ready:
            return
        child.is_ready, child.ready_s = True, elapsed_s()
        child.told = lines[:1]
        if child.number == 0:
            for other in self._children[1:]:
                if other.process is None and not other.due_s:
                    self._start(other)
        if not self._announced and all(one.is_ready for one in self._children):
            self._announced = True
            self._tell_ready(self._children[0].told[0])

    def _hush(self, child: _Child) -> None:
        if child.said >= 0:
            self._selector.unregister(child.said)
            os.close(child.said)
            child.said = -1

    def _reap(self) -> None:
        for child in self._children:
            if child.process is not None and child.process.poll() is not None:
                status = child.process.returncode
                child.process = None
                self._hush(child)
                if not self._stopping:
                    self._died(child, status)

    def _died(self, child: _Child, status: int) -> None:
        patience, now_s = self._patience, elapsed_s()
        name = _name(child.number)
        how = f"by signal {-status}" if status < 0 else f"with status {status}"
        if not self._announced:
            raise ServingError(f"{name} ended at its start {how}; what it said is above")
        if child.is_ready and now_s - child.ready_s >= patience.steady_s:
            child.deaths = 0
        child.deaths += 1
        if child.deaths >= patience.deaths:
            raise ServingError(
                f"{name} ended {how}, {child.deaths} times without living for {patience.steady_s:g} s; "
                "what it said is above"
            )
        wait_s = min(patience.again_s * 2 ** (child.deaths - 1), patience.longest_s)
        child.due_s = now_s + wait_s
        child.is_ready = False
        _LOG.error("%s ended %s, starts again in %.1f s", name, how, wait_s)
        if child.number == 0:
            self._tell_gone()

    def _due_s(self) -> float | None:
        """When the next child is to be started."""
        return min((one.due_s for one in self._children if one.due_s), default=None)

    def _mind(self) -> None:
        """Start what is due, and end what hangs."""
        now_s = elapsed_s()
        # A look that comes later than it would says that this process stood still, and the children maybe with it, as where a
        # container is paused: what nobody could hear is no silence of theirs.
        passed_s, self._minded_s = min(now_s - self._minded_s, _LOOK_S), now_s
        for child in self._children:
            child.silent_s += passed_s
            if self._stopping:
                return
            if child.due_s and now_s >= child.due_s:
                child.due_s = 0.0
                self._start(child)
            hangs = child.is_ready and child.silent_s > self._patience.stuck_s
            if hangs and child.process is not None:
                _LOG.error("%s hangs and is ended", _name(child.number))
                child.silent_s = 0.0
                child.process.kill()

    def _end(self) -> None:
        """End all: who only answers first, so that what they have passed to the owner is answered."""
        self._stopping = True
        self._port.close()
        for child in self._children:
            if child.said >= 0:  # it is not listened to any more, and may still speak
                self._selector.unregister(child.said)
        owner, others = self._children[0], self._children[1:]
        for some in (others, [owner]):
            alive = [one.process for one in some if one.process is not None]
            for process in alive:
                process.terminate()
            until_s = elapsed_s() + self._patience.drain_s
            while (alive := [one for one in alive if one.poll() is None]) and elapsed_s() < until_s:
                self._wait(_END_S)
            for process in alive:
                _LOG.error("process %d does not end and is killed", process.pid)
                process.kill()
                process.wait()
        for child in self._children:
            child.process = None
            if child.said >= 0:
                os.close(child.said)
        os.close(self._life)
        os.close(self._held)


def end_with(life: int) -> None:
    """Ask this process to end, as SIGTERM does, when its supervisor has: `life` is the end of its pipe."""

    def watch() -> None:
        os.read(life, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="life", daemon=True).start()


def _name(number: int) -> str:
    return "the owner" if number == 0 else f"worker {number}"
