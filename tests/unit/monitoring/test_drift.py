"""The population stability index: a known answer, its noise, nulls and false alarms."""

import math

import numpy as np
import pytest

from sevenfold.monitoring.drift import population_stability
from sevenfold.monitoring.performance import has_decayed


def test_a_worked_example() -> None:
    # Two bins around the reference's median: shares 0.5 and 0.5 become 0.25 and 0.75.
    reference = np.repeat([0.0, 1.0], 500)
    current = np.repeat([0.0, 1.0], [250, 750])
    expected = (0.25 - 0.5) * math.log(0.25 / 0.5) + (0.75 - 0.5) * math.log(0.75 / 0.5)
    assert population_stability(reference, current, bins=2).value == pytest.approx(expected)


def test_nulls_are_a_bin_of_their_own() -> None:
    reference = np.concatenate([np.arange(900.0), np.full(100, np.nan)])
    current = np.concatenate([np.arange(500.0) * 1.8, np.full(500, np.nan)])
    assert population_stability(reference, reference).value == 0
    assert population_stability(reference, current).value > 0.5


def test_without_drift_the_index_is_its_noise() -> None:
    rng = np.random.default_rng(5)
    found = [population_stability(rng.normal(size=1000), rng.normal(size=1000)) for _ in range(300)]
    mean = np.mean([one.value for one in found])
    assert mean == pytest.approx(found[0].noise, rel=0.15)
    # Three times the noise is the threshold of the loop: it rings for less than one look in a hundred.
    assert np.mean([one.value > 3 * one.noise for one in found]) < 0.01


def test_a_shift_is_found_in_small_samples_too() -> None:
    rng = np.random.default_rng(6)
    found = population_stability(rng.normal(size=1000), rng.normal(0.7, 1, size=1000))
    assert found.value > max(0.2, 3 * found.noise)


def test_decay_is_said_only_when_it_is_shown() -> None:
    rng = np.random.default_rng(7)
    before, same = rng.beta(2, 4, 800), rng.beta(2, 4, 800)
    assert has_decayed(before, same, 0.1, rng) is None
    assert has_decayed(before, same[:1], 0.1, rng) is None
    worse = same * 0.7
    worse[::9] = np.nan
    said = has_decayed(before, worse, 0.1, rng)
    assert said is not None
    assert "a loss of over 10%" in said
