"""Served and recomputed vectors are compared bit by bit."""

from __future__ import annotations

import numpy as np
import pytest

from sevenfold.engines.parity import Mismatch, Parity, compare
from sevenfold.errors import InputError

NAN = float("nan")


def vectors(*rows: list[float]) -> np.ndarray:
    return np.array(rows, dtype=np.float32)


def test_equal_bits_are_equal_and_any_two_nulls_are_one() -> None:
    rows = vectors([1.5, NAN], [-0.0, np.inf])
    other = rows.copy()
    # A null of other bits: the sign is set.
    other.view(np.uint32)[0, 1] = 0xFFC00001
    assert compare(["a", "b"], rows, other) == Parity(2, 0, {}, ())


@pytest.mark.parametrize(
    ("logged", "recomputed"),
    [(0.0, -0.0), (1.0, np.nextafter(np.float32(1), np.float32(2))), (NAN, 0.0), (0.0, NAN)],
)
def test_any_other_difference_is_a_mismatch(logged: float, recomputed: float) -> None:
    parity = compare(["a"], vectors([logged]), vectors([recomputed]))
    assert (parity.compared, parity.mismatched, parity.by_feature) == (1, 1, {"a": 1})
    assert repr(parity.examples) == repr((Mismatch(0, "a", logged, float(np.float32(recomputed))),))


def test_a_row_counts_once_a_value_each() -> None:
    parity = compare(["a", "b"], vectors([1, 2], [3, 4], [5, 6]), vectors([0, 0], [3, 4], [5, 0]))
    assert (parity.compared, parity.mismatched) == (3, 2)
    assert parity.by_feature == {"a": 1, "b": 2}
    assert [(m.row, m.feature) for m in parity.examples] == [(0, "a"), (0, "b"), (2, "b")]


def test_comparisons_add_up_and_keep_a_few_examples() -> None:
    part = compare(["a"], np.zeros((8, 1), np.float32), np.ones((8, 1), np.float32))
    total = Parity() + part + compare(["a"], vectors([1]), vectors([1])) + part
    assert (total.compared, total.mismatched, total.by_feature) == (17, 16, {"a": 16})
    assert len(total.examples) == 10


def test_vectors_of_other_shapes_are_refused() -> None:
    for names, other in ((["a"], vectors([1], [2])), (["a", "b"], vectors([1]))):
        with pytest.raises(InputError, match="cannot be compared"):
            compare(names, vectors([1]), other)
    assert compare([], np.empty((3, 0), np.float32), np.empty((3, 0), np.float32)).mismatched == 0
