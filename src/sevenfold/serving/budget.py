"""The time of one answer: what each stage may take of it, what is kept for the end, and what a rung would cost."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from sevenfold.clock import elapsed_s
from sevenfold.spec.serving import RESERVE, SHARES
from sevenfold.spec.system import System
from sevenfold.spec.units import parse_duration

__all__ = ["Budget", "Pace", "Split", "split_of"]

_KEPT = 16  # measurements of one kind
_ENOUGH = 4
_PROBE = 32  # refusals, before it is tried again whatever is expected


@dataclass(frozen=True, slots=True)
class Split:
    """How a budget of `whole_s` seconds is split: what each stage may take, and what is kept for the end."""

    whole_s: float
    stages_s: Mapping[str, float]
    reserve_s: float


def split_of(system: System) -> Split:
    """The split that a declaration gives, with its p99 as the whole."""
    pipeline = system.serving
    whole_s = parse_duration(system.requirements.latency.p99) / 1e6
    stages_s = {name: share * whole_s for name, share in SHARES.items()}
    for name, text in pipeline.timeouts.items():
        stages_s[name] = parse_duration(text) / 1e6
    kept = pipeline.reserve
    return Split(
        whole_s, stages_s, RESERVE * whole_s if kept is None else parse_duration(kept) / 1e6
    )


@dataclass(frozen=True, slots=True)
class Budget:
    """The time from `begun_s` to `deadline_s`, instants of `clock.elapsed_s`; without end where that is infinite.

    A budget below the whole shortens all stages and the reserve alike; one above it lengthens none: `scale` is what part of the
    declared times there is, from 0 to 1. At `end_s` the last stage has to be done, so that what is kept for the end is left.
    """

    split: Split
    begun_s: float
    deadline_s: float
    scale: float = field(init=False)
    end_s: float = field(init=False)

    def __post_init__(self) -> None:
        """Work out what each stage of an answer asks."""
        if math.isinf(self.deadline_s):
            scale, end_s = 1.0, math.inf
        else:
            scale = min(1.0, max(0.0, self.deadline_s - self.begun_s) / self.split.whole_s)
            end_s = self.deadline_s - scale * self.split.reserve_s
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "end_s", end_s)

    def until_s(self, now_s: float, *stages: str) -> float:
        """When `stages`, begun now one after another, have to be done."""
        if self.end_s == math.inf:
            return math.inf
        allowed_s, of = 0.0, self.split.stages_s
        for stage in stages:
            allowed_s += of[stage]
        return min(now_s + self.scale * allowed_s, self.end_s)

    def is_over(self) -> bool:
        """Whether no stage can begin any more."""
        return elapsed_s() >= self.end_s


class Pace:
    """How long work has taken of late, by kind: what is expected is the quickest of the last few.

    The quickest, because one measurement is often slow for reasons that have passed (something was compiled, the
    machine was busy); what is slow in all of them is slow. Work on rows is taken to grow as the rows do, which is said
    of more than twice the rows of a measurement never. What has been measured fewer than four times is expected to
    take no time.
    """

    def __init__(self) -> None:
        self._recent: dict[str, deque[tuple[int, float]]] = {}
        self._refused: dict[str, int] = {}

    def learn(self, kind: str, rows: int, seconds: float) -> None:
        """Note that `rows` rows of work took so long."""
        self._recent.setdefault(kind, deque(maxlen=_KEPT)).append((max(rows, 1), seconds))

    def expected_s(self, kind: str, rows: int) -> float:
        """How long `rows` rows of work take, in seconds."""
        least, count = math.inf, 0
        for n, seconds in self._recent.get(kind, ()):
            if 2 * n >= rows:
                count += 1
                likely = seconds * rows / n
                if likely < least:
                    least = likely
        return least if count >= _ENOUGH else 0.0

    def fits(self, kind: str, expected_s: float, left_s: float) -> bool:
        """Whether work that is expected to take so long is begun with so much time left.

        Each time that it does not fit counts; now and then it is begun nevertheless, because nothing would be
        learnt otherwise of work that has become quicker.
        """
        if expected_s <= left_s:
            self._refused.pop(kind, None)
            return True
        refused = self._refused.get(kind, 0) + 1
        self._refused[kind] = 0 if refused == _PROBE else refused
        return refused == _PROBE and left_s > 0
