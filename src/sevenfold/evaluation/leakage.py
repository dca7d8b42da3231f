"""Scores and features that are too good to be true.

A feature that reads what happened after the request predicts the label almost perfectly. These checks
cannot prove that nothing leaks; they name what certainly looks like it.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import msgspec
import numpy as np
import numpy.typing as npt

from sevenfold.errors import InputError, LeakageError
from sevenfold.evaluation.metrics import auc
from sevenfold.types import Floats

__all__ = ["Suspicion", "check_leakage", "suspicious_features"]

_FAR = 1.5  # deviations between positives and negatives more than the next feature has
_STRONG = 0.8  # an AUC below this is not suspicious, however weak the others are


class Suspicion(msgspec.Struct, frozen=True):
    """A feature that orders the labels too well, its AUC alone, and why that is too well."""

    name: str
    auc: float
    reason: str


def check_leakage(scores: npt.ArrayLike, y: npt.ArrayLike, limit: float = 0.99) -> float:
    """The AUC of scores (n,) against labels (n,); LeakageError above `limit`, or below 1 - `limit`.

    >>> check_leakage([0.2, 0.9, 0.4, 0.7], [0, 1, 1, 0])
    0.75
    """
    found = auc(y, scores)
    if max(found, 1 - found) > limit:
        raise LeakageError(
            f"the AUC of the scores is {found:.4f}; at most {limit} is believable before what is scored "
            "has happened. Look for a feature that is computed from the outcome or from events after "
            "the request: suspicious_features(x, y, names) names candidates."
        )
    return found


def suspicious_features(
    x: npt.NDArray[np.floating], y: npt.ArrayLike, names: Sequence[str], limit: float = 0.99
) -> list[Suspicion]:
    """The features that order the labels too well by themselves, the worst first.

    `x` (n, f), null as NaN; `y` (n,) of 0 and 1. A feature counts in its better direction, and with its
    nulls below or above all values, whichever tells more, so that a feature which is only *known* for
    positives is found too. Named are those with an AUC above `limit`, and those above 0.8 that a gap
    separates from at least half of the features: 1.5 in d' = sqrt(2) * probit(AUC), the distance
    between the classes in deviations (Green and Swets 1966).

    >>> x = np.array([[1.0, 5], [2, 5], [3, 6], [1, 6], [2, 5]])
    >>> [found.name for found in suspicious_features(x, [0, 1, 1, 0, 1], ["a", "b"])]
    ['a']
    """
    if x.ndim != 2 or x.shape[1] != len(names):
        raise InputError(f"x is {x.shape} for {len(names)} names: give (n, {len(names)})")
    if not len(names):
        return []
    strength = np.array([_strength(x[:, i], y) for i in range(len(names))])
    order = np.argsort(-strength, kind="stable")
    n_apart = _apart(strength[order])
    found = []
    for place, i in enumerate(order.tolist()):
        reason = f"alone it has an AUC of {strength[i]:.4f}"
        if strength[i] > limit:
            found.append(Suspicion(names[i], float(strength[i]), f"{reason}, above {limit}"))
        elif place < n_apart:
            others = f"far above the {strength[order[n_apart]]:.4f} of the best other feature"
            found.append(Suspicion(names[i], float(strength[i]), f"{reason}, {others}"))
    return found


def _apart(strength: Floats) -> int:
    """How many of the strongest features (sorted, largest first) a gap separates from the rest."""
    certain = np.clip(strength, 0.5, 1 - 1e-9)
    distance = [2**0.5 * NormalDist().inv_cdf(one) for one in certain.tolist()]
    at = 0
    for i in range(1, len(distance) // 2 + 1):
        if strength[i - 1] > _STRONG and distance[i - 1] - distance[i] > _FAR:
            at = i
    return at


def _strength(column: npt.NDArray[np.floating], y: npt.ArrayLike) -> float:
    values: Floats = column.astype(np.float64)
    null = np.isnan(values)
    fills = (-np.inf, np.inf) if null.any() else (0.0,)
    found = [auc(y, np.where(null, fill, values)) for fill in fills]
    return max(max(one, 1 - one) for one in found)
