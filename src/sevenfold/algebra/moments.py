"""Squared deviations from the mean, in pairs of doubles, event by event and tile by tile."""

from __future__ import annotations

import math

from sevenfold.compiled import called, kernel
from sevenfold.types import Floats, Ints

__all__ = ["add_deviation", "read_variance", "two_sum"]

_SPLITTER = 134217729.0  # 2^27 + 1
_LARGE = 2.0**990  # beyond it a product could not be split
_DOWN, _UP = 2.0**-64, 2.0**64


@kernel
def two_sum(x: float, y: float) -> tuple[float, float]:
    """X + y and what rounding left of it (Knuth, TAOCP 2, 4.2.2)."""
    total = x + y
    part = total - x
    return total, (x - (total - part)) + (y - part)


@kernel
def _product(x: float, y: float) -> tuple[float, float]:
    """X * y and what rounding left of it (Dekker 1971, splitting after Veltkamp)."""
    product = x * y
    wide = _SPLITTER * x
    x_high = wide - (wide - x)
    x_low = x - x_high
    wide = _SPLITTER * y
    y_high = wide - (wide - y)
    y_low = y - y_high
    error = ((x_high * y_high - product) + x_high * y_low + x_low * y_high) + x_low * y_low
    return product, error


@kernel
def _add(a: float, a_low: float, b: float, b_low: float) -> tuple[float, float]:
    high, low = two_sum(a, b)
    small, rest = two_sum(a_low, b_low)
    high, low = two_sum(high, low + small)
    return two_sum(high, low + rest)


@kernel
def _multiply(a: float, a_low: float, b: float, b_low: float) -> tuple[float, float]:
    high, low = _product(a, b)
    return two_sum(high, low + (a * b_low + a_low * b))


@kernel
def _divide(a: float, a_low: float, n: float) -> tuple[float, float]:
    """The pair divided by a double."""
    scale = 1.0
    if abs(a) > _LARGE:
        a, a_low, scale = a * _DOWN, a_low * _DOWN, _UP
    quotient = a / n
    product, error = _product(quotient, n)
    rest = (((a - product) - error) + a_low) / n
    high, low = two_sum(quotient, rest)
    return high * scale, low * scale


@called
def _merge(
    count: float, total: tuple[float, float], n: float, further: tuple[float, float]
) -> tuple[float, float]:
    """What the deviations of two sets grow by as they become one (Chan, Golub and LeVeque 1983)."""
    mean, mean_low = _divide(total[0], total[1], count)
    other, other_low = _divide(further[0], further[1], n)
    apart, apart_low = _add(other, other_low, -mean, -mean_low)
    weight, weight_low = _product(count, n)
    weight, weight_low = _divide(weight, weight_low, count + n)
    once, once_low = _multiply(apart, apart_low, weight, weight_low)
    return _multiply(once, once_low, apart, apart_low)


@called
def add_deviation(state: Ints, floats: Floats, at: int, moment: int, x: float) -> None:
    """Add x to the squared deviations at word `moment`, of the count and sum at `at` without it."""
    count = state[at]
    if count > 0:
        grown, low = _merge(float(count), (floats[at + 1], floats[at + 2]), 1.0, (x, 0.0))
        grown, low = _add(floats[moment], floats[moment + 1], grown, low)
        floats[moment] = grown
        floats[moment + 1] = low


@called
def read_variance(
    state: Ints, floats: Floats, begin: int, end: int, record: int, column: int, moment: int
) -> float:
    """The population variance over the tiles from `begin` to `end`, merged in time order; NaN for none.

    `column` and `moment` are the places of count and deviations in a tile. NaN as well when a number on
    the way is beyond float64.
    """
    count = 0
    total, total_low = 0.0, 0.0
    square, square_low = 0.0, 0.0
    for tile in range(begin, end, record):
        at = tile + column
        n = state[at]
        if n == 0:
            continue
        if count > 0:
            further = (floats[at + 1], floats[at + 2])
            grown, low = _merge(float(count), (total, total_low), float(n), further)
            square, square_low = _add(square, square_low, grown, low)
        square, square_low = _add(
            square, square_low, floats[tile + moment], floats[tile + moment + 1]
        )
        total, total_low = _add(total, total_low, floats[at + 1], floats[at + 2])
        count += n
    if count == 0:
        return math.nan
    variance = _divide(square, square_low, float(count))[0]
    return variance if math.isfinite(total) and math.isfinite(variance) else math.nan
