"""How a blueprint is run: which world, from when it is live, from when it is judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sevenfold.loop.world import World
from sevenfold.spec.model import Rule
from sevenfold.spec.system import System
from sevenfold.types import Instant

__all__ = ["Scenario"]


@dataclass(frozen=True, slots=True, eq=False)
class Scenario:
    """A run of `system` through `world`.

    Rows that arrive before `live_us` are history, taken in at once. From then on every request is
    answered live, in steps of `step_us`, until `end_us`; those from `judge_us` on are the final test. Only a
    share of the customers asks, drawn by their names. `known` is the feature whose value tells how many
    earlier baskets the customer has, `repeat` the one that tells how often they took the item; `rules` are
    further baselines to report.
    """

    system: System
    reference: str
    world: Callable[[], World]
    live_us: Instant
    judge_us: Instant
    end_us: Instant
    step_us: int
    known: str
    repeat: str
    customer: str
    share: float = 1.0
    negatives: int = 60
    rules: Mapping[str, Rule] = field(default_factory=dict)
    slices: Mapping[str, Sequence[float]] = field(default_factory=dict)
    seed: int = 7
