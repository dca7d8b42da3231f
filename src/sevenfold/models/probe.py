"""Rows kept with a model and their scores when it was trained: whatever scores it later has to give the same bits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sevenfold.errors import SevenfoldError
from sevenfold.models.dataset import Matrix
from sevenfold.types import Floats, Ints

__all__ = ["MOST_ROWS", "Probe", "probe_rows"]

MOST_ROWS = 1024  # of a probe that is read
_TRAINING_ROWS = 126
_THRESHOLD_ROWS = 256


@dataclass(frozen=True, slots=True, eq=False)
class Probe:
    """`rows` float32 (n, f), null as NaN, and their `scores` float64 (n,) by the training library."""

    rows: Matrix
    scores: Floats

    def difference(self, scores: Callable[[Matrix], Floats]) -> str | None:
        """Where `scores` gives other bits, in words; None when it gives the same for every row."""
        try:
            found = scores(self.rows)
        except SevenfoldError as error:
            return str(error)
        if found.shape != self.scores.shape or found.dtype != np.float64:
            return f"scores of {len(self.rows)} rows are {found.dtype} {found.shape}"
        others = np.flatnonzero(found.view(np.int64) != self.scores.view(np.int64))
        if not len(others):
            return None
        first = int(others[0])
        return (
            f"{len(others)} of {len(self.rows)} rows score otherwise, row {first} "
            f"{float(found[first])!r} and not {float(self.scores[first])!r}"
        )


def probe_rows(x: Matrix, feature: Ints, threshold: Floats) -> Matrix:
    """A bounded number of rows at which ways to score are likely to part, float32 (m, f).

    A row of nulls, one of zeros, training rows `x` evenly spaced, and such rows with values on and beside the
    thresholds of splits: every feature in half of them, every other one in the rest. `feature` (k,) and
    `threshold` float64 (k,) are the splits.
    """
    width = x.shape[1]
    nulls = np.full((1, width), np.nan, np.float32)
    training = x[_spread(len(x), _TRAINING_ROWS)]
    rows = x[np.resize(_spread(len(x), _THRESHOLD_ROWS), _THRESHOLD_ROWS)]
    with np.errstate(over="ignore", under="ignore"):
        nearest = threshold.astype(np.float32)
    for i in range(width):
        near = np.unique(nearest[feature == i])
        sides = [np.nextafter(near, np.float32(side)) for side in (-np.inf, np.inf)]
        values = np.unique(np.concatenate([near, *sides]))
        values = values[np.isfinite(values)]
        if not len(values):
            continue
        chosen = values[_spread(len(values), _THRESHOLD_ROWS)]
        # Another place to begin for each feature, or the smallest of all would meet in one row.
        put = np.roll(np.resize(chosen, _THRESHOLD_ROWS), 7 * i)
        at = np.arange(_THRESHOLD_ROWS)
        at = at[(at % 2 == 0) | (at // 2 % 2 == i % 2)]
        rows[at, i] = put[at]
    return np.concatenate([nulls, np.zeros_like(nulls), training, rows])


def _spread(n: int, most: int) -> Ints:
    """At most `most` of the first n numbers, evenly spaced."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.int64))
