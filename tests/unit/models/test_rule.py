"""The rule orders as the pair of its features does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sevenfold.errors import InputError
from sevenfold.models.dataset import Dataset
from sevenfold.models.rule import RuleModel

FLOATS = st.floats(width=32, allow_infinity=False, allow_nan=True)
NAMES = ("a", "b")


@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 30), st.just(1)), elements=FLOATS))
def test_one_feature_orders_exactly_with_nulls_last(x) -> None:
    scores = RuleModel("a", feature_names=("a",)).scores(x)
    column = x[:, 0].astype(np.float64)
    column[np.isnan(column)] = -np.inf
    above = column[:, None] > column[None, :]
    assert ((scores[:, None] > scores[None, :]) == above).all()


@given(hnp.arrays(np.int8, st.tuples(st.integers(1, 30), st.just(2))))
def test_ties_are_broken_by_the_second_feature(values) -> None:
    scores = RuleModel("a", "b", feature_names=NAMES).scores(values.astype(np.float32))
    pairs = [tuple(row) for row in values.tolist()]
    for i, left in enumerate(pairs):
        for j, right in enumerate(pairs):
            assert (scores[i] > scores[j]) == (left > right)


def test_minus_zero_is_zero() -> None:
    scores = RuleModel("a", feature_names=("a",)).scores(np.array([[0.0], [-0.0]], np.float32))
    assert scores[0] == scores[1]


def test_an_unknown_feature_is_refused() -> None:
    data = Dataset.of([[1.0, 2.0]], [1], feature_names=NAMES)
    with pytest.raises(InputError, match="orders by 'c', which the dataset does not have"):
        RuleModel("a", "c").fit(data, np.random.default_rng(0))
