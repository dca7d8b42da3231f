"""Step 1, clarify requirements: what for, how much of it, how fast, and what must not get worse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal, TypeAlias

from sevenfold.spec.quantity import Bounds, Duration, Positive, Share

__all__ = ["Guardrail", "Latency", "Privacy", "Requirements", "Scale"]

Factor: TypeAlias = Annotated[float, Bounds(1)]


@dataclass(frozen=True, slots=True)
class Guardrail:
    """A metric that may lose at most `max_loss`, a fraction of its value."""

    metric: str
    max_loss: Share = 0.0


@dataclass(frozen=True, slots=True)
class Latency:
    """The budget of one answer, measured at the service: durations such as "100 ms"."""

    p99: Duration
    p50: Duration | None = None


@dataclass(frozen=True, slots=True)
class Scale:
    """How much there is: counts, and how far traffic rises over its average."""

    daily_users: Positive
    requests_per_user: Positive
    items: Positive
    peak: Factor = 3.0
    spike: Factor = 10.0


@dataclass(frozen=True, slots=True)
class Privacy:
    """Fields that hold personal data, fields that no feature may read, and how long events are kept."""

    personal: Sequence[str] = ()
    forbidden: Sequence[str] = ()
    retention: Duration | None = None


@dataclass(frozen=True, slots=True)
class Requirements:
    """What the system is for and the bounds it must keep."""

    goal: str
    metric: str
    latency: Latency
    scale: Scale
    guardrails: Sequence[Guardrail] = ()
    privacy: Privacy = field(default_factory=Privacy)
    direction: Literal["up", "down"] = "up"
