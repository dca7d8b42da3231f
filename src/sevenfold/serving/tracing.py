"""Which answers are traced, and what a trace of one holds; who writes it is an adapter."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from sevenfold.clock import elapsed_s
from sevenfold.hashing import digest

__all__ = ["Answered", "Parent", "Traces", "Tracing", "parent_of"]

# Of W3C Trace Context, level 1: version, trace, span, flags; a later version may say more after them.
_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_MOST_PER_S = 20.0


@dataclass(frozen=True, slots=True)
class Parent:
    """The span that a caller made of its request: the ids of trace and span, and whether it is traced."""

    trace: int
    span: int
    is_sampled: bool


@dataclass(frozen=True, slots=True)
class Answered:
    """What a trace says of one answer.

    `arrived_s` is an instant of `clock.elapsed_s`; the stages follow each other from there, each as many microseconds
    as `timing_us` says.
    """

    route: str
    parent: Parent | None
    arrived_s: float
    timing_us: Mapping[str, int]
    told: Mapping[str, str | int | bool]


class Traces(Protocol):
    """Where traces go."""

    def answered(self, answered: Answered) -> None:
        """Write one span of the answer and one of each stage; never raises for want of who reads them."""
        ...

    def close(self) -> None:
        """Write what waits, and end."""
        ...


def parent_of(headers: Mapping[bytes, bytes]) -> Parent | None:
    """The caller's span of `traceparent`; None without one, or with one that is not of that form.

    >>> parent_of({b"traceparent": b"00-0000000000000000000000000000000a-000000000000000b-01"})
    Parent(trace=10, span=11, is_sampled=True)
    """
    given = headers.get(b"traceparent")
    found = None if given is None else _TRACEPARENT.fullmatch(given)
    if found is None or found[1] == b"ff" or (found[1] == b"00" and found[5] is not None):
        return None
    trace, span = int(found[2], 16), int(found[3], 16)
    return Parent(trace, span, bool(int(found[4], 16) & 1)) if trace and span else None


class Tracing:
    """Decides which answers are traced: those that a caller traces, and a `share` of the others.

    Of the others a stable hash of the request's name decides, so a request sent again is traced again. No more than
    `most_per_s` a second are traced: a span costs some 40 us, and a caller could ask for one each time.
    """

    def __init__(self, traces: Traces, share: float, most_per_s: float = _MOST_PER_S) -> None:
        self.traces = traces
        self._share = share
        self._most_per_s = most_per_s
        self._left = most_per_s
        self._since_s = elapsed_s()

    def wants(self, headers: Mapping[bytes, bytes], request_id: str) -> tuple[bool, Parent | None]:
        """Whether an answer is traced, and the caller's span."""
        parent = parent_of(headers)
        if parent is not None:
            wanted = parent.is_sampled
        else:
            wanted = self._share > 0 and _place(request_id) < self._share
        return wanted and self._has_room(elapsed_s()), parent

    def _has_room(self, now_s: float) -> bool:
        gained = (now_s - self._since_s) * self._most_per_s
        self._left = min(self._most_per_s, self._left + gained)
        self._since_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True


def _place(request_id: str) -> float:
    """Where a request stands among all, from 0 to 1."""
    return int(digest(request_id.encode(), 6), 16) / 2.0**48
