"""Which level of quality answers are made at: down when more is asked than can be done or a stage fails, and up again.

Pure: the time is an argument. A level is a place in the list of rungs, 0 the best. Two things move it, and the cheaper of
the two levels counts:

- **Load.** What is asked for, as a share of what can be done, is known for every level whose cost was measured. When
  requests wait long or are refused, and that share is not small, it goes down to the best level that can do all of it,
  but never beyond the first whose cost nobody knows yet. It goes up
  when a better level could have done all of it with room to spare for nearly all of a hold: two thresholds, and a time between
  them. A climb that was wrong makes the next hold longer. While there is time, an answer now and then is made at a
  better level, so that its cost is known as it is now.
- **Few who wait.** Clients that ask again once they have their answer ask for more the faster they are answered, so what
  they ask for says nothing. But they are no more than they are: a level at which all of them can wait for each other is
  never too good for them.
- **Faults.** Some answers in a row that came from a cheaper rung than asked for, and not for want of time, are a broken
  stage: answers then begin at the rung that worked. After a rest one answer tries the better level, and decides.

Sources: Nygard, "Release It!" (2007), for the breaker; Hellerstein et al., "Feedback Control of Computing Systems"
(2004), for the hysteresis.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

__all__ = ["Ladder"]

_DOWN = 0.85  # of what can be done: above this, down when requests wait long or are refused
_FAR = 1.2  # above this at once, else when it has been so for a while: after a climb the first answers find nothing warm
_PATIENCE_S = 0.5
_MOST = 1.0  # to a level that has no more asked of it
_UP = 0.75  # up to a better level that has no more: below the first, or it would swing
_NEARLY = 0.75  # of the looks of a hold: demand and costs are measured, and by chance one in some is too high
_SETTLE_S = 0.1  # from a step down to the next: what the new level takes has to be seen first
_HOLD_S = 1.5
_LONGEST_HOLD_S = 6.0
_LOOK_UP_S = 0.2  # between answers that are made at a better level to see what it takes now
_FAULTS = 3
_REST_S = 1.0
_LONGEST_REST_S = 8.0

Share = Callable[[int], float | None]
Few = Callable[[int], bool]


def _many(_: int) -> bool:
    return False


class Ladder:
    """The level for the next answer.

    `rungs` are the levels, the best first. Load brings it down to the last but one at most when the last is `empty`: a
    refusal tells the client to come back, an empty answer does not.
    """

    def __init__(self, rungs: Sequence[str]) -> None:
        self.rungs = tuple(rungs)
        self.lowest = max(0, len(rungs) - (2 if rungs[-1] == "empty" else 1))
        self._load = _Load(self.lowest)
        self._breaker = _Breaker()

    @property
    def level(self) -> int:
        """The level of answers now."""
        return max(self._load.level, self._breaker.floor)

    @property
    def floor(self) -> int:
        """The best level that no fault forbids."""
        return self._breaker.floor

    def loaded(self, now_s: float, share: Share, crowded: bool, few: Few = _many) -> int:
        """The level after a look at the load.

        `share` gives what is asked for as a share of what can be done at a level; None for a level that was never
        measured. `crowded` when requests wait long, or had to be refused since the last look. `few` tells whether
        all that asked at once of late would not wait long at a level.
        """
        self._load.look(now_s, share, crowded, few)
        return self.level

    def begin(self, now_s: float) -> int:
        """The level for an answer that begins now."""
        if self._breaker.tries(now_s):
            return self._load.level
        return max(self._load.begin(now_s), self._breaker.floor)

    def ended(self, now_s: float, asked: int, rung: str | None, excused: bool) -> None:
        """Take in how an answer ended that was begun at level `asked`: by which rung, None when there was none.

        `excused` when a cheaper rung than asked for is no fault of a stage, as for want of time.
        """
        served = self.rungs.index(rung) if rung in self.rungs else len(self.rungs) - 1
        if served <= asked:
            self._breaker.worked(asked)
        elif not excused or asked < self._breaker.floor:
            self._breaker.failed(now_s, asked, served)


class _Load:
    """The level that the load asks for."""

    def __init__(self, lowest: int) -> None:
        self.level = 0
        self._lowest = lowest
        self._moved_s = self._climbed_s = self._looked_up_s = -math.inf
        self._wish: _Wish | None = None
        self._hold_s = _HOLD_S
        self._pressed_s = math.inf
        self._has_time = False
        self._next = 0

    def look(self, now_s: float, share: Share, crowded: bool, few: Few) -> None:
        here = share(self.level) or 0.0
        self._has_time = here < _UP or few(self.level)
        too_much = crowded and here > _DOWN and not few(self.level)
        since_s = self._pressed_s = min(self._pressed_s, now_s) if too_much else math.inf
        if too_much:
            self._wish = None
            is_time = here > _FAR or now_s - since_s >= _PATIENCE_S
            if is_time and self.level < self._lowest and now_s - self._moved_s >= _SETTLE_S:
                self._descend(now_s, share)
            return
        better = self._sustainable(share, few)
        if self._wish is None and better < self.level:
            self._wish = _Wish(now_s)
        wish = self._wish
        # It counts what could have been done nearly all the while, not what could be done just now.
        wanted = self.level if wish is None else wish.take(better, self.level)
        if wish is None or wanted == self.level:
            self._wish = None
            if now_s - self._climbed_s > 2 * _LONGEST_HOLD_S:
                self._hold_s = _HOLD_S
        elif now_s - wish.since_s >= self._hold_s:
            self._climbed_s = now_s
            self._move(wanted, now_s)

    def begin(self, now_s: float) -> int:
        if not self.level or not self._has_time or now_s - self._looked_up_s < _LOOK_UP_S:
            return self.level
        self._looked_up_s = now_s
        self._next = (self._next + 1) % self.level
        return self._next

    def _descend(self, now_s: float, share: Share) -> None:
        below = self.level + 1
        while below < self._lowest:
            there = share(below)
            if there is None or there <= _MOST:
                break
            below += 1
        if now_s - self._climbed_s <= self._hold_s:
            self._hold_s = min(2 * self._hold_s, _LONGEST_HOLD_S)
        self._move(below, now_s)

    def _sustainable(self, share: Share, few: Few) -> int:
        for level in range(self.level):
            there = share(level)
            if there is not None and (there <= _UP or few(level)):
                return level
        return self.level

    def _move(self, level: int, now_s: float) -> None:
        self.level, self._moved_s, self._wish = level, now_s, None


class _Wish:
    """The looks since a better level could do all that is asked for, and at how many of them each could."""

    def __init__(self, since_s: float) -> None:
        self.since_s = since_s
        self._looks = 0
        self._could: Counter[int] = Counter()

    def take(self, better: int, level: int) -> int:
        """The best level that could at nearly all looks, `better` at this one; else `level`, the one of now."""
        self._looks += 1
        for could in range(better, level):
            self._could[could] += 1
        return min(
            (n for n, times in self._could.items() if times >= _NEARLY * self._looks), default=level
        )


class _Breaker:
    """The best level that no fault forbids."""

    def __init__(self) -> None:
        self.floor = 0
        self._times = 0
        self._open_s = math.inf
        self._rest_s = _REST_S

    def tries(self, now_s: float) -> bool:
        """Whether the answer that begins now is to try what failed; the next one rests again."""
        if now_s < self._open_s:
            return False
        self._open_s = now_s + self._rest_s
        return True

    def worked(self, asked: int) -> None:
        self._times = 0
        if asked < self.floor:
            self.floor, self._open_s, self._rest_s = 0, math.inf, _REST_S

    def failed(self, now_s: float, asked: int, served: int) -> None:
        if asked < self.floor:  # it was a try
            self.floor = max(self.floor, served)
            self._rest_s = min(2 * self._rest_s, _LONGEST_REST_S)
            self._open_s = now_s + self._rest_s
            return
        self._times += 1
        if self._times >= _FAULTS:
            self._times = 0
            self.floor = served
            self._open_s = now_s + self._rest_s
