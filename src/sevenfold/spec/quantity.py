"""What the values of a declaration may be: durations, shares, counts and names, as annotations of its fields."""

from __future__ import annotations

import re
from dataclasses import dataclass
from numbers import Integral, Real
from reprlib import repr as short
from typing import Annotated, Any, Protocol, TypeAlias, runtime_checkable

from sevenfold.errors import TimeError
from sevenfold.spec.units import parse_duration

__all__ = [
    "Bounds",
    "Count",
    "Delay",
    "Duration",
    "Fault",
    "Name",
    "Positive",
    "Quantity",
    "Share",
    "Span",
    "Title",
    "Width",
]

Fault: TypeAlias = tuple[str, str]
"""What is wrong with a value, and what to do."""


@runtime_checkable
class Quantity(Protocol):
    """A rule on one value, put into the annotation of a field; `wanted` says in words what it allows."""

    @property
    def wanted(self) -> str:
        """What a good value is, in words."""
        ...

    def fault(self, given: object) -> Fault | None:
        """What is wrong with the value; None for a good one."""
        ...


@dataclass(frozen=True, slots=True)
class Span:
    """A number with a unit of time, more than zero unless `zero`."""

    zero: bool = False

    @property
    def wanted(self) -> str:
        """A duration."""
        return "a duration, `0 s` too" if self.zero else "a duration"

    def fault(self, given: object) -> Fault | None:
        """What is wrong with a duration; None for a good one."""
        try:
            us = parse_duration(given)
        except TimeError as error:
            return str(error), "write a number and a unit, such as '7 d'"
        if us == 0 and not self.zero:
            return f"{given!r} is no time at all", "give more than zero, or leave it out"
        return None


_MOST = 1e15
"""Larger numbers are of no use to a declaration, and some would not fit a float."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """A number from `low` to `high`, both allowed unless `above`, which leaves out `low`."""

    low: float
    high: float = _MOST
    above: bool = False
    whole: bool = False

    @property
    def wanted(self) -> str:
        """The kind of number and its bounds."""
        kind = "a whole number" if self.whole else "a number"
        start = f"above {self.low:g}" if self.above else f"from {self.low:g}"
        return f"{kind} {start}" + ("" if self.high >= _MOST else f" to {self.high:g}")

    def fault(self, given: object) -> Fault | None:
        """What is wrong with a number; None for a good one."""
        kind_of: tuple[type, ...] = (Integral,) if self.whole else (Real,)
        if isinstance(given, kind_of) and not isinstance(given, bool):
            number: Any = given
            over = number > self.low if self.above else number >= self.low
            if over and number <= self.high:
                return None
        return f"{short(given)} is not {self.wanted}", f"give {self.wanted}"


@dataclass(frozen=True, slots=True)
class Spelling:
    """A text that matches `pattern` as a whole; `example` is one."""

    pattern: str
    example: str

    @property
    def wanted(self) -> str:
        """A name."""
        return "a name"

    def fault(self, given: object) -> Fault | None:
        """What is wrong with a name; None for a good one."""
        if isinstance(given, str) and re.fullmatch(self.pattern, given, re.ASCII):
            return None
        return (
            f"{short(given)} is not a name",
            f"use letters, digits and _, such as {self.example!r}",
        )


Duration: TypeAlias = Annotated[str, Span()]
Delay: TypeAlias = Annotated[str, Span(zero=True)]
Share: TypeAlias = Annotated[float, Bounds(0, 1)]
Positive: TypeAlias = Annotated[float, Bounds(0, above=True)]
Count: TypeAlias = Annotated[int, Bounds(1, 1 << 53, whole=True)]
Width: TypeAlias = Annotated[int, Bounds(1, 4096, whole=True)]
Name: TypeAlias = Annotated[str, Spelling(r"[A-Za-z_]\w*", "sold_items")]
Title: TypeAlias = Annotated[str, Spelling(r"[A-Za-z0-9][\w-]*", "corner-shop")]
