"""The ladder of an answer: what it may cost, and the rungs that are left under that."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from sevenfold.errors import ServingError
from sevenfold.spec.serving import RUNGS, Pipeline

__all__ = ["FULL", "Allowance", "fewer_of", "ladder", "rungs_from"]


@dataclass(frozen=True, slots=True)
class Allowance:
    """What one answer may cost: the best rung it may be served by, and when it has to be done.

    `best` is one of RUNGS; where the pipeline does not declare it, the next cheaper one that is declared.
    `arrived_s` and `deadline_s` are instants of `clock.elapsed_s`, in seconds: the budgets of the declaration and
    of the request count from the arrival, now when it is not given, and the earliest end of all holds.
    """

    best: str = "full"
    arrived_s: float | None = None
    deadline_s: float = math.inf

    def __post_init__(self) -> None:
        """Refuse a rung that there is not."""
        if self.best not in RUNGS:
            raise ServingError(f"there is no rung {self.best!r}; there are {', '.join(RUNGS)}")


FULL = Allowance()
"""All that the declaration allows."""


def ladder(pipeline: Pipeline) -> tuple[str, ...]:
    """The rungs that a pipeline has, the best first; the last one, `empty`, is always there.

    >>> ladder(Pipeline(retrieve=[], degrade=("baseline",)))
    ('full', 'baseline', 'empty')
    """
    return tuple(rung for rung in RUNGS if rung in ("full", *pipeline.degrade, "empty"))


@lru_cache(maxsize=256)
def rungs_from(rungs: tuple[str, ...], best: str) -> tuple[str, ...]:
    """Those of a ladder that are not better than `best`.

    >>> rungs_from(("full", "baseline", "empty"), "light")
    ('baseline', 'empty')
    """
    return tuple(rung for rung in rungs if RUNGS.index(rung) >= RUNGS.index(best))


def fewer_of(pipeline: Pipeline, k: int) -> int:
    """How many candidates an answer of `k` items has where they are fewer."""
    return max(k, pipeline.fewer or -(-pipeline.limit // 4))
