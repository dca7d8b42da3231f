"""The parts of a system, as the checks see them."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Protocol

from sevenfold.errors import Problem, TimeError
from sevenfold.spec.aggregate import FeatureView
from sevenfold.spec.evaluation import Evaluation
from sevenfold.spec.model import ModelSpec
from sevenfold.spec.monitoring import Monitoring
from sevenfold.spec.on_demand import OnDemand
from sevenfold.spec.requirements import Requirements
from sevenfold.spec.serving import Pipeline
from sevenfold.spec.stream import Stream
from sevenfold.spec.task import Ranking
from sevenfold.spec.units import parse_duration

__all__ = ["Declaration", "duration_problem", "unknown"]


class Declaration(Protocol):
    """The seven steps of a system."""

    @property
    def name(self) -> str:
        """The system's name."""
        ...

    @property
    def requirements(self) -> Requirements:
        """Step 1."""
        ...

    @property
    def task(self) -> Ranking:
        """Step 2."""
        ...

    @property
    def data(self) -> Sequence[Stream]:
        """Step 3, the streams."""
        ...

    @property
    def features(self) -> Sequence[FeatureView | OnDemand]:
        """Step 3, the features."""
        ...

    @property
    def models(self) -> Sequence[ModelSpec]:
        """Step 4."""
        ...

    @property
    def evaluation(self) -> Evaluation:
        """Step 5."""
        ...

    @property
    def serving(self) -> Pipeline:
        """Step 6."""
        ...

    @property
    def monitoring(self) -> Monitoring:
        """Step 7."""
        ...


def duration_problem(path: str, given: object, zero: bool = False) -> Problem | None:
    """The problem with a duration, or None for a good one; zero is refused unless allowed."""
    try:
        us = parse_duration(given)
    except TimeError as error:
        return Problem(path, str(error), "write a number and a unit, such as '7 d'")
    if us == 0 and not zero:
        return Problem(path, f"{given!r} is no time at all", "give more than zero, or leave it out")
    return None


def unknown(path: str, what: str, given: str, known: Sequence[str], check: str = "C-00") -> Problem:
    """The problem of a name that nothing declares, with what there is and what was probably meant."""
    close = get_close_matches(given, known, 1)
    remedy = (
        f"did you mean {close[0]!r}?" if close else f"declare it, or use one of: {', '.join(known)}"
    )
    return Problem(
        path, f"no {what} is named {given!r}; there are {', '.join(known)}", remedy, check
    )
