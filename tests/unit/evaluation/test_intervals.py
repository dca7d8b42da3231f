"""Intervals cover what they claim to, and shrink by pairing as they should."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from sevenfold.errors import InputError
from sevenfold.evaluation.intervals import Resampling, mean_interval, paired_difference

QUICK = Resampling(n_samples=400)


def covered(draw, truth: float, how: Resampling, trials: int = 200) -> float:
    """The share of trials in which the interval of `draw(rng)` holds the truth."""
    rng = np.random.default_rng(11)
    held = 0
    for _ in range(trials):
        values, clusters = draw(rng)
        found = mean_interval(values, rng, clusters=clusters, how=how)
        held += found.low <= truth <= found.high
    return held / trials


@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_an_interval_of_95_percent_holds_the_truth_about_that_often(method: str) -> None:
    """200 trials: three deviations of the share are 0.046."""
    share = covered(lambda rng: (rng.normal(2, 1, 80), None), 2.0, Resampling(400, method=method))
    assert 0.89 <= share <= 0.99


def test_bca_misses_a_skewed_mean_more_evenly_on_both_sides() -> None:
    lopsided = {}
    for method in ("bca", "percentile"):
        rng, sides = np.random.default_rng(5), 0
        for _ in range(600):
            found = mean_interval(rng.exponential(1.0, 25), rng, how=Resampling(400, method=method))
            sides += int(found.high < 1.0) - int(found.low > 1.0)
        lopsided[method] = abs(sides)
    assert lopsided["bca"] < lopsided["percentile"]


def test_only_clusters_cover_when_requests_of_a_customer_are_alike() -> None:
    def draw(rng):
        customer = np.repeat(np.arange(40), 10)
        return np.repeat(rng.normal(0, 1, 40), 10) + rng.normal(0, 0.1, 400), customer

    assert covered(draw, 0.0, QUICK) > 0.89
    assert covered(lambda rng: (draw(rng)[0], None), 0.0, QUICK) < 0.6


@pytest.mark.parametrize("method", ["bca", "percentile"])
def test_it_agrees_with_scipy(method: str) -> None:
    values = np.random.default_rng(3).exponential(1.0, 60)
    ours = mean_interval(values, np.random.default_rng(0), how=Resampling(20_000, method=method))
    name = "BCa" if method == "bca" else method
    rng = np.random.default_rng(1)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method=name, rng=rng)
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.015)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.015)


def test_the_estimate_is_the_mean_over_requests_whatever_the_clusters() -> None:
    values = np.array([0.0, 1.0, 1.0, np.nan, 2.0])
    found = mean_interval(values, np.random.default_rng(0), clusters=list("aabbc"))
    assert (found.estimate, found.n, found.n_clusters) == (1.0, 4, 3)
    assert found.low <= 1.0 <= found.high


def test_a_seed_gives_the_same_interval_in_small_and_large_pieces() -> None:
    values = np.random.default_rng(0).normal(size=5000)
    one, two = (mean_interval(values, np.random.default_rng(4)) for _ in range(2))
    assert one == two
    assert one != mean_interval(values, np.random.default_rng(5))


def test_pairing_finds_a_difference_that_two_intervals_hide() -> None:
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 1, 300)
    better, worse = hard + 0.05 + rng.normal(0, 0.05, 300), hard + rng.normal(0, 0.05, 300)
    assert paired_difference(better, worse, rng).low > 0
    assert mean_interval(better, rng).low < mean_interval(worse, rng).high
    assert paired_difference(better, worse, rng).excludes_zero
    assert not paired_difference(hard, hard, rng).excludes_zero


def test_equal_values_give_a_point() -> None:
    found = mean_interval(np.full(50, 0.25), np.random.default_rng(0))
    assert found.low == found.estimate == found.high == 0.25


def test_two_clusters_do_not_break_the_correction() -> None:
    found = mean_interval(np.array([0.0, 5.0]), np.random.default_rng(0))
    assert 0.0 <= found.low <= found.high <= 5.0


@pytest.mark.parametrize(
    ("values", "clusters", "words"),
    [
        (np.array([1.0]), None, "given 1"),
        (np.array([np.nan, np.nan]), None, "given 0"),
        (np.array([1.0, 2.0]), ["a", "a"], "given 1"),
        (np.array([1.0, 2.0]), ["a"], "1 clusters for 2 requests"),
        (np.zeros((2, 2)), None, r"\(2, 2\)"),
    ],
)
def test_too_little_is_refused(values, clusters, words: str) -> None:
    with pytest.raises(InputError, match=words):
        mean_interval(values, np.random.default_rng(0), clusters=clusters)


def test_a_pair_needs_the_same_requests() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="same requests"):
        paired_difference(np.array([1.0, np.nan]), np.array([1.0, 2.0]), rng)
    with pytest.raises(InputError, match="same requests"):
        paired_difference(np.array([1.0, 2.0]), np.array([1.0]), rng)


@pytest.mark.parametrize("wrong", [{"method": "t"}, {"level": 1.0}, {"n_samples": 10}])
def test_settings_without_meaning_are_refused(wrong) -> None:
    with pytest.raises(InputError):
        Resampling(**wrong)
