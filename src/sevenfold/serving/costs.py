"""What requests take and how many come, as measured while the server works; the time is an argument."""

from __future__ import annotations

import math
from typing import TypeAlias

__all__ = ["Costs", "Demand", "Kind", "Most", "kind_of"]

Kind: TypeAlias = tuple[str, int]
"""A route and the size of a body, in steps of four."""

_KEEP = 0.9  # of an estimate at a measurement: some ten requests decide it
_KEEP_SELDOM = 0.75  # of one that is older than a tenth of a second: some four requests decide it
_SELDOM_S = 0.1
_KEEP_OLD = 0.5  # of one that is older than a second
_OLD_S = 1.0
_COLD = 5
_OUTLIER = 4.0
_FAR = 2.0  # mean deviations above a mean
_SMALLEST_BITS = 10  # bodies up to 1 KiB are one size, then each is four times the one before
_LARGEST = 7
_WINDOW_S = 0.5
_STEP_S = 0.02  # of it at once: what comes so close together counts as come together


def kind_of(route: str, size: int) -> Kind:
    """The kind of a request to a route with a body of `size` bytes.

    >>> kind_of("/v1/rank", 700), kind_of("/v1/rank", 30_000)
    (('/v1/rank', 0), ('/v1/rank', 3))
    """
    return route, min(max(0, (size.bit_length() - _SMALLEST_BITS + 1) // 2), _LARGEST)


class Costs:
    """Seconds that a request takes, by kind and level of the ladder.

    Exponential means, so that they follow what the machine does now. A size not seen yet costs what the nearest smaller
    one does (else the nearest larger).
    """

    def __init__(self) -> None:
        self._means: dict[tuple[str, int], dict[int, tuple[float, float, float, int]]] = {}
        self._turn_s = self._whole_s = self._heard = 0.0
        self._turns = 0
        self.fixed_s = 0.0
        """What a turn takes beside the work of its requests: the commit that they share, most of all."""

    def note(self, kind: Kind, level: int, seconds: float, now_s: float) -> None:
        """Take in what a request took."""
        route, size = kind
        sizes = self._means.setdefault((route, level), {})
        mean, apart, at_s, n = sizes.get(size, (seconds, 0.0, now_s, 0))
        if n < _COLD:
            # The first ones load what later ones find.
            sizes[size] = min(mean, seconds), 0.0, now_s, n + 1
            return
        age_s = now_s - at_s
        keep = _KEEP if age_s < _SELDOM_S else _KEEP_SELDOM if age_s < _OLD_S else _KEEP_OLD
        # One that was interrupted says little; when all take so long, ten of them say it.
        seconds = min(seconds, _OUTLIER * mean)
        apart = keep * apart + (1 - keep) * abs(seconds - mean)
        sizes[size] = keep * mean + (1 - keep) * seconds, apart, now_s, n

    def note_fixed(self, seconds: float) -> None:
        """Take in what a turn took beside the work of its requests."""
        self._turns += 1
        if self._turns <= _COLD:
            self.fixed_s = min(self.fixed_s or seconds, seconds)
        else:
            seconds = min(seconds, _OUTLIER * self.fixed_s)
            self.fixed_s = _KEEP * self.fixed_s + (1 - _KEEP) * seconds

    def whole_s(self, work_s: float, slice_s: float) -> float:
        """How long it takes to do so much work, in turns of `slice_s` seconds of it."""
        turns = math.ceil(work_s / slice_s) if slice_s > 0 else 0
        return (work_s + turns * self.fixed_s) * self.overhead

    def note_round(self, turn_s: float, whole_s: float, heard: int = 1) -> None:
        """Take in how long it was from one turn to the next while others waited, how much of it the turn was, and how many were heard."""
        self._turn_s = _KEEP * self._turn_s + (1 - _KEEP) * turn_s
        self._whole_s = _KEEP * self._whole_s + (1 - _KEEP) * max(whole_s, turn_s)
        self._heard = _KEEP * self._heard + (1 - _KEEP) * heard

    @property
    def overhead(self) -> float:
        """What a second of turns takes while others wait, with reading, refusing and work beside it; at least 1."""
        return self._whole_s / self._turn_s if self._turn_s > 0 else 1.0

    @property
    def heard_s(self) -> float:
        """What a request takes beside its turn, in seconds: to be read, and told or refused. It is the same at every level."""
        return (self._whole_s - self._turn_s) / self._heard if self._heard > 0 else 0.0

    def of(self, kind: Kind, level: int) -> float | None:
        """The seconds of work of a request at a level; None where nothing like it was measured."""
        found = self._found(kind, level)
        return None if found is None else found[0]

    def expected(self, kind: Kind, level: int) -> float:
        """The seconds of work of a request; at a level not measured yet, what the next better one takes.

        With nothing known it is nothing: the deadline is still kept when the turn comes.
        """
        return self.spread(kind, level)[0]

    def spread(self, kind: Kind, level: int) -> tuple[float, float]:
        """The same, and what one of the slower takes: twice as far above the mean as requests are from it, as Jacobson has it of round trips (1988, with four times)."""
        for known in range(level, -1, -1):
            found = self._found(kind, known)
            if found is not None:
                return found[0], found[0] + _FAR * found[1]
        return 0.0, 0.0

    def _found(self, kind: Kind, level: int) -> tuple[float, float] | None:
        """The mean of the nearest size, and how far from it requests are in the mean."""
        route, size = kind
        sizes = self._means.get((route, level))
        if not sizes:
            return None
        if size not in sizes:
            size = max((known for known in sizes if known < size), default=min(sizes))
        return sizes[size][:2]

    def capacities(self, level: int, slice_s: float) -> dict[str, float]:
        """Requests a second by route at a level (else at the next better), of the size that takes longest."""
        taken = {
            route: max(self.expected((route, size), level) for size in range(_LARGEST + 1))
            for route, _ in self._means
        }
        return {
            route: 1 / ((s + self.fixed_s * min(1.0, s / slice_s)) * self.overhead)
            for route, s in taken.items()
            if s > 0
        }


class Demand:
    """How much is asked for: a mean over the last half second or so, by kind."""

    def __init__(self) -> None:
        self._rates: dict[Kind, float] = {}
        self._at_s = -math.inf

    def note(self, kind: Kind, now_s: float) -> None:
        """A request has come."""
        if now_s - self._at_s > _STEP_S:
            self._fade(now_s)
        self._rates[kind] = self._rates.get(kind, 0.0) + 1 / _WINDOW_S

    def rates(self, now_s: float) -> dict[Kind, float]:
        """Requests a second by kind."""
        self._fade(now_s)
        return self._rates

    def _fade(self, now_s: float) -> None:
        if now_s > self._at_s:
            kept = math.exp((self._at_s - now_s) / _WINDOW_S)
            for kind in self._rates:
                self._rates[kind] *= kept
            self._at_s = now_s


class Most:
    """The largest of the numbers noted in the last `window_s` seconds, and for up to as long again.

    >>> most = Most(window_s=10)
    >>> most.note(7, now_s=0)
    >>> most.note(3, now_s=9)
    >>> most.of(now_s=9), most.of(now_s=19), most.of(now_s=40)
    (7, 7, 0)
    """

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._since_s = -math.inf
        self._now = self._before = 0

    def note(self, n: int, now_s: float) -> None:
        """Take in a number."""
        self._turn(now_s)
        self._now = max(self._now, n)

    def of(self, now_s: float) -> int:
        """The largest."""
        self._turn(now_s)
        return max(self._now, self._before)

    def _turn(self, now_s: float) -> None:
        windows = (now_s - self._since_s) / self._window_s
        if windows >= 1:
            self._before = self._now if windows < 2 else 0
            self._now, self._since_s = 0, now_s
