"""Sums are kept as double-doubles: what cancels leaves nothing behind, in any order and any tiling."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sevenfold.algebra.layout import MEAN, SUM, Read, lay_out
from sevenfold.algebra.update import add_compensated

# Multiples of one below 2^80: of these a double-double holds every sum of a hundred without rounding.
wide = st.builds(math.ldexp, st.integers(-(1 << 30), 1 << 30).map(float), st.integers(0, 50))
HOP = 10


def test_a_plain_sum_would_lose_what_the_pair_keeps() -> None:
    high, low = 0.0, 0.0
    for x in (1e16, 1.0, -1e16):
        high, low = add_compensated(high, low, x)
    assert (high, low) == (1.0, 0.0)
    assert (1e16 + 1.0) - 1e16 == 0.0


@given(st.lists(wide, max_size=40))
def test_the_pair_is_the_exact_sum_with_the_nearest_double_first(xs: list[float]) -> None:
    high, low = 0.0, 0.0
    for x in xs:
        high, low = add_compensated(high, low, x)
    exact = sum(map(Fraction, xs), Fraction(0))
    assert Fraction(high) + Fraction(low) == exact
    assert high == float(exact)


@given(st.lists(st.tuples(wide, st.integers(0, 99)), min_size=1, max_size=40), st.randoms())
@example([(1e17, 0), (1.0, 10), (-1e17, 20), (0.5, 20)], None)
def test_order_and_tiles_do_not_change_a_sum(
    one_key: Callable[..., Any], drawn: list[tuple[float, int]], shuffle: Any
) -> None:
    layout = lay_out(
        [Read(SUM, 0), Read(SUM, 0, 100, HOP), Read(MEAN, 0, 100, HOP), Read(SUM, 0, 100, 1)]
    )
    expected = math.fsum(x for x, _ in drawn)
    if shuffle is not None:
        shuffle.shuffle(drawn)
    values = one_key(layout).apply([(at, 99, x, 0) for x, at in drawn]).read(100)
    assert values.tolist() == [expected, expected, expected / len(drawn), expected]


@pytest.mark.parametrize("seed", range(3))
def test_a_long_cancelling_sum_of_any_doubles_is_that_of_fsum(
    one_key: Callable[..., Any], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    half = rng.normal(size=2_000) * 10.0 ** rng.integers(-6, 6, 2_000)
    xs = rng.permutation(np.concatenate([half, -half, [0.1]]))
    state = one_key(lay_out([Read(SUM, 0), Read(SUM, 0, 5_000, 100)]))
    state.apply([(i, i, x, 0) for i, x in enumerate(xs.tolist())])
    assert state.read(4_001).tolist() == [0.1, 0.1]


def test_nulls_are_passed_over(one_key: Callable[..., Any]) -> None:
    state = one_key(lay_out([Read(SUM, 0), Read(MEAN, 0)]))
    state.apply([(1, 1, math.nan, 0), (2, 2, 4.0, 0), (3, 3, math.nan, 0)])
    assert state.read(4).tolist() == [4.0, 4.0]
