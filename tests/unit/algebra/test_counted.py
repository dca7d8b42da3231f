"""Quantiles within their error, the most frequent values, and distinct counts beyond their cap."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.algebra.layout import DISTINCT, Read, lay_out
from sevenfold.algebra.packed import read_packed
from sevenfold.algebra.reads import QUANTILE, TOP_K
from sevenfold.algebra.sections import bucket_bounds, precision_of
from sevenfold.types import VectorState

SKETCH = {"error": 0.02, "smallest": 1e-3, "largest": 1e6}
values = st.one_of(
    st.sampled_from([0.0, -0.0, 1e-3, -1e-3, 9e-4, 1e6, -2e6, 5e300, 5e-324]),
    st.floats(-1e4, 1e4, allow_subnormal=True),
)


def clamped(x: float) -> float:
    """The number as a quantile sees it."""
    size = min(abs(x), SKETCH["largest"])
    return math.copysign(size, x) if size >= SKETCH["smallest"] else 0.0


@given(
    st.lists(st.tuples(st.integers(0, 99), values), min_size=1, max_size=60),
    st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]),
)
def test_a_quantile_is_within_its_error_in_every_window(
    one_key: Callable[..., Any], drawn: list[tuple[int, float]], q: float
) -> None:
    reads = [Read(QUANTILE, 0, *window, q=q, **SKETCH) for window in ((), (50, 10), (30, 10))]
    read = one_key(lay_out(reads)).apply([(at, 99, x, 0) for at, x in drawn]).read(100)
    for got, tail in zip(read.tolist(), (0, 50, 70), strict=True):
        inside = sorted(clamped(x) for at, x in drawn if at >= tail)
        if not inside:
            assert math.isnan(got)
            continue
        exact = inside[math.floor(q * (len(inside) - 1))]
        assert abs(got - exact) <= SKETCH["error"] * abs(exact) * (1 + 1e-12)


def test_a_quantile_of_many_keeps_few_buckets(one_key: Callable[..., Any]) -> None:
    rng = np.random.default_rng(3)
    xs = rng.lognormal(3, 1, 20_000)
    reads = [Read(QUANTILE, 0, q=q, **SKETCH) for q in (0.01, 0.5, 0.999)]
    state = one_key(lay_out(reads)).apply([(i, i, x, 0) for i, x in enumerate(xs.tolist())])
    assert len(state.words) < 3 * 250
    exact = np.quantile(xs, [0.01, 0.5, 0.999], method="lower")
    np.testing.assert_allclose(state.read(30_000), exact, rtol=SKETCH["error"])


def test_buckets_end_where_the_largest_lies() -> None:
    bounds = bucket_bounds(0.01, 1e-6, 1e9)
    assert bounds[0] == 1e-6
    assert bounds[-2] < 1e9 <= bounds[-1]
    assert len(bounds) == 1728


@given(
    st.lists(st.tuples(st.integers(0, 99), st.integers(-3, 6).map(float)), max_size=60),
    st.randoms(),
)
def test_the_most_frequent_are_those_of_a_counter(
    one_key: Callable[..., Any], drawn: list[tuple[int, float]], shuffle: Any
) -> None:
    reads = [Read(TOP_K, 0, *window, k=3, tracked=10) for window in ((), (50, 10))]
    shuffle.shuffle(drawn)
    read = one_key(lay_out(reads)).apply([(at, 99, x, 0) for at, x in drawn]).read(100)
    expected = []
    for tail in (0, 50):
        counts = Counter(x for at, x in drawn if at >= tail)
        best = sorted(counts, key=lambda x: (-counts[x], x))[:3]
        pairs = [(x, float(counts[x])) for x in best] + [(math.nan, math.nan)] * 3
        expected += [part for pair in pairs[:3] for part in pair]
    np.testing.assert_array_equal(read, expected)


def test_beyond_the_tracked_values_the_one_that_ranks_last_is_forgotten(
    one_key: Callable[..., Any],
) -> None:
    state = one_key(lay_out([Read(TOP_K, 0, k=3, tracked=2)]))
    state.apply([(i, i, x, 0) for i, x in enumerate([1.0, 1.0, 5.0, 3.0, 5.0])])
    # 5 gave way to 3, which gave way to 5 again: it begins anew.
    np.testing.assert_array_equal(state.read(9), [1, 2, 5, 1, math.nan, math.nan])
    state.apply([(9, 9, 7.0, 0), (10, 10, 0.0, 0)])
    np.testing.assert_array_equal(state.read(20), [1, 2, 0, 1, math.nan, math.nan])


def test_values_of_tiles_that_have_left_make_room(one_key: Callable[..., Any]) -> None:
    state = one_key(lay_out([Read(TOP_K, 0, 20, 10, k=2, tracked=2)]))
    state.apply([(5, 5, 1.0, 0), (5, 6, 2.0, 0), (45, 45, 3.0, 0), (45, 46, 4.0, 0)])
    assert state.read(47).tolist() == [3, 1, 4, 1]


def count(state: Any, t_us: int) -> tuple[list[float], list[int]]:
    places = np.array([[0, 8 * len(state.words)]])
    values, states, _ = read_packed(state.layout, state.words, places, t_us)
    return values[0].tolist(), states[0].tolist()


@pytest.mark.parametrize("n", [600, 3_000, 40_000])
@pytest.mark.parametrize("first", [1, 1 << 40])
def test_a_distinct_count_beyond_its_cap_is_within_its_error(
    one_key: Callable[..., Any], n: int, first: int
) -> None:
    error = 0.05
    layout = lay_out([Read(DISTINCT, 0, cap=256, error=error)])
    state = one_key(layout)
    marks = [first + i for i in range(n)]
    state.apply([(i, i, 0.0, mark) for i, mark in enumerate(marks[:256])])
    assert count(state, n) == ([256.0], [VectorState.VALUE])
    state.apply([(300, 300, 0.0, mark) for mark in marks[256:] + marks[:99]])
    (estimate,), states = count(state, n)
    assert states == [VectorState.ESTIMATE]
    assert abs(estimate / n - 1) < 3 * error
    assert len(state.words) <= layout.least + 2 * 257 + 2 * 512


@given(
    st.lists(st.tuples(st.integers(0, 99), st.integers(1, 40)), max_size=80),
    st.integers(1, 6),
    st.randoms(),
)
def test_an_estimate_depends_on_what_was_seen_when_and_not_on_the_order_of_arrival(
    one_key: Callable[..., Any], drawn: list[tuple[int, int]], cap: int, shuffle: Any
) -> None:
    windows = ((), (60, 10), (20, 10))
    layout = lay_out([Read(DISTINCT, 0, *window, cap=cap, error=0.2) for window in windows])
    in_order = count(one_key(layout).apply([(at, 99, 0.0, m) for at, m in drawn]), 100)
    shuffle.shuffle(drawn)
    state = one_key(layout).apply([(at, 99, 0.0, m) for at, m in drawn])
    assert count(state, 100) == in_order
    # What is in no window any more may as well never have been.
    inside = [(at, 99, 0.0, m) for at, m in drawn if at >= 80]
    alone = count(one_key(layout).apply(inside), 100)
    assert (alone[0][2], alone[1][2]) == (in_order[0][2], in_order[1][2])
    assert read_packed(layout, state.words, np.array([[0, 8 * len(state.words)]]), 100)[2] == -1


def test_an_error_is_a_number_of_registers() -> None:
    assert [precision_of(e) for e in (0.26, 0.05, 0.01625, 0.005)] == [4, 9, 12, 16]
    for bits in range(4, 17):
        assert precision_of(1.04 / 2 ** (bits / 2) * 1.0001) == bits
