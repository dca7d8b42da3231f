"""Evidence that may be looked at after every answer: false alarms stay as rare as stated, faults are found soon."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.evaluation.sequential import Wealth, band

ALPHA = 0.05
RUNS = 200
LENGTH = 200


def alarm(draws: np.ndarray, limit: float, alpha: float = ALPHA) -> int | None:
    """After how many draws the wealth first reaches 1 / alpha; None when it never does."""
    wealth = Wealth()
    for n, x in enumerate(draws.tolist(), start=1):
        wealth.add(x, limit)
        if wealth.value >= 1 / alpha:
            return n
    return None


@pytest.mark.parametrize("limit", [0.02, 0.3, 0.6])
def test_looked_at_all_the_time_it_is_wrong_no_more_often_than_stated(limit: float) -> None:
    """The mean is exactly at the limit, which is the hardest case; one in twenty may be wrong, and a few more by chance."""
    rng = np.random.default_rng(1)
    draws = (rng.random((RUNS, LENGTH)) < limit).astype(np.float64)
    wrong = sum(alarm(row, limit) is not None for row in draws)
    assert wrong <= RUNS * ALPHA + 3 * math.sqrt(RUNS * ALPHA * (1 - ALPHA))


def test_a_repeated_test_of_fixed_size_would_be_wrong_far_more_often() -> None:
    """Why there is a wealth at all: the usual z-test, looked at after every draw, is wrong many times as often."""
    rng = np.random.default_rng(1)
    draws = rng.random((RUNS, LENGTH)) < 0.3
    n = np.arange(1, LENGTH + 1)
    z = (draws.cumsum(axis=1) / n - 0.3) / np.sqrt(0.3 * 0.7 / n)
    wrong = int((z[:, 19:] > 1.645).any(axis=1).sum())
    assert wrong > 4 * RUNS * ALPHA


@pytest.mark.parametrize(
    ("mean", "limit", "within"), [(1.0, 0.02, 4), (1.0, 0.6, 20), (0.1, 0.02, 120), (0.9, 0.3, 15)]
)
def test_what_is_beyond_the_limit_is_found_soon(mean: float, limit: float, within: int) -> None:
    rng = np.random.default_rng(2)
    draws = (rng.random((100, 4 * within)) < mean).astype(np.float64)
    found = [alarm(row, limit, 0.001) for row in draws]
    assert np.median([n or 10 * within for n in found]) <= within


@given(st.lists(st.floats(0, 1), max_size=40), st.floats(0.01, 0.99))
def test_no_gambler_is_ruined_and_no_stake_is_more_than_fair(
    draws: list[float], limit: float
) -> None:
    wealth = Wealth()
    for x in draws:
        wealth.add(x, limit)
        assert math.isfinite(wealth.peak)
    assert wealth.n == len(draws)
    # At the limit itself every bet is even: nothing is won, nothing is lost.
    even = Wealth()
    for _ in draws:
        even.add(limit, limit)
    assert even.value == pytest.approx(1.0)


def test_a_bet_is_fair_where_the_hypothesis_holds() -> None:
    """By one draw of the worst case the expected wealth is 1, exactly."""
    for limit in (0.02, 0.3, 0.8):
        won, lost = Wealth(), Wealth()
        won.add(1.0, limit)
        lost.add(0.0, limit)
        held = [sum(math.exp(log) for log in each.logs) / len(each.logs) for each in (won, lost)]
        assert limit * held[0] + (1 - limit) * held[1] == pytest.approx(1.0)


def test_without_a_limit_nothing_is_bet() -> None:
    wealth = Wealth()
    for _ in range(50):
        wealth.add(1.0, 1.0)
    assert wealth.value == 1.0
    assert wealth.mean == 1.0


def test_the_band_is_that_of_the_theorem() -> None:
    """The probability that the theorem states for A = 0.85 and C = 0.8 log(1612 / alpha) is at most alpha."""
    for alpha in (0.05, 0.001):
        c = 0.8 * math.log(1612 / alpha)
        stated = []
        for eta in np.linspace(1.001, 1.2, 400):
            gamma = math.sqrt(2 / eta) * (0.85 - math.sqrt(2 * (eta - 1) / c))
            if gamma > 1:
                rest = 1 + 1 / ((gamma**2 - 1) * math.log(eta))
                stated.append(4 * math.exp(-(gamma**2) * c) * rest)
        assert min(stated) <= alpha
    assert band(19, 0.05, 20) == math.inf
    assert band(100, 0.05, 100) > band(400, 0.05, 100) > band(10_000, 0.05, 100)


def test_distributions_that_are_the_same_stay_in_their_bands() -> None:
    rng = np.random.default_rng(3)
    for _ in range(100):
        one, other = rng.integers(0, 20, (2, 2000))
        for n in (100, 300, 1000, 2000):
            shares = [np.bincount(each[:n], minlength=20).cumsum() / n for each in (one, other)]
            gap = np.abs(shares[0] - shares[1]).max()
            assert gap <= 2 * band(n, ALPHA / 2, 100)
