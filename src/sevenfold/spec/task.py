"""Step 2, frame as a machine-learning task: what is asked, what is answered, what tells whether it was right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sevenfold.spec.entity import Entity
from sevenfold.spec.quantity import Count, Duration, Name
from sevenfold.spec.stream import Stream

__all__ = ["Label", "Ranking"]


@dataclass(frozen=True, slots=True, eq=False)
class Label:
    """Whether what was shown came true: an `outcome` event that names the request and the item.

    `request` is the outcome's field that holds the id of the request. An outcome counts when it happens
    after the request and at most `within` later.
    """

    name: Name
    outcome: Stream
    request: str
    within: Duration


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """Rank items for a request.

    `item` is what is ranked, `query` the entities that a request names, `k` how many items are answered and
    `baseline` says in words which rule a model has to beat.
    """

    item: Entity
    query: Sequence[Entity]
    label: Label
    k: Count
    baseline: str
