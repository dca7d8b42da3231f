"""A job of the background whose steps are long: they are done on a thread, and the event loop only looks after it."""

from __future__ import annotations

from collections.abc import Callable

from sevenfold.clock import elapsed_s
from sevenfold.serving.background import Job
from sevenfold.serving.beside import Beside, Work

__all__ = ["JobThread"]

_AT_ONCE_S = 0.003  # of steps, until it rests: answers that come meanwhile take longer, and those behind them wait
_REST = 9  # times as long as it worked: answers that come meanwhile take longer, and the gate would take that for what they cost


class JobThread:
    """`job`, stepped on a thread of its own; what it shares with the loop it has to guard itself.

    A step in Python still takes the interpreter from the loop, but not for longer than a thread may keep it, where a step on the loop itself
    would keep it to its end. It works for a tenth of the time. Whoever refuses thousands a second would wait for it thousands of times: while the
    server is `pressed` it does not work.
    """

    def __init__(
        self, job: Job, note: Callable[[str, float, bool], None] = lambda *_: None
    ) -> None:
        self.note = note
        self.pressed: Callable[[], bool] = lambda: False
        self._job = job
        self._beside = Beside(job.name, awaited=False)
        self._work: Work | None = None
        self._error: Exception | None = None
        self._took_s = self._next_s = 0.0

    @property
    def name(self) -> str:
        """The name of the job in metrics and the log."""
        return self._job.name

    def step(self) -> bool:
        """Have the thread go on where it has nothing to do; False, since the loop has not worked. Raises what a step raised."""
        if self._work is not None and not self._work.is_done:
            return False
        self._work = None
        error, self._error = self._error, None
        took_s, self._took_s = self._took_s, 0.0
        if error is not None:
            raise error
        if took_s:
            self.note(self.name, took_s, False)
            self._next_s = elapsed_s() + _REST * took_s
        if self.pressed() or elapsed_s() < self._next_s:
            return False
        self._work = Work(self._do, lambda: None)
        self._beside.give(self._work)
        return False

    def failed(self, error: Exception) -> None:
        """Tell the job; the thread does nothing meanwhile."""
        self._job.failed(error)

    def close(self) -> None:
        """Finish the step under way, and end the thread."""
        self._beside.close()

    def _do(self, _: Callable[[], None]) -> None:
        begin_s = elapsed_s()
        worked = False
        try:
            while self._job.step():
                worked = True
                if self.pressed() or elapsed_s() - begin_s > _AT_ONCE_S:
                    break
        except Exception as error:  # noqa: BLE001  the loop hears of it at its next look
            self._error = error
        if worked:
            self._took_s = elapsed_s() - begin_s
