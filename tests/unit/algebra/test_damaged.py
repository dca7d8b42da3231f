"""A damaged state is told of or read as another one: whatever its words say, nothing is read or written outside of it.

Compiled, what lies outside of an array is written all the same. `tests/laws/test_packed_mutants.py` has these run uncompiled, where it is an error.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.algebra.layout import Groups, Layout, Read, lay_out
from sevenfold.algebra.packed import read_packed, update_packed
from sevenfold.algebra.reads import (
    AGE,
    COUNT,
    COUNT_ALL,
    DISTINCT,
    FIRST,
    LAST,
    LAST_K,
    QUANTILE,
    SUM,
    TOP_K,
    VAR,
)
from sevenfold.algebra.update import update
from sevenfold.compiled import COMPILES
from sevenfold.types import Ints
from tests.unit.algebra.conftest import Event, columns

HOUR = 3_600
FEW = {"window_us": 2 * HOUR, "hop_us": HOUR}
LAYOUTS = {
    "sums": lay_out([Read(COUNT_ALL, **FEW), Read(SUM, 0, **FEW), Read(COUNT, 0, 9 * HOUR, HOUR)]),
    "of all time": lay_out([Read(COUNT_ALL), Read(SUM, 0), Read(DISTINCT, 0, cap=2, error=0.4)]),
    "spreads and firsts": lay_out([Read(VAR, 0, **FEW), Read(FIRST, 0, **FEW)]),
    "values of many": lay_out(
        [
            Read(DISTINCT, 0, cap=2, error=0.4, **FEW),
            Read(LAST_K, 0, k=3),
            Read(QUANTILE, 0, q=0.5, error=0.2, smallest=0.5, largest=4.0, **FEW),
            Read(TOP_K, 0, k=2, tracked=2, **FEW),
        ]
    ),
    "the newest": lay_out([Read(LAST, 0), Read(AGE, 0)]),
}
EVENTS = st.lists(
    st.tuples(
        st.integers(0, 9 * HOUR),
        st.sampled_from([np.nan, -0.0, 0.5, 1.0, 3.0, -7.0, 1e16]),
        st.integers(0, 9),
    ),
    max_size=12,
)
WORDS = st.one_of(
    st.integers(0, 40),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.floats(allow_nan=True).map(lambda x: int(np.float64(x).view(np.int64))),
)
DAMAGE = st.lists(
    st.one_of(
        st.tuples(st.just("word"), st.integers(0, 400), WORDS),
        st.tuples(st.just("bit"), st.integers(0, 400), st.integers(0, 63)),
        st.tuples(st.just("copy"), st.integers(0, 400), st.integers(0, 400)),
    ),
    min_size=1,
    max_size=4,
)


def happened(drawn: list[tuple[int, float, int]], since_us: int = 0) -> list[Event]:
    """Events in the order in which they became known."""
    events, known_us = [], since_us
    for event_us, x, mark in drawn:
        known_us = max(known_us, since_us + event_us)
        events.append((since_us + event_us, known_us, x, mark))
    return events


def applied(layout: Layout, words: Ints, events: list[Event]) -> tuple[Ints, int]:
    groups = Groups(np.array([0, len(events)]), np.arange(len(events)))
    place = np.array([[0, 8 * len(words)]])
    try:
        new, _, damaged = update_packed(layout, words, place, groups, columns(events))
    except OverflowError:  # of a number too large for a word, which goes round in what is compiled
        assert not COMPILES
        return words, 0
    return new, damaged


def damage(words: Ints, done: list[tuple[str, int, int]]) -> Ints:
    torn = words.copy()
    for how, at, what in done:
        place = at % len(torn)
        if how == "word":
            torn[place] = what
        elif how == "bit":
            torn[place] ^= np.uint64(1 << what).astype(np.int64)
        else:
            torn[place] = torn[what % len(torn)]
    return torn


@pytest.mark.parametrize("name", LAYOUTS)
@given(EVENTS, DAMAGE, EVENTS)
def test_whatever_a_state_says_it_is_told_or_it_stays_within_its_bounds(
    name: str,
    before: list[tuple[int, float, int]],
    done: list[tuple[str, int, int]],
    after: list[tuple[int, float, int]],
) -> None:
    layout = LAYOUTS[name]
    words, _ = applied(layout, np.empty(0, dtype=np.int64), happened([(0, 1.0, 1), *before]))
    torn = damage(words, done)
    place = np.array([[0, 8 * len(torn)]])
    read_packed(layout, torn, place, 9 * HOUR)
    later = happened(after, 9 * HOUR)
    new, told = applied(layout, torn, later)
    assert told == 0 or len(new) <= max(len(torn), layout.least) + len(later) * layout.growth
    if told:
        read_packed(layout, new, np.array([[0, 8 * len(new)]]), 18 * HOUR)


def filled(layout: Layout, since_us: int = 0) -> Ints:
    """A state of many different values in each of its tiles."""
    values = [(hour * HOUR + i, 0.5 + i, 1 + i) for hour in range(4) for i in range(9)]
    return applied(layout, np.empty(0, dtype=np.int64), happened(values, since_us))[0]


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_word_may_be_any_other(name: str) -> None:
    """With the words of full states, one by one, by what could lie there: a count, a time, a number, nothing."""
    layout = LAYOUTS[name]
    words = filled(layout)
    others = [
        0,
        1,
        -1,
        7,
        63,
        1 << 40,
        -(1 << 63),
        (1 << 63) - 1,
        int(words.max()),
        int(words.min()),
    ]
    for at in range(len(words)):
        for other in others:
            torn = words.copy()
            torn[at] = other
            read_packed(layout, torn, np.array([[0, 8 * len(torn)]]), 5 * HOUR)
            new, told = applied(layout, torn, happened([(0, 2.0, 3), (HOUR, 4.0, 5)], 4 * HOUR))
            assert told == 0 or len(new) <= len(torn) + 2 * layout.growth


@pytest.mark.parametrize("name", ["sums", "of all time", "spreads and firsts", "values of many"])
def test_a_full_state_takes_no_more_than_it_has_room_for(name: str) -> None:
    """Each level and section has as many entries as it may, and none that may be dropped: only damage makes it so."""
    layout = LAYOUTS[name]
    tables = layout.tables
    now_us, spare = 100 * HOUR, 64
    work = np.zeros(layout.words + spare, dtype=np.int64)
    work[layout.words :] = 77
    for offset, capacity, record in tables.levels[:, [3, 4, 5]].tolist():
        work[offset] = capacity
        work[offset + 1 : offset + 1 + capacity * record : record] = now_us - HOUR + 1
    for capacity, record, offset in tables.sections[:, [2, 3, 4]].tolist():
        work[offset] = capacity
        entries = work[offset + 1 : offset + 1 + capacity * record].reshape(capacity, record)
        entries[:, 0], entries[:, 1] = np.arange(capacity) << 6, now_us
    for cap, offset in tables.distincts[:, [1, 4]].tolist():
        work[offset] = cap + 1
        work[offset + 2 : offset + 2 + 2 * (cap + 1) : 2] = now_us
    full = work.copy()
    given = columns([(now_us, now_us, 3.0, 99), (now_us + HOUR, now_us + HOUR, -7.0, 98)])
    for row in range(2):
        update(tables, work, work.view(np.float64), given, row, int(given.known_us[row]))
    counts = [*tables.levels[:, 3], *tables.sections[:, 4], *tables.distincts[:, 4]]
    assert all(work[at] <= full[at] for at in counts)
    assert (work[layout.words :] == 77).all()
