"""Variances: exact to the rounding, whatever the order and the tiles; null when a number goes beyond float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.algebra.layout import COUNT_ALL, MEAN, SUM, Read, lay_out
from sevenfold.algebra.reads import FIRST, LAST_K, STD, VAR

LAYOUT = lay_out([Read(VAR, 0), Read(VAR, 0, 100, 10), Read(VAR, 0, 100, 1), Read(STD, 0, 100, 10)])


def variance(xs: list[float]) -> float:
    """The population variance, rounded once."""
    mean = sum(map(Fraction, xs), Fraction(0)) / len(xs)
    return float(sum(((Fraction(x) - mean) ** 2 for x in xs), Fraction(0)) / len(xs))


@given(
    st.lists(
        st.tuples(st.integers(-(1 << 40), 1 << 40).map(float), st.integers(0, 99)),
        min_size=1,
        max_size=40,
    ),
    st.sampled_from([0.0, 1e9, -(2.0**52)]),
    st.randoms(),
)
def test_a_variance_is_right_to_the_rounding_in_any_order_and_tiles(
    one_key: Callable[..., Any], drawn: list[tuple[float, int]], far: float, shuffle: Any
) -> None:
    shuffle.shuffle(drawn)
    values = one_key(LAYOUT).apply([(at, 99, far + x, 0) for x, at in drawn]).read(100).tolist()
    expected = variance([far + x for x, _ in drawn])
    # A value halfway between two doubles may be rounded either way, and then by order.
    near = [expected, expected, expected, math.sqrt(expected)]
    np.testing.assert_array_max_ulp(np.array(values), np.array(near), 1)


def test_a_small_spread_far_from_zero_is_not_lost(one_key: Callable[..., Any]) -> None:
    xs = [1e16 + 2 * i for i in (0, 1, 2, 1, 0)]
    values = one_key(LAYOUT).apply([(i, i, x, 0) for i, x in enumerate(xs)]).read(100)
    assert values[:3].tolist() == [variance(xs)] * 3
    assert variance(xs) == 2.24
    # The textbook way, from the mean of the squares, has no digit of it.
    assert np.mean(np.square(xs)) - np.mean(xs) ** 2 == 0.0


def test_one_value_has_no_spread_and_none_has_null(one_key: Callable[..., Any]) -> None:
    assert np.isnan(one_key(LAYOUT).read(50)).all()
    for x in (0.0, 5e-324, 0.1, 1.7e308):
        assert (
            one_key(LAYOUT).apply([(1, 1, x, 0), (2, 2, math.nan, 0)]).read(50).tolist() == [0] * 4
        )


@pytest.mark.parametrize("x", [1e300, 6.9e302, 1e-300])
def test_equal_values_have_no_spread(one_key: Callable[..., Any], x: float) -> None:
    events = [(i, i, x, 0) for i in range(99)]
    assert one_key(LAYOUT).apply(events).read(100).tolist() == [0.0] * 4


def test_what_goes_beyond_float64_is_null_while_its_tile_is_inside(
    one_key: Callable[..., Any],
) -> None:
    reads = [Read(kind, 0, *window) for kind in (SUM, MEAN, VAR) for window in ((), (40, 10))]
    events = [(5, 5, 1.7e308, 0), (6, 6, 1.7e308, 0), (7, 7, -1.7e308, 0), (25, 25, 3.0, 0)]
    state = one_key(lay_out([*reads, Read(COUNT_ALL)])).apply(events)
    assert np.isnan(state.read(30)[:6]).all()
    # The tile with the overflow leaves the window, not the lifetime.
    np.testing.assert_array_equal(
        state.read(60), [math.nan, 3.0, math.nan, 3.0, math.nan, 0.0, 4.0]
    )
    far = one_key(lay_out([Read(VAR, 0), Read(SUM, 0)])).apply([(1, 1, 1e160, 0), (2, 2, 0.0, 0)])
    np.testing.assert_array_equal(far.read(9), [math.nan, 1e160])


@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.sampled_from([math.nan, 1.0, 2.0, 3.0, 4.0])), max_size=20
    ),
    st.integers(1, 5),
)
def test_the_newest_and_the_oldest_are_those_of_a_sorted_list(
    one_key: Callable[..., Any], drawn: list[tuple[int, float]], k: int
) -> None:
    reads = [
        Read(LAST_K, 0, k=k),
        Read(LAST_K, 0, 20, 5, k=1),
        Read(FIRST, 0),
        Read(FIRST, 0, 20, 5),
    ]
    state = one_key(lay_out(reads)).apply([(at, 60, x, 0) for at, x in drawn])
    known = [(at, place, x) for place, (at, x) in enumerate(drawn) if not math.isnan(x)]
    newest = [x for _, _, x in sorted(known, reverse=True)]
    inside = sorted((event for event in known if event[0] >= 45), reverse=True)
    oldest = [
        max(e for e in group if e[0] == min(group)[0])[2] for group in (known, inside) if group
    ]
    first = oldest[0] if known else math.nan
    expected = [
        *(newest[i] if i < len(newest) else math.nan for i in range(k)),
        inside[0][2] if inside else math.nan,
        first,
        oldest[-1] if inside else math.nan,
    ]
    np.testing.assert_array_equal(state.read(66), expected)
