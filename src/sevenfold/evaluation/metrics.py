"""How good ranked lists and scores are, request by request.

A request has a ranked list (best first) and a truth: all relevant items, also those that were never
retrieved. A request with an empty truth has no value (NaN) in any metric and is counted apart; a
request with an empty list has the value 0. A list that names an item twice is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from sevenfold.errors import InputError
from sevenfold.types import Floats, Ints

__all__ = [
    "METRICS",
    "Judged",
    "MetricTable",
    "Metrics",
    "auc",
    "coverage_at",
    "hit_rate_at",
    "judge",
    "log_loss",
    "map_at",
    "measure",
    "mrr_at",
    "ndcg_at",
    "precision_at",
    "recall_at",
]

Items: TypeAlias = list[Hashable] | Ints
Lists: TypeAlias = Sequence[Iterable[Hashable]] | npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Where the relevant items stand in the ranked lists.

    `hits` bool (q, width): is the item at position j + 1 relevant; `n_ranked` int64 (q,): the length of
    each list; `n_true` int64 (q,): the number of relevant items.
    """

    hits: npt.NDArray[np.bool_]
    n_ranked: Ints
    n_true: Ints

    def __len__(self) -> int:
        """The number of requests, those with an empty truth included."""
        return len(self.n_true)

    @property
    def n_without_truth(self) -> int:
        """The number of requests with an empty truth, which no metric counts."""
        return int((self.n_true == 0).sum())


def judge(ranked: Lists, truth: Lists) -> Judged:
    """The hits of ranked lists against the relevant items.

    Both are one list a request, of any hashable items, or an integer array (q, width) padded with -1 on
    the right. Raises InputError for another number of requests, an item twice in a ranked list, or
    padding between items. An item twice in a truth counts once.

    >>> judged = judge([["a", "b", "c"], ["a"]], [{"c", "x"}, {"b"}])
    >>> judged.hits.tolist(), judged.n_true.tolist()
    ([[False, False, True], [False, False, False]], [2, 1])
    """
    if len(ranked) != len(truth):
        raise InputError(
            f"{len(ranked)} ranked lists for {len(truth)} truths: give one for each request"
        )
    (ranked_items, n_ranked), (true_items, n_true) = _flat(ranked, "ranked"), _flat(truth, "truth")
    ranked_items, true_items = _coded(ranked_items, true_items)
    at = np.repeat(np.arange(len(n_ranked)), n_ranked)
    base = 1 + max(ranked_items.max(initial=0), true_items.max(initial=0))
    pairs = at * base + ranked_items
    true_pairs = np.unique(np.repeat(np.arange(len(n_true)), n_true) * base + true_items)
    order = np.sort(pairs)
    twice = order[1:][order[1:] == order[:-1]]
    if len(twice):
        raise InputError(
            f"the ranked list of request {twice[0] // base} names an item twice: a list ranks each once"
        )
    hits = np.zeros((len(n_ranked), n_ranked.max(initial=0)), dtype=np.bool_)
    hits[at, _within(n_ranked)] = np.isin(pairs, true_pairs, assume_unique=True)
    n_distinct = np.bincount(true_pairs // base, minlength=len(n_true)).astype(np.int64)
    return Judged(hits, n_ranked, n_distinct)


def recall_at(judged: Judged, k: int) -> Floats:
    """The share of all relevant items that stand in the first k, float64 (q,).

    >>> recall_at(judge([["a", "b", "c"]], [{"a", "c", "x", "y"}]), 3).tolist()
    [0.5]
    """
    return _known(judged, _hits(judged, k).sum(axis=1) / _true(judged))


def precision_at(judged: Judged, k: int) -> Floats:
    """The share of the first k positions that are relevant, float64 (q,); a short list is not excused.

    >>> precision_at(judge([["a", "b"]], [{"a"}]), 4).tolist()
    [0.25]
    """
    return _known(judged, _hits(judged, k).sum(axis=1) / k)


def hit_rate_at(judged: Judged, k: int) -> Floats:
    """1 where any of the first k is relevant, else 0, float64 (q,)."""
    return _known(judged, _hits(judged, k).any(axis=1).astype(np.float64))


def mrr_at(judged: Judged, k: int) -> Floats:
    """One over the position of the first relevant item, 0 where none is in the first k, float64 (q,).

    >>> mrr_at(judge([["a", "b", "c"]], [{"c"}]), 3).round(4).tolist()
    [0.3333]
    """
    reciprocal: Floats = _hits(judged, k) / _positions(judged, k)
    return _known(judged, reciprocal.max(axis=1, initial=0.0))


def map_at(judged: Judged, k: int) -> Floats:
    """The average precision in the first k, float64 (q,); its mean over requests is MAP@k.

    The precision at the position of each relevant item, summed, divided by min(relevant items, k), the
    number of them that a perfect list would show (Manning, Raghavan and Schütze 2008, section 8.4, cut
    at k).

    >>> map_at(judge([["a", "b", "c"]], [{"a", "c"}]), 3).round(4).tolist()
    [0.8333]
    """
    hits = _hits(judged, k)
    precision = np.cumsum(hits, axis=1) / _positions(judged, k)
    return _known(judged, (precision * hits).sum(axis=1) / np.minimum(_true(judged), k))


def ndcg_at(judged: Judged, k: int) -> Floats:
    """The discounted gain of the first k over that of a perfect list, float64 (q,).

    Gain 1 for a relevant item, discount 1 / log2(position + 1); a perfect list starts with min(relevant
    items, k) of them, retrieved or not (Järvelin and Kekäläinen 2002, with this discount).

    >>> ndcg_at(judge([["a", "b", "c"]], [{"b", "x"}]), 3).round(4).tolist()
    [0.3869]
    """
    gained = (_hits(judged, k) / np.log2(_positions(judged, k) + 1)).sum(axis=1)
    perfect = np.cumsum(1 / np.log2(np.arange(k) + 2.0))
    return _known(judged, gained / perfect[np.minimum(_true(judged), k) - 1])


METRICS: Mapping[str, Callable[[Judged, int], Floats]] = MappingProxyType(
    {
        "hit_rate": hit_rate_at,
        "map": map_at,
        "mrr": mrr_at,
        "ndcg": ndcg_at,
        "precision": precision_at,
        "recall": recall_at,
    }
)


MetricTable: TypeAlias = Mapping[str, Floats]


@dataclass(frozen=True, slots=True, eq=False)
class Metrics:
    """Several metrics of the same requests: `values` maps `name@k` to float64 (q,), NaN without truth."""

    values: MetricTable
    n_requests: int
    n_without_truth: int

    def means(self) -> dict[str, float]:
        """The mean of each metric over the requests with a truth; InputError when there are none."""
        if self.n_requests == self.n_without_truth:
            raise InputError("no request has a relevant item: there is nothing to measure")
        return {name: float(np.nanmean(values)) for name, values in self.values.items()}


def measure(judged: Judged, names: Iterable[str]) -> Metrics:
    """The metrics named as `name@k`, such as `ndcg@10`; InputError for a name that is not in METRICS.

    >>> judged = judge([["a", "b"], ["a"]], [{"b"}, set()])
    >>> measure(judged, ["recall@1", "recall@2"]).means()
    {'recall@1': 0.0, 'recall@2': 1.0}
    """
    values = {}
    for full in names:
        name, _, k = full.partition("@")
        if name not in METRICS or not k.isdecimal() or int(k) < 1:
            raise InputError(
                f"{full!r} is not a metric: give one of {[*METRICS]} as 'name@k', k from 1"
            )
        values[full] = METRICS[name](judged, int(k))
    return Metrics(values, len(judged), judged.n_without_truth)


def coverage_at(ranked: Lists, k: int, n_items: int) -> float:
    """The share of a catalogue of `n_items` that stands in the first k of any list.

    >>> coverage_at([["a", "b"], ["a", "c"]], k=1, n_items=4)
    0.25
    """
    if k < 1 or n_items < 1:
        raise InputError(f"k is {k} and n_items {n_items}: both must be at least 1")
    items, sizes = _flat(ranked, "ranked")
    codes, _ = _coded(items, [])
    shown = len(np.unique(codes[_within(sizes) < k]))
    if shown > n_items:
        raise InputError(
            f"{shown} items are shown of a catalogue of {n_items}: give the whole catalogue"
        )
    return shown / n_items


def auc(y: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """The probability that a positive scores above a negative, a tie counting one half.

    `y` (n,) is 0 or 1 and has both; `scores` (n,) has no NaN. The Mann-Whitney statistic over average
    ranks (Hanley and McNeil 1982).

    >>> auc([0, 1, 0, 1], [0.1, 0.4, 0.4, 0.8])
    0.875
    """
    labels, found = _pair(y, scores, "scores")
    positive = labels == 1
    n_positive = int(positive.sum())
    n_negative = len(labels) - n_positive
    if not n_positive or not n_negative:
        raise InputError(
            f"AUC needs both classes: {n_positive} positives, {n_negative} negatives given"
        )
    _, place, count = np.unique(found, return_inverse=True, return_counts=True)
    # Twice the average rank of each value, as a whole number, so that the sum is exact.
    ranks = 2 * np.cumsum(count) - count + 1
    above = int(ranks[place[positive]].sum()) - n_positive * (n_positive + 1)
    return above / (2 * n_positive * n_negative)


def log_loss(y: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """The mean of -log(probability given to what happened); probabilities are kept 1e-15 off 0 and 1.

    >>> round(log_loss([1, 0], [0.8, 0.4]), 6)
    0.366985
    """
    labels, given = _pair(y, probabilities, "probabilities")
    if not len(given) or given.min() < 0 or given.max() > 1:
        raise InputError("log loss needs probabilities from 0 to 1, at least one")
    safe = np.clip(given, 1e-15, 1 - 1e-15)
    return float(-np.mean(labels * np.log(safe) + (1 - labels) * np.log1p(-safe)))


def _pair(y: npt.ArrayLike, values: npt.ArrayLike, name: str) -> tuple[Floats, Floats]:
    labels, given = np.asarray(y, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if labels.ndim != 1 or labels.shape != given.shape:
        raise InputError(f"labels are {labels.shape} and {name} {given.shape}: give two of (n,)")
    if not np.isin(labels, (0.0, 1.0)).all() or np.isnan(given).any():
        raise InputError(f"labels must be 0 or 1 and {name} without NaN")
    return labels, given


def _flat(lists: Lists, name: str) -> tuple[Items, Ints]:
    """All items one after the other (total,), and the number of each request, int64 (q,)."""
    if isinstance(lists, np.ndarray):
        if lists.ndim != 2 or not np.issubdtype(lists.dtype, np.integer):
            raise InputError(
                f"{name} is {lists.dtype} {lists.shape}: give integers (q, width) or lists"
            )
        there = lists != -1
        if (lists < -1).any() or (there[:, 1:] & ~there[:, :-1]).any():
            raise InputError(
                f"{name} has negative items or padding before an item: pad with -1 on the right"
            )
        return lists[there].astype(np.int64), there.sum(axis=1).astype(np.int64)
    kept = [list(items) for items in lists]
    sizes = np.fromiter(map(len, kept), dtype=np.int64, count=len(kept))
    return list(chain.from_iterable(kept)), sizes


def _coded(left: Items, right: Items) -> tuple[Ints, Ints]:
    """The items of both sides as small whole numbers, the same item with the same number."""
    n = len(left)
    if isinstance(left, np.ndarray) and isinstance(right, np.ndarray):
        _, codes = np.unique(np.concatenate([left, right]), return_inverse=True)
        return codes[:n].astype(np.int64), codes[n:].astype(np.int64)
    table: dict[Hashable, int] = {}
    both = chain(
        *(side.tolist() if isinstance(side, np.ndarray) else side for side in (left, right))
    )
    codes = np.fromiter((table.setdefault(item, len(table)) for item in both), np.int64)
    return codes[:n], codes[n:]


def _within(sizes: Ints) -> Ints:
    """The place of each element in its own list, from 0."""
    return np.arange(sizes.sum(), dtype=np.int64) - np.repeat(np.cumsum(sizes) - sizes, sizes)


def _hits(judged: Judged, k: int) -> npt.NDArray[np.bool_]:
    if k < 1:
        raise InputError(f"k is {k}: the first k positions need k of at least 1")
    return judged.hits[:, :k]


def _positions(judged: Judged, k: int) -> Ints:
    return np.arange(1, min(k, judged.hits.shape[1]) + 1, dtype=np.int64)


def _true(judged: Judged) -> Ints:
    return np.maximum(judged.n_true, 1)


def _known(judged: Judged, values: npt.ArrayLike) -> Floats:
    return np.where(judged.n_true > 0, values, np.nan)
