"""Quantities with units: a bare number for one is an error."""

from __future__ import annotations

import re
from typing import Any

from sevenfold.errors import TimeError

__all__ = ["US_PER_UNIT", "default_hop_us", "duration_text", "parse_duration"]

US_PER_UNIT = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "min": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s|min|h|d)")
_HOPS_US = tuple(
    parts * US_PER_UNIT[unit]
    for parts, unit in ((1, "d"), (1, "h"), (5, "min"), (1, "min"), (10, "s"), (1, "s"))
)


def parse_duration(text: Any) -> int:
    """The duration in microseconds.

    Raises TimeError for a bare number, an unknown unit, or a part of a microsecond.

    >>> parse_duration("90 min")
    5400000000
    >>> parse_duration("1.5h")
    5400000000
    """
    match = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise TimeError(
            f"{text!r} is not a duration: give a number with one of {', '.join(US_PER_UNIT)}, "
            "such as '30 min' or '7 d'"
        )
    whole, _, part = match[1].partition(".")
    scale: int = 10 ** len(part)
    scaled, rest = divmod(int(whole + part) * US_PER_UNIT[match[2]], scale)
    if rest:
        raise TimeError(f"{text!r} is not a whole number of microseconds")
    if scaled >= 1 << 62:
        raise TimeError(f"{text!r} is longer than the calendar of 64-bit microseconds")
    return scaled


def duration_text(us: int) -> str:
    """The duration in its largest whole unit, as used in names.

    >>> duration_text(5_400_000_000)
    '90min'
    """
    for unit in ("d", "h", "min", "s", "ms"):
        if us and us % US_PER_UNIT[unit] == 0:
            return f"{us // US_PER_UNIT[unit]}{unit}"
    return f"{us}us"


def default_hop_us(window_us: int) -> int:
    """The hop of a window that declares none: the largest of 1 s ... 1 d that is at most a 24th of it.

    >>> duration_text(default_hop_us(parse_duration("7 d")))
    '1h'
    """
    for hop in _HOPS_US:
        if hop * 24 <= window_us:
            return hop
    return US_PER_UNIT["s"]
