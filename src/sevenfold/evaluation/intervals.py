"""How sure a mean over requests is: the bootstrap, by request or by cluster.

Requests of one customer resemble each other; resampling requests then gives intervals that are too
narrow. Give `clusters` and whole customers are resampled.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from sevenfold.errors import InputError
from sevenfold.types import Floats, Ints

__all__ = ["Interval", "Resampling", "mean_interval", "paired_difference"]

_CHUNK = 1 << 21  # numbers drawn at a time: 16 MiB


class Interval(msgspec.Struct, frozen=True):
    """An estimate with the range that holds the truth in `level` of all samples.

    `n` requests in `n_clusters` clusters were used; requests without a value were left out.
    """

    estimate: float
    low: float
    high: float
    n: int
    method: str
    level: float = 0.95
    n_clusters: int = 0

    @property
    def excludes_zero(self) -> bool:
        """Whether both ends have the same sign."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        """The estimate with its range, for a person."""
        return f"{self.estimate:.4g} [{self.low:.4g}, {self.high:.4g}] (n={self.n})"


class Resampling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How intervals are made.

    `method` is `bca` (bias-corrected and accelerated: Efron and Tibshirani 1993, section 14.3), better
    where the mean is skewed, or `percentile` (section 13.3).
    """

    n_samples: int = 2000
    level: float = 0.95
    method: str = "bca"

    def __post_init__(self) -> None:
        """Refuse settings that give no interval."""
        if self.method not in {"bca", "percentile"}:
            raise InputError(f"method is {self.method!r}: give 'bca' or 'percentile'")
        if not 0 < self.level < 1 or self.n_samples < 100:
            raise InputError(
                f"level is {self.level} and n_samples {self.n_samples}: "
                "give a level between 0 and 1 and at least 100 samples"
            )


def mean_interval(
    values: Floats,
    rng: np.random.Generator,
    *,
    clusters: Sequence[Any] | npt.NDArray[Any] | None = None,
    how: Resampling = Resampling(),  # noqa: B008  a frozen value
) -> Interval:
    """The mean of `values` float64 (q,) over requests, NaN left out, with its bootstrap interval.

    `clusters` (q,) names the cluster of each request; without it each request is its own. Raises
    InputError with fewer than two clusters: one alone says nothing about others.

    >>> values = np.tile([0.0, 1.0], 200)
    >>> print(mean_interval(values, np.random.default_rng(7)))
    0.5 [0.4525, 0.5525] (n=400)
    """
    if values.ndim != 1:
        raise InputError(f"values are {values.shape}: give one value for each request, (q,)")
    known = ~np.isnan(values)
    sums, counts = _clustered(values, known, clusters)
    if len(sums) < 2:
        raise InputError(
            f"an interval needs two clusters of requests with a value; given {len(sums)}"
        )
    estimate = float(sums.sum() / counts.sum())
    low, high = _ends(sums, counts, estimate, how, rng)
    return Interval(estimate, low, high, int(known.sum()), how.method, how.level, len(sums))


def paired_difference(
    values: Floats,
    reference: Floats,
    rng: np.random.Generator,
    *,
    clusters: Sequence[Any] | npt.NDArray[Any] | None = None,
    how: Resampling = Resampling(),  # noqa: B008  a frozen value
) -> Interval:
    """The mean of values - reference on the same requests, with its bootstrap interval.

    Both are float64 (q,) and have their NaN in the same places: a pair of models judged on the same
    requests. The difference is taken request by request, so what is hard for both cancels out.
    """
    if values.shape != reference.shape or (np.isnan(values) != np.isnan(reference)).any():
        raise InputError(
            f"a paired difference needs the same requests on both sides; given {values.shape} and "
            f"{reference.shape}, with values for {int((~np.isnan(values)).sum())} and "
            f"{int((~np.isnan(reference)).sum())} of them"
        )
    return mean_interval(values - reference, rng, clusters=clusters, how=how)


def _clustered(
    values: Floats, known: npt.NDArray[np.bool_], clusters: Sequence[Any] | npt.NDArray[Any] | None
) -> tuple[Floats, Ints]:
    """The sum and the number of the known values of each cluster that has any."""
    kept = values[known]
    if clusters is None:
        return kept, np.ones(len(kept), dtype=np.int64)
    if len(clusters) != len(values):
        raise InputError(f"{len(clusters)} clusters for {len(values)} requests: give one for each")
    _, code = np.unique(np.asarray(clusters)[known], return_inverse=True)
    counts = np.bincount(code)
    sums = np.bincount(code, weights=kept).astype(np.float64)
    return sums, counts.astype(np.int64)


def _ends(
    sums: Floats, counts: Ints, estimate: float, how: Resampling, rng: np.random.Generator
) -> tuple[float, float]:
    means = np.sort(_resampled_means(sums, counts, how.n_samples, rng))
    if means[0] == means[-1]:
        return float(means[0]), float(means[-1])
    tail = (1 - how.level) / 2
    shares = [tail, 1 - tail]
    if how.method == "bca":
        shares = _corrected(shares, means, sums, counts, estimate)
    low, high = np.quantile(means, shares)
    return float(low), float(high)


def _resampled_means(sums: Floats, counts: Ints, n: int, rng: np.random.Generator) -> Floats:
    size = len(sums)
    rows = max(1, _CHUNK // size)
    means = np.empty(n)
    for start in range(0, n, rows):
        drawn = rng.integers(0, size, size=(min(rows, n - start), size))
        means[start : start + rows] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return means


def _corrected(
    shares: list[float], means: Floats, sums: Floats, counts: Ints, estimate: float
) -> list[float]:
    """The shares moved for bias and for the change of spread with the mean (equation 14.10)."""
    normal = NormalDist()
    below = (means < estimate).mean() + (means == estimate).mean() / 2
    n = len(means)
    bias = normal.inv_cdf(float(np.clip(below, 0.5 / n, 1 - 0.5 / n)))
    without = _leave_one_out(sums, counts)
    away = without.mean() - without
    spread = (away**2).sum()
    speed = float((away**3).sum() / (6 * spread**1.5)) if spread > 0 else 0.0
    moved = []
    for share in shares:
        z = bias + normal.inv_cdf(share)
        room = 1 - speed * z
        # Past this the correction has no meaning; it happens only with a handful of clusters.
        moved.append(normal.cdf(bias + z / room) if room > 0 else float(z > 0))
    return moved


def _leave_one_out(sums: Floats, counts: Ints) -> Floats:
    """The mean without each cluster in turn."""
    without: Floats = (sums.sum() - sums) / (counts.sum() - counts)
    return without
