"""The newest values of a column, newest first; of equals the one known later."""

from __future__ import annotations

import numpy as np

from sevenfold.compiled import called
from sevenfold.types import Floats, Ints

__all__ = ["add_recent", "read_recent"]


@called
def add_recent(
    state: Ints, floats: Floats, offset: int, capacity: int, event_us: int, x: float
) -> None:
    """Put a value in its place among the newest `capacity` of the section at `offset`."""
    kept = state[offset]
    place = 0
    while place < kept and state[offset + 1 + 2 * place] > event_us:
        place += 1
    if place == capacity:
        return
    for i in range(min(kept, capacity - 1), place, -1):
        state[offset + 1 + 2 * i] = state[offset - 1 + 2 * i]
        state[offset + 2 + 2 * i] = state[offset + 2 * i]
    state[offset + 1 + 2 * place] = event_us
    floats[offset + 2 + 2 * place] = x
    state[offset] = min(kept + 1, capacity)


@called
def read_recent(state: Ints, floats: Floats, offset: int, i: int, tail: int) -> float:
    """The value that i others are newer than, NaN when there is none from `tail` on."""
    if i < state[offset] and state[offset + 1 + 2 * i] >= tail:
        return float(floats[offset + 2 + 2 * i])
    return np.nan
