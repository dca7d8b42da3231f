"""The only place that reads the wall clock."""

from __future__ import annotations

import time
from typing import Protocol

from sevenfold.errors import TimeError

__all__ = ["Clock", "ManualClock", "SystemClock", "elapsed_s"]


class Clock(Protocol):
    """A source of instants: int64 microseconds since 1970-01-01 UTC."""

    def now_us(self) -> int:
        """The instant now."""
        ...


class SystemClock:
    """The clock of the machine."""

    def now_us(self) -> int:
        """The instant now, in microseconds since 1970-01-01 UTC."""
        return time.time_ns() // 1_000


class ManualClock:
    """A clock that stands still until it is told to move; it never goes back.

    >>> clock = ManualClock(1_000)
    >>> clock.advance(500)
    >>> clock.now_us()
    1500
    """

    def __init__(self, now_us: int = 0) -> None:
        self._now_us = now_us

    def now_us(self) -> int:
        """The instant the clock was last set to."""
        return self._now_us

    def advance(self, by_us: int) -> None:
        """Move the clock forward; raises TimeError on a negative step."""
        self.set(self._now_us + by_us)

    def set(self, now_us: int) -> None:
        """Set the clock; raises TimeError when that would move it back."""
        if now_us < self._now_us:
            raise TimeError(
                f"a clock never goes back: it stands at {self._now_us} us and was set to {now_us} us"
            )
        self._now_us = now_us


def elapsed_s() -> float:
    """Seconds on a monotone counter, for measuring how long something took."""
    return time.perf_counter()
