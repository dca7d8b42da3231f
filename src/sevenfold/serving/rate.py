"""So many requests a second, and a second's worth at once."""

from __future__ import annotations

import math

from sevenfold.clock import elapsed_s

__all__ = ["Bucket"]


class Bucket:
    """A token bucket: `per_s` requests a second in the long run, `burst` at once; full at the start.

    >>> bucket = Bucket(2.0)
    >>> [bucket.take(0.0), bucket.take(0.0), bucket.take(0.0)]
    [0.0, 0.0, 0.5]
    """

    def __init__(self, per_s: float, burst: float | None = None) -> None:
        self._per_s = per_s
        self._burst = max(1.0, per_s) if burst is None else burst
        self._left = self._burst
        self._at_s = -math.inf

    def take(self, now_s: float | None = None) -> float:
        """0 when one more may pass now, else the seconds until one may; what is refused costs nothing."""
        now_s = elapsed_s() if now_s is None else now_s
        since_s = now_s - self._at_s
        self._at_s = now_s
        self._left = min(self._burst, self._left + since_s * self._per_s)
        if self._left >= 1:
            self._left -= 1
            return 0.0
        return (1 - self._left) / self._per_s
