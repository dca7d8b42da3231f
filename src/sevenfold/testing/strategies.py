"""Event logs that look for trouble: few keys, ties, late events, nulls, cancelling sums, instants on edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from hypothesis import strategies as st

from sevenfold.types import EventBatch, Texts

__all__ = ["Log", "Read", "logs"]

T = TypeVar("T")
Read = tuple[int, str, str]
"""An instant, a user and an item."""

_MINUTE_US = 60_000_000
_HOUR_US = 60 * _MINUTE_US
_DAY_US = 24 * _HOUR_US
# Each log draws from one palette a column: what meets by chance in a mixed log, ties and sums that cancel, is
# common in a log of its own.
_STEPS_US = (
    (0, 0, 0, 0, 1, _MINUTE_US - 1, _MINUTE_US, _HOUR_US, _HOUR_US + 1, _DAY_US, 8 * _DAY_US),
    (0, 0, 1, 1_000_000),
    (_HOUR_US, _DAY_US),
)
_DELAYS_US = ((0, 0, 0, 1, _MINUTE_US, _HOUR_US, 3 * _DAY_US, 40 * _DAY_US), (0,), (0, 1))
# Events at the first instant of a tile and at the last of the one before it.
_GRAINS_US = ((1, 1, _MINUTE_US, _HOUR_US, _DAY_US), (1,), (_DAY_US,))
_NUDGES_US = ((0, 0, 1), (0,))
_STARTS_US = (400 * _DAY_US, 400 * _DAY_US + 1_000_003, -2 * _DAY_US)
_NUMBERS = (
    (float("nan"), 0.0, -0.0, 1.0, -1.0, 0.1, 2.5, 1e16, -1e16, 1e-9, 1e300, -1e300, 5e-324),
    (1e16, -1e16, 1.0, 0.1),
    (1e16, 1e16 + 2, 1e16 - 2, float("nan")),
    (1.7e308, -1.7e308, 1e160, -1e160, 1e120, 3.0),
    (float("nan"), 1.0, 2.5, 3.0),
)
_USERS = (("a", "a", "b", None), ("a",))
_ITEMS = (("x", "y"),)
# Some tags are the names of items and users, so that links through them lead somewhere.
_VECTORS = (
    ((1.0, -2.0, 0.5), (0.1, 1e-40, 3e38), (float("nan"),) * 3),
    ((-0.0, 1.0, 2.0), (5.0, 4.0, 3.0)),
)
_TAGS = (("t1", "t2", "t3", None), ("x", "y", "a", None), ("x", "b"))
_WINDOWS_US = (
    (_HOUR_US, _MINUTE_US),
    (_DAY_US, _HOUR_US),
    (_DAY_US, _DAY_US // 2),
    (_DAY_US, _DAY_US),
    (7 * _DAY_US, _HOUR_US),
    (30 * _DAY_US, _DAY_US),
)


@dataclass(frozen=True, slots=True, eq=False)
class Log:
    """Events in log order, where to cut them into batches, and what to read when."""

    batch: EventBatch
    cuts: list[int]
    reads: list[Read]


@st.composite
def logs(
    draw: st.DrawFn,
    stream: str = "s",
    largest: int = 24,
    windows_us: Sequence[tuple[int, int]] = _WINDOWS_US,
) -> Log:
    """A log of at most `largest` events of a stream with keys user and item, fields x, tag and v, a vector of three.

    `windows_us` are the windows with their hops at whose ends to read.
    """
    n = draw(st.integers(1, largest))
    known = draw(st.sampled_from(_STARTS_US)) + np.cumsum(_column(draw, _STEPS_US, n))
    event = known - np.array(_column(draw, _DELAYS_US, n))
    grain = np.array(_column(draw, _GRAINS_US, n))
    event = event // grain * grain - np.array(_column(draw, _NUDGES_US, n))
    batch = EventBatch(
        stream,
        event.astype(np.int64),
        known.astype(np.int64),
        Texts.of([f"e{i:03d}" for i in range(n)]),
        {
            "user": Texts.of(_column(draw, _USERS, n)),
            "item": Texts.of(_column(draw, _ITEMS, n)),
        },
        {
            "x": np.array(_column(draw, _NUMBERS, n)),
            "tag": Texts.of(_column(draw, _TAGS, n)),
            "v": np.array(_column(draw, _VECTORS, n)),
        },
    )
    cuts = sorted(draw(st.sets(st.integers(1, n), max_size=4)) | {n})
    reads = draw(st.lists(_reads(batch, windows_us), min_size=1, max_size=8))
    return Log(batch, cuts, reads)


def _column(draw: st.DrawFn, palettes: Sequence[Sequence[T]], n: int) -> list[T]:
    values = draw(st.sampled_from(palettes))
    return draw(st.lists(st.sampled_from(values), min_size=n, max_size=n))


def _reads(batch: EventBatch, windows_us: Sequence[tuple[int, int]]) -> st.SearchStrategy[Read]:
    """Reads as events happen, become known, grow as old as a window, and leave it with their tile."""
    known, happened = (
        st.sampled_from(sorted(set(us.tolist()))) for us in (batch.known_us, batch.event_us)
    )
    windows = st.sampled_from(list(windows_us))
    aged = st.builds(lambda event, window: event + window[0], happened, windows)
    leaving = st.builds(
        lambda event, window: (event // window[1] + 1) * window[1] + window[0], happened, windows
    )
    # A microsecond before and after as well.
    instants = st.builds(
        lambda edge, nudge: edge + nudge,
        st.one_of(known, happened, aged, leaving),
        st.sampled_from((0, 0, -1, 1)),
    )
    return st.tuples(
        instants, st.sampled_from(["a", "a", "b", "nobody"]), st.sampled_from(["x", "y"])
    )
