"""The newest vector of a column: its event_us and its float32 numbers, two to a word."""

from __future__ import annotations

import numpy as np

from sevenfold.algebra.reads import DELETED
from sevenfold.compiled import called
from sevenfold.types import Floats, Ints

__all__ = ["keep_vector", "read_vector"]

_VALUE, _NULL, _MISSING, _STALE = 0, 1, 2, 3


@called
def keep_vector(
    state: Ints, offset: int, event_us: int, numbers: Floats, row: int, first: int, width: int
) -> None:
    """Replace the vector at `offset` by the `width` numbers from `first` on, unless it is newer.

    Of two of one instant the one known later stays; a null vector and a delete count as any other.
    """
    if state[offset] == 1 and event_us < state[offset + 1]:
        return
    state[offset] = 1
    state[offset + 1] = event_us
    for i in range(0, width, 2):
        word = _bits(numbers[row, first + i])
        if i + 1 < width:
            word |= _bits(numbers[row, first + i + 1]) << 32
        state[offset + 2 + i // 2] = word
    if np.float64(numbers[row, first]).view(np.int64) == DELETED:
        state[offset + 2] = DELETED


@called
def _bits(x: float) -> int:
    return np.int64(np.float32(x).view(np.uint32))  # type: ignore[return-value]


@called
def read_vector(
    state: Ints, offset: int, width: int, ttl_us: int, t_us: int, values: Floats
) -> int:
    """Write the vector to `values`, NaN for none; what it is then: null, missing or stale."""
    values[:width] = np.nan
    if state[offset] == 0 or state[offset + 2] == DELETED:
        return _MISSING
    if ttl_us > 0 and t_us - state[offset + 1] >= ttl_us:
        return _STALE
    for i in range(width):
        word = state[offset + 2 + i // 2] >> (32 * (i % 2))
        values[i] = np.uint32(word & 0xFFFFFFFF).view(np.float32)
    return _NULL
