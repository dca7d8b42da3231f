"""Where candidates come from.

A generator with a `timeout` is asked in a thread of its own and left behind when it is not back by then; one without is
asked where the answer is made, which is quicker, and cannot be left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypeAlias

from sevenfold.spec.entity import Entity
from sevenfold.spec.quantity import Bounds, Count, Duration, Name, Share
from sevenfold.spec.stream import Stream

__all__ = ["BoughtBefore", "BoughtTogether", "Popular", "Retriever"]


@dataclass(frozen=True, slots=True, eq=False)
class BoughtBefore:
    """The customer's own items, by a count that halves every `half_life`."""

    stream: Stream
    customer: Entity
    item: Entity
    half_life: Duration
    n: Count
    name: Name = "bought_before"
    timeout: Duration | None = None


@dataclass(frozen=True, slots=True, eq=False)
class BoughtTogether:
    """Items that shared baskets (field `basket`) with the customer's latest, rebuilt every `refresh`."""

    stream: Stream
    customer: Entity
    item: Entity
    basket: str
    half_life: Duration
    n: Count
    refresh: Duration = "7 d"
    recent: Count = 100
    recent_half_life: Duration = "60 d"
    alpha: Share = 0.5
    shrink: Annotated[float, Bounds(0)] = 1.0
    neighbours: Count = 200
    name: Name = "bought_together"
    timeout: Duration | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Popular:
    """The items taken most of late, over all or among events with the request's key of `by`."""

    stream: Stream
    item: Entity
    half_life: Duration
    n: Count
    by: Entity | None = None
    name: Name = "popular"
    timeout: Duration | None = None


Retriever: TypeAlias = BoughtBefore | BoughtTogether | Popular
