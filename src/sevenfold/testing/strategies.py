"""Event logs that look for trouble: few keys, ties, late events, nulls, cancelling sums, instants on edges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from sevenfold.types import EventBatch, Texts

__all__ = ["Log", "logs"]

_MINUTE_US = 60_000_000
_HOUR_US = 60 * _MINUTE_US
_DAY_US = 24 * _HOUR_US
# Nought comes often: events at one instant, whose order is a matter of ties.
_STEPS_US = (
    *(0, 0, 0, 0, 1, 1_000_000),
    *(_MINUTE_US - 1, _MINUTE_US, _HOUR_US, _HOUR_US + 1, _DAY_US, 8 * _DAY_US),
)
_DELAYS_US = (0, 0, 0, 1, _MINUTE_US, _HOUR_US, 3 * _DAY_US, 40 * _DAY_US)
_NUMBERS = (0.0, 1.0, -1.0, 0.1, 2.5, 1e16, -1e16, 1e-9, 3.0, float("nan"))


@dataclass(frozen=True, slots=True, eq=False)
class Log:
    """Events in log order, where to cut them into batches, and instants to read at."""

    batch: EventBatch
    cuts: list[int]
    reads: list[tuple[int, str, str]]


@st.composite
def logs(draw: st.DrawFn, stream: str = "s", largest: int = 24) -> Log:
    """A log of at most `largest` events of a stream with keys user and item, fields x and tag."""
    n = draw(st.integers(1, largest))
    steps = draw(st.lists(st.sampled_from(_STEPS_US), min_size=n, max_size=n))
    known = 400 * _DAY_US + draw(st.integers(0, 2)) * 1_000_003 + np.cumsum(steps)
    delays = np.array(draw(st.lists(st.sampled_from(_DELAYS_US), min_size=n, max_size=n)))
    ids = sorted(f"e{i:03d}" for i in range(n))
    users = draw(st.lists(st.sampled_from(["a", "b", None]), min_size=n, max_size=n))
    items = draw(st.lists(st.sampled_from(["x", "y"]), min_size=n, max_size=n))
    tags = draw(st.lists(st.sampled_from(["t1", "t2", "t3", None]), min_size=n, max_size=n))
    numbers = draw(st.lists(st.sampled_from(_NUMBERS), min_size=n, max_size=n))
    batch = EventBatch(
        stream,
        (known - delays).astype(np.int64),
        known.astype(np.int64),
        Texts.of(ids),
        {"user": Texts.of(users), "item": Texts.of(items)},
        {"x": np.array(numbers), "tag": Texts.of(tags)},
    )
    cuts = sorted(draw(st.sets(st.integers(1, n), max_size=4)) | {n})
    reads = draw(st.lists(_reads(batch), min_size=1, max_size=8))
    return Log(batch, cuts, reads)


def _reads(batch: EventBatch) -> st.SearchStrategy[tuple[int, str, str]]:
    edges = sorted({*batch.known_us.tolist(), *batch.event_us.tolist()})
    offsets = (
        0,
        1,
        -1,
        _MINUTE_US,
        _HOUR_US,
        _HOUR_US + _MINUTE_US,
        _DAY_US,
        7 * _DAY_US,
        31 * _DAY_US,
    )
    instants = st.builds(
        lambda edge, offset, nudge: edge + offset + nudge,
        st.sampled_from(edges),
        st.sampled_from(offsets),
        st.sampled_from((-1, 0, 1)),
    )
    return st.tuples(instants, st.sampled_from(["a", "b", "nobody"]), st.sampled_from(["x", "y"]))
