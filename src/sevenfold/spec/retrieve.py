"""Where candidates come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from sevenfold.spec.entity import Entity
from sevenfold.spec.stream import Stream

__all__ = ["BoughtBefore", "BoughtTogether", "Popular", "Retriever"]


@dataclass(frozen=True, slots=True, eq=False)
class BoughtBefore:
    """The customer's own items, by a count that halves every `half_life`."""

    stream: Stream
    customer: Entity
    item: Entity
    half_life: str
    n: int
    name: str = "bought_before"


@dataclass(frozen=True, slots=True, eq=False)
class BoughtTogether:
    """Items that shared baskets (field `basket`) with the customer's latest, rebuilt every `refresh`."""

    stream: Stream
    customer: Entity
    item: Entity
    basket: str
    half_life: str
    n: int
    refresh: str = "7 d"
    recent: int = 100
    recent_half_life: str = "60 d"
    alpha: float = 0.5
    shrink: float = 1.0
    neighbours: int = 200
    name: str = "bought_together"


@dataclass(frozen=True, slots=True, eq=False)
class Popular:
    """The items taken most of late, over all or among events with the request's key of `by`."""

    stream: Stream
    item: Entity
    half_life: str
    n: int
    by: Entity | None = None
    name: str = "popular"


Retriever: TypeAlias = BoughtBefore | BoughtTogether | Popular
