"""How far a feature has moved: the population stability index, and how much of it is chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Stability", "population_stability"]

_FLOOR = 1e-4  # an empty bin counts as a ten-thousandth, so that the logarithm stays finite


@dataclass(frozen=True, slots=True)
class Stability:
    """The index of two samples, and its expectation when nothing has moved.

    By chance alone the index is about (bins - 1) * (1 / n + 1 / m) for samples of n and m.
    """

    value: float
    noise: float
    bins: int


def population_stability(
    reference: npt.NDArray[Any], current: npt.NDArray[Any], bins: int = 10
) -> Stability:
    """The population stability index of `current` (m,) against `reference` (n,), NaN a bin of its own.

    Bins are quantiles of the reference; the index is the sum over bins of (q - p) * ln(q / p) for shares
    p of the reference and q of the current sample (Siddiqi, Credit Risk Scorecards, 2006).

    >>> x = np.arange(1000.0)
    >>> population_stability(x, x).value
    0.0
    >>> population_stability(x, x + 500).value > 1
    True
    """
    known = reference[~np.isnan(reference)]
    edges = (
        np.unique(np.quantile(known, np.linspace(0, 1, bins + 1)[1:-1])) if len(known) else known
    )
    p, q = _shares(reference, edges), _shares(current, edges)
    used = (p > 0) | (q > 0)
    p, q = np.maximum(p[used], _FLOOR), np.maximum(q[used], _FLOOR)
    value = float(((q - p) * np.log(q / p)).sum())
    noise = (int(used.sum()) - 1) * (1 / max(len(reference), 1) + 1 / max(len(current), 1))
    return Stability(value, noise, int(used.sum()))


def _shares(sample: npt.NDArray[Any], edges: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """The share of the sample in each bin, nulls in the last."""
    null = np.isnan(sample)
    place = np.where(null, len(edges) + 1, np.searchsorted(edges, sample, side="left"))
    counts = np.bincount(place, minlength=len(edges) + 2)
    return counts / max(len(sample), 1)
