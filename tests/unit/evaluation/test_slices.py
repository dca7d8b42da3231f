"""Slices are complete, and silent where they are too small."""

from __future__ import annotations

import numpy as np
import pytest

from sevenfold.errors import InputError
from sevenfold.evaluation.slices import by_slice

RNG = np.random.default_rng(0)
LAND = ["uk"] * 60 + ["fr"] * 39 + ["de"]


def test_every_slice_is_listed_and_small_ones_say_nothing() -> None:
    values = np.concatenate([np.tile([0.0, 1.0], 30), np.ones(40)])
    found = by_slice(values, {"land": LAND, "all": ["x"] * 100}, RNG)
    assert [part.name for part in found] == ["all=x", "land=de", "land=fr", "land=uk"]
    assert [part.n for part in found] == [100, 1, 39, 60]
    assert found[1].interval is None
    assert found[2].interval.estimate == 1.0
    assert found[3].interval.low < 0.5 < found[3].interval.high


def test_requests_without_a_value_do_not_count() -> None:
    values = np.ones(100)
    values[:40] = np.nan
    found = {part.value: part for part in by_slice(values, {"land": LAND}, RNG)}
    assert found["uk"].n == 20
    assert found["uk"].interval is None


def test_the_minimum_counts_customers_where_they_are_known() -> None:
    customers = np.arange(100) // 20
    found = {
        part.value: part for part in by_slice(np.ones(100), {"land": LAND}, RNG, clusters=customers)
    }
    assert found["uk"].n == 60
    assert found["uk"].interval is None


def test_labels_of_another_length_are_refused() -> None:
    with pytest.raises(InputError, match="'land' are"):
        by_slice(np.ones(3), {"land": ["uk"]}, RNG)
