"""A window covers floor((t - w) / h) * h <= event_us < t; dropping tiles changes no value."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.algebra.layout import (
    COUNT,
    COUNT_ALL,
    DECAYED,
    DISTINCT,
    LAST,
    MAX,
    MEAN,
    MIN,
    NEVER_US,
    SINCE_LAST,
    SUM,
    Read,
    lay_out,
)

Event = tuple[int, int, float, int]
WINDOWS = ((0, 0), (7, 1), (40, 5), (100, 5), (100, 10))
CAP = 6  # as many as there are
READS = [
    *(
        Read(kind, -1 if kind == COUNT_ALL else 0, window, hop, cap=CAP if kind == DISTINCT else 0)
        for kind in (COUNT_ALL, COUNT, SUM, MEAN, MIN, MAX, LAST, DISTINCT)
        for window, hop in WINDOWS
    ),
    Read(LAST, 0, nulls=True),
    Read(SINCE_LAST),
    Read(DECAYED, -1, half_life_us=16),
    Read(DECAYED, 0, half_life_us=16),
]

x = st.one_of(st.just(math.nan), st.integers(-50, 50).map(float))


@st.composite
def logs(draw: st.DrawFn) -> list[Event]:
    """Events in log order, some late by up to three of the longest windows."""
    drawn = draw(
        st.lists(
            st.tuples(st.integers(0, 400), st.integers(0, 300), x, st.integers(0, 6)), max_size=40
        )
    )
    return sorted(
        ((max(known - late, 0), known, value, mark) for known, late, value, mark in drawn),
        key=lambda event: event[1],
    )


def expected(read: Read, visible: list[Event], t_us: int) -> float:
    """The value by the words of the semantics, from all visible events."""
    tail = (t_us - read.window_us) // read.hop_us * read.hop_us if read.window_us else NEVER_US
    inside = [event for event in visible if event[0] >= tail]
    xs = [event[2] for event in inside if not math.isnan(event[2])]
    if read.kind == DECAYED:
        return math.fsum(decayed(read, inside, t_us))
    if read.kind == SINCE_LAST:
        return (t_us - max(e[0] for e in inside)) / 1e6 if inside else math.nan
    if read.kind == LAST:
        # max keeps the first of equals; the log's last word wins, so it is asked backwards.
        known = [e for e in reversed(inside) if read.nulls or not math.isnan(e[2])]
        return max(known, key=lambda e: e[0])[2] if known else math.nan
    if read.kind in (MEAN, MIN, MAX) and not xs:
        return math.nan
    simple: dict[int, Callable[[], float]] = {
        COUNT_ALL: lambda: len(inside),
        COUNT: lambda: len(xs),
        SUM: lambda: math.fsum(xs),
        MEAN: lambda: math.fsum(xs) / len(xs),
        MIN: lambda: min(xs),
        MAX: lambda: max(xs),
        DISTINCT: lambda: len({e[3] for e in inside if e[3]}),
    }
    return float(simple[read.kind]())


def decayed(read: Read, inside: list[Event], t_us: int) -> list[float]:
    """What each event adds to a decayed sum."""
    return [
        (1.0 if read.column < 0 else v) * 2.0 ** (-(t_us - e) / read.half_life_us)
        for e, _, v, _ in inside
        if read.column < 0 or not math.isnan(v)
    ]


def rounded(read: Read, visible: list[Event], t_us: int) -> float:
    """How far the value may be from what it should be: decayed sums are not compensated, and what they add may cancel out."""
    if read.kind != DECAYED:
        return 0.0
    return 1e-13 * math.fsum(map(abs, decayed(read, visible, t_us)))


@given(logs(), st.lists(st.integers(0, 500), min_size=1, max_size=4))
def test_every_aggregate_is_what_the_visible_events_say(
    one_key: Callable[..., Any], log: list[Event], instants: list[int]
) -> None:
    state = one_key(lay_out(READS))
    done = 0
    for t_us in sorted(instants):
        visible = [event for event in log if event[1] < t_us]
        state.apply(visible[done:])
        done = len(visible)
        wanted = [expected(read, visible, t_us) for read in READS]
        within = np.array([rounded(read, visible, t_us) for read in READS])
        found = state.read(t_us)
        close = np.isclose(found, wanted, rtol=1e-12, atol=within, equal_nan=True)
        assert close.all(), (np.flatnonzero(~close), found, wanted)


@pytest.mark.parametrize(
    ("t_us", "count"),
    [(109, 1), (110, 0), (101, 1), (100, 1), (99, 1)],
    ids=[
        "last instant of the hop",
        "next hop",
        "after the window",
        "as old as the window",
        "younger",
    ],
)
def test_an_event_stays_until_its_whole_tile_has_left(
    one_key: Callable[..., Any], t_us: int, count: int
) -> None:
    state = one_key(lay_out([Read(COUNT_ALL, -1, 100, 10)])).apply([(0, 0, 1.0, 0)])
    assert state.read(t_us).tolist() == [count]


@pytest.mark.parametrize(("event_us", "inside"), [(39, 0), (40, 1), (41, 1), (49, 1), (50, 1)])
def test_the_tail_begins_with_the_hop_that_holds_t_less_w(
    one_key: Callable[..., Any], event_us: int, inside: int
) -> None:
    reads = [
        Read(COUNT_ALL, -1, 100, 10),
        Read(LAST, 0, 100, 10),
        Read(DISTINCT, 0, 100, 10, cap=2),
    ]
    count, last, distinct = (
        one_key(lay_out(reads)).apply([(event_us, 120, 1.0, 9)]).read(145).tolist()
    )
    assert (count, distinct, not math.isnan(last)) == (inside, inside, bool(inside))


def test_instants_before_1970_fall_into_tiles_by_floor(one_key: Callable[..., Any]) -> None:
    state = one_key(lay_out([Read(COUNT_ALL, -1, 10, 10)])).apply(
        [(-11, -11, 1.0, 0), (-1, -1, 1.0, 0)]
    )
    assert state.read(0).tolist() == [1.0]


def test_a_state_holds_no_more_tiles_than_its_longest_window_can_reach(
    one_key: Callable[..., Any],
) -> None:
    layout = lay_out([Read(SUM, 0, 100, 10)])
    state = one_key(layout)
    most = 0
    for at in range(0, 5_000, 3):
        most = max(most, len(state.apply([(at, at, 1.0, 0)]).words))
    record = layout.tables.levels[0, 5]
    assert (most - layout.least) // record <= layout.tables.levels[0, 4]
    assert state.read(5_000).tolist() == [len([at for at in range(0, 5_000, 3) if at >= 4_900])]


def test_an_event_too_late_for_every_window_still_counts_for_the_lifetime(
    one_key: Callable[..., Any],
) -> None:
    state = one_key(lay_out([Read(COUNT_ALL), Read(COUNT_ALL, -1, 100, 10), Read(SINCE_LAST)]))
    state.apply([(1_000_000, 1_000_000, 1.0, 0), (3, 1_000_001, 1.0, 0)])
    assert state.read(2_000_000).tolist() == [2.0, 0.0, 1.0]


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 50)), max_size=60), st.integers(1, 10))
def test_a_distinct_count_is_exact_up_to_its_cap(
    one_key: Callable[..., Any], seen: list[tuple[int, int]], cap: int
) -> None:
    """Values of any order, with late ones: beyond the cap, never less; over the lifetime and over windows."""
    reads = [
        Read(DISTINCT, 0, cap=cap),
        Read(DISTINCT, 0, 20, 1, cap=cap),
        Read(DISTINCT, 0, 45, 1, cap=cap),
    ]
    state = one_key(lay_out(reads)).apply([(at, 51, 0.0, mark) for mark, at in seen])
    counts = [len({m for m, at in seen if at >= tail}) for tail in (0, 60 - 20, 60 - 45)]
    for got, n in zip(state.read(60).tolist(), counts, strict=True):
        assert got == n if n <= cap else got > cap


def test_ties_of_last_go_to_the_event_known_later(one_key: Callable[..., Any]) -> None:
    state = one_key(lay_out([Read(LAST, 0), Read(LAST, 0, nulls=True)]))
    state.apply([(5, 5, 1.0, 0), (5, 7, 2.0, 0), (4, 8, 3.0, 0), (5, 9, math.nan, 0)])
    values = state.read(10)
    assert values[0] == 2.0
    assert math.isnan(values[1])
