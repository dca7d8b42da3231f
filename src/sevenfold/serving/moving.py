"""The job that has old answers moved into files while the server answers.

A process of its own does the work, and takes the answers out of the store too: in the server's it would have the interpreter and the store when
answers want them. The job looks what is due, starts that process, and ends it when nothing is to be moved.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import msgspec

from sevenfold.clock import elapsed_s
from sevenfold.errors import StoreError
from sevenfold.serving.mover import Orders
from sevenfold.serving.rotation import Bounds, Rotation
from sevenfold.serving.sealed_answers import SealedAnswers
from sevenfold.stores.kv import Store

__all__ = ["Moving"]

_LOOK_S = 0.5
_ASIDE_S = 10.0


class Moving:
    """Has about `bounds.head` answers stay in the store at `url`, and all older ones moved to the files `sealed`.

    `hold` says when nothing is to be moved. While the server is `pressed` nothing is, until ten times as many are there.
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
        self._rotation = Rotation(store, sealed, bounds)
        self._process: subprocess.Popen[bytes] | None = None
        self._next_s = 0.0
        self.pressed: Callable[[], bool] = lambda: False

    @property
    def pid(self) -> int:
        """The process that is at work; 0 when there is none."""
        return self._process.pid if self._process else 0

    def step(self) -> bool:
        """Look what is due, and have it done."""
        now_s = elapsed_s()
        if now_s < self._next_s:
            return False
        self._next_s = now_s + _LOOK_S
        rests = self._hold() or (self.pressed() and not self._rotation.is_far_behind())
        if self._process is not None:
            self._look_after(rests)
            return False
        if rests or not self._rotation.is_due():
            return False
        self._start()
        return True

    def failed(self, error: Exception) -> None:
        """Nothing is lost: it is begun again after a while, on what is on disk."""
        self._next_s = elapsed_s() + _ASIDE_S

    def close(self) -> None:
        """End the process, at once: what it has half-done is swept by the next."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            if process.stdin is not None:
                process.stdin.close()

    def _look_after(self, rests: bool) -> None:
        assert self._process is not None
        code = self._process.poll()
        if rests or code is not None:
            self.close()
        if code and not rests:
            raise StoreError(
                f"the process that moves answers ended with {code}: what it said is in the server's log"
            )

    def _start(self) -> None:
        bounds = self._bounds
        given = Orders(self._url, str(self._sealed.folder), bounds.head, bounds.rows)
        command = [sys.executable, "-m", "sevenfold.serving.mover"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE)
        if self._process.stdin is not None:
            self._process.stdin.write(msgspec.json.encode(given) + b"\n")
            self._process.stdin.flush()
