"""Whether a model is good for everyone: a metric on each part of the requests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from sevenfold.errors import InputError
from sevenfold.evaluation.intervals import Interval, Resampling, mean_interval
from sevenfold.types import Floats

__all__ = ["Labels", "Slice", "by_slice", "slices_of"]

Labels = Mapping[str, Sequence[str] | npt.NDArray[Any]]


class Slice(msgspec.Struct, frozen=True):
    """The requests with one value of one dimension, and the mean of a metric on them.

    `n` counts the requests with a value. Where they are fewer than the minimum there is no interval:
    the slice is listed, but nothing is said about it.
    """

    dimension: str
    value: str
    n: int
    interval: Interval | None

    @property
    def name(self) -> str:
        """The slice as `dimension=value`."""
        return f"{self.dimension}={self.value}"


def slices_of(labels: Labels, n_requests: int) -> list[tuple[str, str, npt.NDArray[np.bool_]]]:
    """Every (dimension, value, mask (q,)), ordered by both; InputError for labels of another length.

    >>> [(d, v, m.tolist()) for d, v, m in slices_of({"land": ["uk", "fr", "uk"]}, 3)]
    [('land', 'fr', [False, True, False]), ('land', 'uk', [True, False, True])]
    """
    found = []
    for dimension in sorted(labels):
        column = np.asarray(labels[dimension], dtype=str)
        if column.shape != (n_requests,):
            raise InputError(
                f"the labels of {dimension!r} are {column.shape} for {n_requests} requests: one for each"
            )
        found += [(dimension, str(value), column == value) for value in np.unique(column)]
    return found


def by_slice(
    values: Floats,
    labels: Labels,
    rng: np.random.Generator,
    *,
    minimum: int = 30,
    clusters: Sequence[Any] | npt.NDArray[Any] | None = None,
    how: Resampling = Resampling(),  # noqa: B008  a frozen value
) -> list[Slice]:
    """The mean of `values` float64 (q,) on every slice, with its interval from `minimum` clusters up.

    Slices come ordered by dimension and value, none left out. The minimum counts clusters, where they
    are given, because a hundred requests of one customer are one observation of that slice.
    """
    groups = np.arange(len(values)) if clusters is None else np.asarray(clusters)
    known = ~np.isnan(values)
    found = []
    for dimension, value, mask in slices_of(labels, len(values)):
        chosen = mask & known
        interval = None
        if len(np.unique(groups[chosen])) >= max(2, minimum):
            interval = mean_interval(values[chosen], rng, clusters=groups[chosen], how=how)
        found.append(Slice(dimension, value, int(chosen.sum()), interval))
    return found
