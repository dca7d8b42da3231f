"""The parts of a system, as the checks see them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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
from sevenfold.spec.through import Through
from sevenfold.spec.units import parse_duration

__all__ = ["Declaration", "duration_us", "functions", "links", "twice", "unknown", "views"]


_MOST_NAMES = 16


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
    def features(self) -> Sequence[FeatureView | Through | OnDemand]:
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


def duration_us(given: object) -> int | None:
    """The duration in microseconds; None for what is none, which is said where types are compared."""
    try:
        return parse_duration(given)
    except TimeError:
        return None


def views(system: Declaration) -> Iterator[tuple[str, FeatureView]]:
    """The views with their paths, each once: those declared themselves, then those reached through links."""
    seen: set[int] = set()
    direct = ((f"$.features[{i}]", feature) for i, feature in enumerate(system.features))
    reached = ((f"{path}.view", link.view) for path, link in links(system))
    for path, view in (*direct, *reached):
        if isinstance(view, FeatureView) and id(view) not in seen:
            seen.add(id(view))
            yield path, view


def links(system: Declaration) -> Iterator[tuple[str, Through]]:
    """What reaches features through a link, with its path; links behind links too."""
    for i, feature in enumerate(system.features):
        path, found = f"$.features[{i}]", feature
        while isinstance(found, Through):
            yield path, found
            path, found = f"{path}.view", found.view


def functions(system: Declaration) -> Iterator[tuple[str, OnDemand]]:
    """The request-time functions with their paths."""
    for i, feature in enumerate(system.features):
        if isinstance(feature, OnDemand):
            yield f"$.features[{i}]", feature


def twice(names: Iterable[tuple[str, str]], what: str, check: str = "C-00") -> Iterator[Problem]:
    """The problems of (path, name) pairs whose name was there before."""
    first: dict[str, str] = {}
    for path, name in names:
        if name in first:
            message = f"{what} {name!r} is at {first[name]} already"
            yield Problem(path, message, "give one of them another name", check)
        first.setdefault(name, path)


def unknown(path: str, what: str, given: str, known: Sequence[str], check: str = "C-00") -> Problem:
    """The problem of a name that nothing declares, with what there is and what was probably meant."""
    close = get_close_matches(given, known, 1)
    remedy = f"did you mean {close[0]!r}?" if close else "declare it, or name one that there is"
    named = list(known) if len(known) <= _MOST_NAMES else get_close_matches(given, known, 8, 0)
    more = f" and {len(known) - len(named)} more" if len(named) < len(known) else ""
    there = f"there are {', '.join(named)}{more}" if known else "there is none"
    return Problem(path, f"no {what} is named {given!r}; {there}", remedy, check)
