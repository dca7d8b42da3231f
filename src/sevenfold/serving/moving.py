"""The job that has old answers moved into files while the server answers.

A process of its own does the work, and takes the answers out of the store too: in the server's it would have the interpreter and the store when
answers want them. The job looks what is due, starts that process, and ends it when nothing is to be moved.

What a process has left half-done is swept away before the next is started, and while none is at work. One of a server that was killed may be, for a moment or
for as long as its disk hangs: the next server starts all the same, its answers stay in the store, and it looks again twice a second.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from sevenfold.clock import elapsed_s
from sevenfold.errors import StoreError
from sevenfold.serving.mover import Orders, is_forgetting
from sevenfold.serving.prediction_log import sealed_files
from sevenfold.serving.rotation import Bounds, Rotation
from sevenfold.serving.sealed_answers import NotAloneError, SealedAnswers
from sevenfold.stores.companion import Companion
from sevenfold.stores.kv import Store

__all__ = ["Moving"]

_LOOK_S = 0.5
_ASIDE_S = 10.0
_AT_EASE_S = 10.0
_ALONE_S = 10.0  # that a process of another server has to end before it is told of


class Moving:
    """Has about `bounds.head` answers stay in the store at `url`, and all older ones moved to the files `sealed`.

    `hold` says when nothing is to be moved. While the server is `pressed` nothing is, until ten times as many are there, nor is anything begun before it has
    been at ease for ten seconds: to begin takes a second of the processor, right when a server that has been pressed needs it.
    """

    name = "rotation"

    def __init__(
        self,
        store: Store,
        url: str,
        sealed: SealedAnswers,
        bounds: Bounds,
        hold: Callable[[], bool],
    ) -> None:
        self._url, self._sealed, self._bounds, self._hold = url, sealed, bounds, hold
        self._store = store
        self._rotation = Rotation(store, sealed, bounds, is_forgetting)
        self._mover = Companion("sevenfold.serving.mover")
        self._next_s = 0.0
        self._pressed_s = -math.inf
        self._left_s: float | None = elapsed_s()  # since when something may be left half-done
        self.pressed: Callable[[], bool] = lambda: False

    @property
    def pid(self) -> int:
        """The process that is at work; 0 when there is none."""
        return self._mover.pid

    def step(self) -> bool:
        """Look what is due, and have it done."""
        now_s = elapsed_s()
        if now_s < self._next_s:
            return False
        self._next_s = now_s + _LOOK_S
        is_held = self._hold()
        if self.pressed():
            self._pressed_s = now_s
        eased_s = now_s - self._pressed_s
        is_pressed = eased_s == 0 if self.pid else eased_s < _AT_EASE_S
        rests = is_held or (is_pressed and not self._rotation.is_far_behind())
        if self.pid:
            self._look_after(rests)
            return False
        if is_held or not self._sweep() or rests or not self._rotation.is_due():
            return False
        self._start()
        return True

    def failed(self, error: Exception) -> None:
        """Nothing is lost: it is begun again after a while, on what is on disk."""
        self._next_s = elapsed_s() + _ASIDE_S

    def close(self) -> None:
        """End the process, at once: what it has half-done is swept by the next."""
        if self.pid and self._mover.code != 0:
            self._left_s = elapsed_s()
        self._mover.close()

    def _sweep(self) -> bool:
        """Sweep away what was left half-done, if anything; whether that is done: not while another process is at work, which NotAloneError tells when it takes long."""
        if self._left_s is None:
            return True
        try:
            with self._sealed.alone(), self._store.read() as txn:
                self._sealed.sweep({file.name for file in sealed_files(txn)})
        except NotAloneError:
            if elapsed_s() - self._left_s > _ALONE_S:
                raise
            return False
        self._left_s = None
        return True

    def _look_after(self, rests: bool) -> None:
        code = self._mover.code
        if rests or code is not None:
            self.close()
        if code and not rests:
            raise StoreError(
                f"the process that moves answers ended with {code}: what it said is in the server's log"
            )

    def _start(self) -> None:
        bounds = self._bounds
        self._mover.start(Orders(self._url, str(self._sealed.folder), bounds.head, bounds.rows))
