"""Step 7, monitor and improve: what is watched and when a model is trained again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, TypeAlias

from sevenfold.spec.quantity import Bounds, Count, Duration, Share

__all__ = ["Audit", "Drift", "Monitoring", "Performance", "Retrain"]

Threshold: TypeAlias = Annotated[float, Bounds(0.001, 10)]


@dataclass(frozen=True, slots=True)
class Drift:
    """Population stability of features: `alert` on PSI, raised by the noise of small samples."""

    warn: Threshold = 0.1
    alert: Threshold = 0.2
    min_rows: Count = 1000


@dataclass(frozen=True, slots=True)
class Performance:
    """The primary metric of `window` against that at promotion; losing `tolerance` of it is decay."""

    window: Duration = "28 d"
    tolerance: Share = 0.1


@dataclass(frozen=True, slots=True)
class Retrain:
    """Train `every` so often, and earlier on drift or decay, but never within `cooldown`."""

    every: Duration = "28 d"
    on_drift: bool = True
    on_performance: bool = True
    cooldown: Duration = "14 d"
    first_after: Duration = "56 d"


@dataclass(frozen=True, slots=True)
class Audit:
    """The `share` of logged vectors that a server computes again from the log; which ones, a stable hash says."""

    share: Share = 0.01


@dataclass(frozen=True, slots=True)
class Monitoring:
    """What is watched, and when a model is trained again."""

    drift: Drift = field(default_factory=Drift)
    performance: Performance = field(default_factory=Performance)
    retrain: Retrain = field(default_factory=Retrain)
    audit: Audit = field(default_factory=Audit)
