"""From the order of the scores to the slate: freshness, spread, caps and fixed places, one after another.

Every step is exact and settles ties by the order before it, so a replay gives the same slate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sevenfold.serving.filtering import kept
from sevenfold.spec.stage import Cap, Fresh, Pin, Rerank, Spread
from sevenfold.spec.units import parse_duration
from sevenfold.types import Floats, Ints

__all__ = ["Reranking", "capped", "freshened", "pinned", "share_of_range", "spread"]

Vectors = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Reranking:
    """The declared steps, over vectors with the features `names`, for slates of `usual` items.

    A shorter slate is the beginning of the usual one: the item of a place is the same however many are asked for, and
    whether they were made ahead. Longer ones are made for their own length.
    """

    steps: Sequence[Rerank]
    names: Sequence[str]
    usual: int = 1

    def order(self, scores: Floats, vectors: Vectors, k: int) -> Ints:
        """The rows of a slate of `k`, and those after it, from scores (n,) and vectors (n, f); int64 (n,)."""
        k = max(k, self.usual)
        order = np.argsort(-scores, kind="stable")
        worth = share_of_range(scores)
        for step in self.steps:
            if isinstance(step, Fresh):
                half_life_s = parse_duration(step.half_life) / 1e6
                ages = vectors[:, self._place(step.age)].astype(np.float64)
                worth = freshened(worth, ages, half_life_s, step.weight)
                order = order[np.argsort(-worth[order], kind="stable")]
            elif isinstance(step, Spread):
                of = vectors[:, [self._place(name) for name in step.by]]
                order = spread(order, worth, of, step.relevance, k)
            elif isinstance(step, Cap):
                values = vectors[:, self._place(step.by)]
                order = capped(order, values, step.most, step.within or k)
            else:
                fits = kept(step.keep, vectors[:, self._place(step.keep.feature)])
                order = pinned(order, fits, step.position, self._pins_before(step))
        return order

    def _pins_before(self, step: Pin) -> tuple[int, ...]:
        """The places that pins before this one have filled."""
        before = []
        for other in self.steps:
            if other is step:
                break
            if isinstance(other, Pin):
                before.append(other.position)
        return tuple(before)

    def _place(self, name: str) -> int:
        return self.names.index(name)


def share_of_range(scores: Floats) -> Floats:
    """Each score as a share of the way from the lowest to the highest; 0 where all are equal.

    >>> share_of_range(np.array([2.0, 4.0, 3.0]))
    array([0. , 1. , 0.5])
    """
    if not len(scores):
        return scores
    low, high = float(scores.min()), float(scores.max())
    if high == low:
        return np.zeros(len(scores))
    # Halves first: the distance of two finite numbers may be more than the largest one.
    return (scores / 2 - low / 2) / (high / 2 - low / 2)


def freshened(worth: Floats, ages_s: Floats, half_life_s: float, weight: float) -> Floats:
    """`worth` with `weight * 2 ** (-age / half life)` added; an age below 0 counts as 0, a null as never.

    >>> freshened(np.array([0.0, 0.0, 0.5]), np.array([0.0, 10.0, np.nan]), 10, 1.0)
    array([1. , 0.5, 0.5])
    """
    gained = weight * np.exp2(-np.maximum(ages_s, 0.0) / half_life_s)
    return worth + np.where(np.isnan(ages_s), 0.0, gained)


def spread(order: Ints, worth: Floats, vectors: Vectors, relevance: float, k: int) -> Ints:
    """The first `k` by maximal marginal relevance, then the others as they were.

    Of two with one value the one earlier in `order` comes first. A vector of zeros is like nothing.

    >>> like = np.array([[1, 0], [1, 0], [0, 1]], np.float32)
    >>> spread(np.arange(3), np.array([1.0, 0.9, 0.5]), like, 0.5, 2)
    array([0, 2, 1])
    """
    n = len(order)
    rows = np.nan_to_num(vectors[order].astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    lengths = np.sqrt((rows * rows).sum(axis=1))
    rows = rows / np.where(lengths > 0, lengths, 1.0)[:, None]
    relevant = relevance * worth[order]
    nearest = np.full(n, -np.inf)
    free = np.ones(n, dtype=np.bool_)
    chosen: list[int] = []
    for _ in range(min(k, n)):
        likeness = nearest if chosen else np.zeros(n)
        value = np.where(free, relevant - (1 - relevance) * likeness, -np.inf)
        best = int(np.argmax(value))
        chosen.append(best)
        free[best] = False
        nearest = np.maximum(nearest, (rows * rows[best]).sum(axis=1))
    return np.concatenate([order[chosen], order[free]])


def capped(order: Ints, values: npt.NDArray[np.float32], most: int, within: int) -> Ints:
    """At most `most` rows of one value among the first `within`; those over come after, in their order.

    Where fewer rows than `within` are under the cap, the best of those over it fill the places that are left. Null
    is no value.

    >>> capped(np.arange(5), np.array([7, 7, 7, 8, np.nan], np.float32), 1, 3)
    array([0, 3, 4, 1, 2])
    """
    counts: dict[float, int] = {}
    first: list[int] = []
    over: list[int] = []
    rows = order.tolist()
    at = 0
    while at < len(rows) and len(first) < within:
        value = float(values[rows[at]])
        if value == value and counts.get(value, 0) >= most:
            over.append(rows[at])
        else:
            counts[value] = counts.get(value, 0) + 1
            first.append(rows[at])
        at += 1
    return np.array([*first, *over, *rows[at:]], dtype=np.int64)


def pinned(order: Ints, fits: Mask, position: int, filled: Sequence[int] = ()) -> Ints:
    """The best row that `fits` and is not above `position` (from 1) moved to it; those between go down by one.

    The places `filled` before stay as they are. With no such row, or no such place, nothing changes.

    >>> pinned(np.arange(4), np.array([True, False, False, True]), 2)
    array([0, 3, 1, 2])
    """
    at = position - 1
    fixed = {place - 1 for place in filled}
    free = [place for place in range(len(order)) if place >= at and place not in fixed]
    found = [place for place in free if fits[order[place]]]
    if at >= len(order) or not found:
        return order
    moved = order.copy()
    between = [place for place in free if place <= found[0]]
    moved[between[0]] = order[found[0]]
    moved[between[1:]] = order[between[:-1]]
    return moved
