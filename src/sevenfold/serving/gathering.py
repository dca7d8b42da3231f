"""Posts that come while another is written wait for one commit together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from sevenfold.serving.ingest import IngestResult, Post

__all__ = ["Gathering"]

_MOST_ROWS = 20_000  # of one commit: what more is waiting comes next, so that nobody waits long


class Gathering:
    """Takes posts on the event loop and has them written by `write`, as many at once as are waiting.

    A post that comes alone is written at the next turn of the loop, and waits for nobody. While a commit is
    under way the loop stands; what has arrived meanwhile is read first and then written together.
    """

    def __init__(self, write: Callable[[Sequence[Post]], list[IngestResult]]) -> None:
        self._write = write
        self._waiting: list[tuple[Post, asyncio.Future[IngestResult]]] = []

    async def take(self, post: Post) -> IngestResult:
        """What became of the post, once it is on disk; raises what it is refused for itself."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[IngestResult] = loop.create_future()
        if not self._waiting:
            loop.call_soon(self._settle)
        self._waiting.append((post, outcome))
        return await outcome

    def _settle(self) -> None:
        rows = n = 0
        while n < len(self._waiting) and (n == 0 or rows < _MOST_ROWS):
            rows += len(self._waiting[n][0].rows)
            n += 1
        now, self._waiting = self._waiting[:n], self._waiting[n:]
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._settle)
        try:
            results = self._write([post for post, _ in now])
        except Exception as error:  # noqa: BLE001  the edge of the process: each hears of its own
            if len(now) == 1:
                _refuse(now[0][1], error)
                return
            # Nothing of them is written. One of them is at fault, and the others are not to suffer for it.
            for post, outcome in now:
                try:
                    _tell(outcome, self._write([post])[0])
                except Exception as own:  # noqa: BLE001
                    _refuse(outcome, own)
            return
        for (_, outcome), result in zip(now, results, strict=True):
            _tell(outcome, result)


def _tell(outcome: asyncio.Future[IngestResult], result: IngestResult) -> None:
    if not outcome.cancelled():  # who asked may be gone; the rows are in
        outcome.set_result(result)


def _refuse(outcome: asyncio.Future[IngestResult], error: Exception) -> None:
    if not outcome.cancelled():
        outcome.set_exception(error)
