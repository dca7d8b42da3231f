"""Step 5, evaluate: the metrics, the slices, the split and what a challenger must show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from sevenfold.spec.quantity import Bounds, Count, Duration, Share

__all__ = ["Evaluation", "GateSpec", "Split"]


@dataclass(frozen=True, slots=True)
class Split:
    """A split by time: train on `train`, leave out `gap`, judge on the newest `valid`."""

    train: Duration
    valid: Duration
    gap: Duration


@dataclass(frozen=True, slots=True)
class GateSpec:
    """What a challenger must show on the newest requests before it may be promoted.

    It must beat the baseline by an interval that excludes zero, must not be shown to lose more than
    `max_loss` of the champion's value, nor `max_slice_loss` of it in any slice.
    """

    min_requests: Count = 100
    max_loss: Share = 0.02
    max_slice_loss: Share = 0.15
    min_slice: Count = 50


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The primary metric decides, the others are reported; `slices` names fields of the request."""

    primary: str
    split: Split
    also: Sequence[str] = ()
    slices: Sequence[str] = ()
    gate: GateSpec = field(default_factory=GateSpec)
    leakage_auc_max: Annotated[float, Bounds(0.5, 1)] = 0.99
