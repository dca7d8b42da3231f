"""Work beside the answers: jobs in small steps on the same thread, never more than half of its time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from sevenfold.clock import elapsed_s

__all__ = ["Background", "Job"]

_LOG = logging.getLogger(__name__)
_IDLE_S = 0.05
_ASIDE_S = 5.0


class Job(Protocol):
    """A piece of work that can be done bit by bit."""

    @property
    def name(self) -> str:
        """The name of the job in metrics and the log."""
        ...

    def step(self) -> bool:
        """Do a little, in some milliseconds; whether there was anything to do."""
        ...

    def failed(self, error: Exception) -> None:
        """Note that a step raised."""
        ...


async def _at_once() -> None:
    """Wait for nothing."""


class Background:
    """Runs jobs in turn until it is cancelled.

    After each step the thread is left to the requests for as long as the step took. A job that raises is put
    aside for some seconds; `note` is told the job's name, how long the step took, and whether it failed. `before` is
    done before each step: what is under way on the thread is finished, and no step finds half of it. `idle` is waited for before that:
    what is under way beside the thread, so that `before` has not to wait for it.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        note: Callable[[str, float, bool], None] = lambda *_: None,
        before: Callable[[], None] = lambda: None,
        idle: Callable[[], Awaitable[None]] = _at_once,
    ) -> None:
        self._jobs = jobs
        self._before = before
        self._idle = idle
        self._note = note
        self._aside: dict[str, float] = {}

    async def run(self) -> None:
        """Work for ever."""
        while True:
            worked = False
            for job in self._jobs:
                if self._aside.get(job.name, 0.0) > elapsed_s():
                    continue
                await self._idle()
                begin_s = elapsed_s()
                worked = self.step(job) or worked
                await asyncio.sleep(elapsed_s() - begin_s)
            if not worked:
                await asyncio.sleep(_IDLE_S)

    def step(self, job: Job) -> bool:
        """One step of a job, its failure kept from the others; whether it did anything."""
        begin_s = elapsed_s()
        try:
            self._before()
            worked = job.step()
        except Exception as error:  # noqa: BLE001  the edge of the process: a job runs what users declare
            _LOG.exception("job failed job=%s", job.name)
            self._aside[job.name] = elapsed_s() + _ASIDE_S
            self._note(job.name, elapsed_s() - begin_s, True)
            job.failed(error)
            return False
        if worked:
            self._note(job.name, elapsed_s() - begin_s, False)
        return worked
