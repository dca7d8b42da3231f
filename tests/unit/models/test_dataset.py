"""A dataset is whole or refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.errors import InputError
from sevenfold.models.dataset import Dataset


def sample() -> Dataset:
    x = np.arange(12, dtype=np.float32).reshape(6, 2)
    x[1, 0] = np.nan
    return Dataset.of(
        x,
        [0, 1, 0, 0, 2, 1],
        groups=[2, 1, 3],
        feature_names=["a", "b"],
        request_ids=["r", "s", "t"],
        t_us=[5, 5, 6, 9, 9, 9],
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": np.zeros((6, 2))}, r"\$\.x is float64"),
        ({"x": np.zeros((5, 2), np.float32)}, r"\$\.x is \(5, 2\) but there are 6 labels"),
        ({"x": np.full((6, 2), np.inf, np.float32)}, r"infinite in \['a', 'b'\]"),
        ({"y": np.zeros(6)}, r"\$\.y is float64"),
        ({"y": np.array([0, 1, 0, 0, np.nan, 1], np.float32)}, r"\$\.y must be finite"),
        (
            {"y": np.array([0, 1, 0, 0, -1, 1], np.float32)},
            r"\$\.y must be finite and not negative",
        ),
        ({"groups": np.array([2, 2, 3])}, "add up to the 6 rows, not 7"),
        ({"groups": np.array([3, 0, 3])}, "at least 1 each"),
        ({"groups": np.array([7, -4, 3])}, "at least 1 each"),
        ({"request_ids": ("r", "s")}, "2 names for 3 requests"),
        ({"request_ids": ("r", "s", "r")}, "would count twice"),
        ({"feature_names": ("a", "a")}, "a name twice"),
        ({"t_us": np.array([5, 6, 6, 9, 9, 9])}, "a request has one instant"),
        ({"t_us": np.zeros(5, np.int64)}, r"\$\.t_us is int64 \(5,\)"),
        ({"weights": np.zeros(6, np.float32)}, "not all zero"),
        ({"weights": np.array([1, 1, 1, 1, 1, -1], np.float32)}, "not negative"),
        ({"weights": np.ones(5, np.float32)}, r"\$\.weights is float32 \(5,\)"),
    ],
)
def test_what_does_not_fit_is_refused(change, words) -> None:
    with pytest.raises(InputError, match=words):
        replace(sample(), **change)


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(InputError) as raised:
        replace(sample(), feature_names=("a", "a"), request_ids=("r", "r", "r"))
    assert "feature_names" in str(raised.value)
    assert "request_ids" in str(raised.value)


def test_an_empty_dataset_is_allowed() -> None:
    empty = sample().take(np.array([], dtype=np.int64))
    assert (len(empty), empty.n_requests, empty.x.shape) == (0, 0, (0, 2))


def test_requests_are_taken_with_all_their_rows_in_the_order_given() -> None:
    taken = sample().take(np.array([2, 0]))
    assert taken.request_ids == ("t", "r")
    assert taken.groups.tolist() == [3, 2]
    assert taken.x[:, 1].tolist() == [7, 9, 11, 1, 3]
    assert taken.t_us.tolist() == [9, 9, 9, 5, 5]
    by_mask = sample().take(np.array([True, False, True]))
    assert by_mask.fingerprint() == sample().take(np.array([0, 2])).fingerprint()


def test_features_are_selected_by_name() -> None:
    turned = sample().select(["b", "a"])
    assert turned.feature_names == ("b", "a")
    assert turned.x[:, 0].tolist() == [1, 3, 5, 7, 9, 11]
    assert turned.select(["a", "b"]).fingerprint() == sample().fingerprint()
    with pytest.raises(InputError, match=r"\['c'\] are not in the dataset"):
        sample().select(["a", "c"])


def test_concat_refuses_other_features_and_repeated_requests() -> None:
    with pytest.raises(InputError, match="in another order"):
        Dataset.concat([sample(), sample().select(["b", "a"])])
    with pytest.raises(InputError, match="would count twice"):
        Dataset.concat([sample(), sample()])
    with pytest.raises(InputError, match="at least one"):
        Dataset.concat([])


def test_concat_gives_missing_weights_the_value_one() -> None:
    weighted = replace(sample(), weights=np.full(6, 2, np.float32))
    other = replace(sample(), request_ids=("u", "v", "w"))
    assert Dataset.concat([weighted, other]).row_weights().tolist() == [2.0] * 6 + [1.0] * 6
    assert Dataset.concat([sample(), other]).weights is None


@given(st.sets(st.integers(0, 2)))
def test_a_dataset_is_the_sum_of_its_parts(left: set[int]) -> None:
    data = sample()
    parts = [sorted(left), sorted({0, 1, 2} - left)]
    joined = Dataset.concat([data.take(np.array(part, dtype=np.int64)) for part in parts])
    back = joined.take(np.argsort(joined.request_ids))
    assert back.fingerprint() == data.fingerprint()


@pytest.mark.parametrize("part", ["x", "y", "t_us"])
def test_the_fingerprint_changes_with_any_value(part: str) -> None:
    data = sample()
    changed = getattr(data, part).copy()
    changed[-3:] += 1
    assert replace(data, **{part: changed}).fingerprint() != data.fingerprint()
    assert replace(data, weights=np.ones(6, np.float32)).fingerprint() != data.fingerprint()
