"""One key's events through the packed states, cut into batches as one likes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from sevenfold.algebra.layout import Columns, Groups, Layout
from sevenfold.algebra.packed import read_packed, update_packed
from sevenfold.types import Floats, Ints

Event = tuple[int, int, float, int]
"""event_us, known_us, x (NaN for null), mark (0 for null)."""


class OneKey:
    """The packed state of one key."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.words: Ints = np.empty(0, dtype=np.int64)

    def apply(self, events: Sequence[Event]) -> OneKey:
        """The state after `events`, in log order."""
        groups = Groups(np.array([0, len(events)]), np.arange(len(events)))
        place = np.array([[0, 8 * len(self.words)]])
        self.words, _, damaged = update_packed(
            self.layout, self.words, place, groups, columns(events)
        )
        assert damaged == -1
        return self

    def read(self, t_us: int) -> Floats:
        """The values at `t_us`."""
        places = np.array([[0, 8 * len(self.words)]])
        return read_packed(self.layout, self.words, places, t_us)[0][0]


def columns(events: Sequence[Event]) -> Columns:
    event_us, known_us, x, marks = (
        (list(column) for column in zip(*events, strict=True)) if events else ([],) * 4
    )
    return Columns(
        np.array(event_us, dtype=np.int64),
        np.array(known_us, dtype=np.int64),
        np.array(x, dtype=np.float64).reshape(-1, 1),
        np.array(marks, dtype=np.int64).reshape(-1, 1),
    )


@pytest.fixture(scope="session")
def one_key() -> Callable[[Layout], OneKey]:
    """A key that has seen nothing."""
    return OneKey
