"""Metrics against examples worked by hand, an independent implementation, and brute force."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score, roc_auc_score
from sklearn.metrics import log_loss as sklearn_log_loss

from sevenfold.errors import InputError
from sevenfold.evaluation.metrics import (
    METRICS,
    auc,
    coverage_at,
    judge,
    log_loss,
    measure,
)

LISTS = st.lists(st.integers(0, 15), unique=True, max_size=12)
REQUESTS = st.lists(
    st.tuples(LISTS, st.sets(st.integers(0, 20), max_size=6)), min_size=1, max_size=8
)


def one(name: str, ranked, truth, k: int) -> float:
    return float(METRICS[name](judge([ranked], [truth]), k)[0])


@pytest.mark.parametrize(
    ("name", "k", "wanted"),
    [
        # Ranked a b c d e, relevant b d and x, which was not retrieved: hits at positions 2 and 4.
        ("recall", 1, 0.0),
        ("recall", 5, 2 / 3),
        ("precision", 4, 2 / 4),
        ("precision", 10, 2 / 10),
        ("hit_rate", 1, 0.0),
        ("hit_rate", 2, 1.0),
        ("mrr", 1, 0.0),
        ("mrr", 5, 1 / 2),
        # Precision 1/2 at position 2 and 2/4 at position 4, over min(3, k) relevant items.
        ("map", 5, (1 / 2 + 2 / 4) / 3),
        ("map", 2, (1 / 2) / 2),
        # Gains 1/log2(3) and 1/log2(5); perfect: 1 + 1/log2(3) + 1/log2(4), or its first two for k = 2.
        ("ndcg", 5, (1 / math.log2(3) + 1 / math.log2(5)) / (1 + 1 / math.log2(3) + 1 / 2)),
        ("ndcg", 2, (1 / math.log2(3)) / (1 + 1 / math.log2(3))),
    ],
)
def test_worked_examples(name: str, k: int, wanted: float) -> None:
    assert one(name, "abcde", {"b", "d", "x"}, k) == pytest.approx(wanted, abs=1e-15)


def test_the_average_precision_example_of_manning_raghavan_schuetze() -> None:
    """Relevant at 1, 3, 6, 10 and 20 of 20, five relevant: (1/1 + 2/3 + 3/6 + 4/10 + 5/20) / 5."""
    truth = {1, 3, 6, 10, 20}
    wanted = (1 + 2 / 3 + 3 / 6 + 4 / 10 + 5 / 20) / 5
    assert one("map", range(1, 21), truth, 20) == pytest.approx(wanted)


@pytest.mark.parametrize("name", sorted(METRICS))
def test_a_perfect_list_is_one_and_an_empty_one_zero(name: str) -> None:
    assert one(name, [3, 1, 2], {1, 2, 3}, 3) == 1.0
    assert one(name, [], {1, 2, 3}, 3) == 0.0
    assert one(name, [7, 8], {1}, 3) == 0.0


def brute(name: str, ranked: list[int], truth: set[int], k: int) -> float:
    """The definitions once more, item by item."""
    hits = [i + 1 for i, item in enumerate(ranked[:k]) if item in truth]
    ideal = min(len(truth), k)
    match name:
        case "recall":
            return len(hits) / len(truth)
        case "precision":
            return len(hits) / k
        case "hit_rate":
            return float(bool(hits))
        case "mrr":
            return 1 / hits[0] if hits else 0.0
        case "map":
            return sum((j + 1) / at for j, at in enumerate(hits)) / ideal
        case _:
            best = sum(1 / math.log2(at + 1) for at in range(1, ideal + 1))
            return sum(1 / math.log2(at + 1) for at in hits) / best


@given(REQUESTS, st.integers(1, 15), st.sampled_from(sorted(METRICS)))
def test_every_metric_equals_its_definition(requests, k: int, name: str) -> None:
    ranked, truth = [r for r, _ in requests], [t for _, t in requests]
    judged = judge(ranked, truth)
    values = METRICS[name](judged, k)
    assert judged.n_without_truth == sum(not t for t in truth)
    for value, items, relevant in zip(values, ranked, truth, strict=True):
        if relevant:
            assert value == pytest.approx(brute(name, items, relevant, k), abs=1e-12)
            assert 0 <= value <= 1 + 1e-12
        else:
            assert math.isnan(value)


@given(REQUESTS)
def test_padded_arrays_equal_lists(requests) -> None:
    ranked, truth = [r for r, _ in requests], [sorted(t) for _, t in requests]

    def padded(lists):
        out = np.full((len(lists), 21), -1)
        for row, items in zip(out, lists, strict=True):
            row[: len(items)] = items
        return out

    left, arrays = judge(ranked, truth), judge(padded(ranked), padded(truth))
    mixed = judge(ranked, padded(truth))
    assert left.hits.tolist() == arrays.hits.tolist() == mixed.hits.tolist()
    assert left.n_true.tolist() == arrays.n_true.tolist() == mixed.n_true.tolist()


@given(st.integers(0, 10_000), st.integers(1, 10))
def test_ndcg_agrees_with_scikit_learn(seed: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    relevant = rng.random(10) < 0.4
    scores = rng.permutation(10).astype(float)
    if not relevant.any():
        return
    ranked = np.argsort(-scores)
    wanted = ndcg_score([relevant.astype(float)], [scores], k=k)
    assert one("ndcg", ranked, np.flatnonzero(relevant), k) == pytest.approx(wanted)
    whole = average_precision_score(relevant, scores)
    assert one("map", ranked, np.flatnonzero(relevant), 10) == pytest.approx(whole)


def test_large_item_numbers_do_not_overflow() -> None:
    big = 1 << 62
    judged = judge(np.array([[big, 1], [2, big]]), np.array([[big], [big]]))
    assert judged.hits.tolist() == [[True, False], [False, True]]


@pytest.mark.parametrize(
    ("ranked", "truth", "words"),
    [
        ([["a", "b", "a"]], [["a"]], "request 0 names an item twice"),
        (np.array([[1, 2], [3, 3]]), [[1], [2]], "request 1 names an item twice"),
        ([["a"]], [], "1 ranked lists for 0 truths"),
        (np.array([[1, -1, 2]]), [[1]], "padding before an item"),
        (np.array([[1, -7]]), [[1]], "negative items"),
        (np.array([[1.0]]), [[1]], "give integers"),
        (np.array([1]), [[1]], "give integers"),
    ],
)
def test_lists_that_mean_nothing_are_refused(ranked, truth, words: str) -> None:
    with pytest.raises(InputError, match=words):
        judge(ranked, truth)


def test_a_truth_counts_each_item_once() -> None:
    assert judge([["a"]], [["a", "a", "b"]]).n_true.tolist() == [2]


def test_requests_without_truth_are_counted_and_left_out() -> None:
    metrics = measure(judge([["a"], ["a"], ["b"]], [{"a"}, set(), {"a"}]), ["recall@1"])
    assert (metrics.n_requests, metrics.n_without_truth) == (3, 1)
    assert metrics.means() == {"recall@1": 0.5}
    with pytest.raises(InputError, match="nothing to measure"):
        measure(judge([["a"]], [set()]), ["recall@1"]).means()


@pytest.mark.parametrize("name", ["recal@5", "recall", "recall@0", "recall@-1", "recall@x", "@5"])
def test_an_unknown_metric_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="is not a metric"):
        measure(judge([["a"]], [["a"]]), [name])


def test_k_below_one_is_refused() -> None:
    with pytest.raises(InputError, match="k of at least 1"):
        METRICS["recall"](judge([["a"]], [["a"]]), 0)


def test_coverage_counts_distinct_items_of_the_catalogue() -> None:
    lists = [["a", "b"], ["b", "c"], []]
    assert coverage_at(lists, 1, 4) == 2 / 4
    assert coverage_at(lists, 9, 4) == 3 / 4
    assert coverage_at(np.array([[5, 9], [9, -1]]), 2, 4) == 2 / 4
    with pytest.raises(InputError, match="whole catalogue"):
        coverage_at(lists, 2, 2)
    with pytest.raises(InputError, match="at least 1"):
        coverage_at(lists, 0, 2)


@given(st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=2, max_size=40))
def test_auc_is_the_share_of_pairs_in_order(rows) -> None:
    positive = [s for y, s in rows if y]
    negative = [s for y, s in rows if not y]
    y, s = [int(y) for y, _ in rows], [s for _, s in rows]
    if not positive or not negative:
        with pytest.raises(InputError, match="both classes"):
            auc(y, s)
        return
    wanted = statistics.fmean((p > q) + (p == q) / 2 for p in positive for q in negative)
    assert auc(y, s) == pytest.approx(wanted, abs=1e-12)
    assert auc(y, s) == pytest.approx(roc_auc_score(y, s), abs=1e-12)


def test_log_loss_agrees_with_scikit_learn_and_survives_certainty() -> None:
    rng = np.random.default_rng(0)
    y, p = rng.integers(0, 2, 100), rng.random(100)
    assert log_loss(y, p) == pytest.approx(sklearn_log_loss(y, p))
    assert log_loss([1], [0.0]) == pytest.approx(-math.log(1e-15))
    assert log_loss([1, 0], [1.0, 0.0]) == pytest.approx(0.0, abs=1e-14)


@pytest.mark.parametrize(
    ("y", "p"),
    [([1], [1.5]), ([1], [-0.1]), ([], []), ([2], [0.5]), ([1], [np.nan]), ([1, 0], [0.5])],
)
def test_log_loss_of_what_is_no_probability_is_refused(y, p) -> None:
    with pytest.raises(InputError):
        log_loss(y, p)
