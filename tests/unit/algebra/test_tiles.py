"""Tiles at rest: every bit of what was worked on, in as few words as it takes, and nothing read beyond them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.algebra.grouping import bucket
from sevenfold.algebra.layout import (
    COUNT,
    COUNT_ALL,
    MAX,
    MIN,
    SUM,
    Columns,
    Groups,
    Layout,
    Read,
    Slices,
    lay_out,
)
from sevenfold.algebra.packed import read_packed, update_packed
from sevenfold.algebra.replay import replay
from sevenfold.stores.kv import laid_out
from sevenfold.types import Floats, Ints

HOUR = 3_600
LONG = 3_600_000_000  # its numbers share a word with how many there are
COLUMN = [
    Read(kind, column, window, HOUR)
    for kind in (COUNT, SUM, MIN, MAX)
    for column in (0, 1)
    for window in (2 * HOUR, 9 * HOUR)
]
EVENTS = [Read(COUNT_ALL, -1, window, HOUR) for window in (2 * HOUR, 5 * HOUR, 9 * HOUR)]
MANY = [Read(COUNT_ALL, -1, 5_000 * HOUR, HOUR), Read(SUM, 1, 5_000 * HOUR, HOUR)]
LAYOUTS = {
    "counts and columns": lay_out([*EVENTS, *COLUMN]),
    "columns": lay_out(COLUMN),
    "counts": lay_out(EVENTS),
    "with room for many": lay_out([*MANY, *EVENTS, *COLUMN]),
    "of all time": lay_out([Read(COUNT_ALL), Read(SUM, 0), Read(MIN, 1)]),
}
# Few values, so that sums cancel, and each that has bits of its own.
VALUES = st.sampled_from([np.nan, -0.0, 0.0, 1.0, -1.0, 1e16, 5e-324])
HAPPENED = st.lists(
    st.tuples(st.integers(-20 * HOUR, 20 * HOUR), VALUES, VALUES), min_size=1, max_size=30
)


def of_one_key(events: list[tuple[int, float, float]]) -> Columns:
    event_us = np.array([event[0] for event in events], dtype=np.int64)
    known_us = np.maximum.accumulate(event_us)
    numbers = np.array([event[1:] for event in events], dtype=np.float64).reshape(-1, 2)
    return Columns(event_us, known_us, numbers, np.empty((len(events), 0), dtype=np.int64))


def applied(layout: Layout, columns: Columns, cuts: list[int]) -> tuple[Ints, Ints]:
    words, ends = np.empty(0, dtype=np.int64), np.zeros(1, dtype=np.int64)
    for rows in np.split(np.arange(len(columns.known_us)), cuts):
        part = Columns(*(column[rows] for column in columns))
        events = Groups(np.array([0, len(rows)]), np.arange(len(rows)))
        words, ends, damaged = update_packed(layout, words, places(ends), events, part)
        assert damaged == -1
    return words, ends


def replayed(layout: Layout, columns: Columns, t_us: int) -> tuple[Floats, np.ndarray]:
    out = np.empty((layout.n_reads, 1)), np.empty((layout.n_reads, 1), np.uint8)
    keys = Slices(np.array([0]), np.array([len(columns.known_us)]))
    replay(layout, keys, columns, Groups(np.array([0, 1]), np.array([0])), np.array([t_us]), out)
    return out[0].T, out[1].T


def places(ends: Ints) -> Ints:
    """Where packed states lie that end at these words."""
    return laid_out(b"", 8 * np.diff(ends, prepend=0))[1]


@pytest.mark.parametrize("name", LAYOUTS)
@given(HAPPENED, st.lists(st.integers(0, 30), max_size=4), st.integers(1, 12 * HOUR))
def test_what_lies_there_is_read_as_what_is_worked_on(
    name: str, events: list[tuple[int, float, float]], cuts: list[int], later: int
) -> None:
    layout, columns = LAYOUTS[name], of_one_key(events)
    words, ends = applied(layout, columns, sorted(min(cut, len(events)) for cut in cuts))
    whole, _ = applied(layout, columns, [])
    assert words.tobytes() == whole.tobytes()
    t_us = int(columns.known_us[-1]) + later
    values, states, damaged = read_packed(layout, words, places(ends), t_us)
    assert damaged == -1
    expected, expected_states = replayed(layout, columns, t_us)
    assert values.tobytes() == expected.tobytes()
    assert states.tobytes() == expected_states.tobytes()


@pytest.mark.parametrize(
    ("hop_us", "tiles", "head"), [(LONG, 9, 1), (HOUR, 9, 2), (LONG, 5_000, 1), (HOUR, 5_000, 2)]
)
def test_a_tile_of_few_events_takes_a_part_of_a_word_and_their_values(
    hop_us: int, tiles: int, head: int
) -> None:
    layout = lay_out([Read(SUM, column, tiles * hop_us, hop_us) for column in (0, 1)])
    a_word = 4 if tiles < 4_096 else 2
    for events, words in ((1, 1), (2, 2), (3, 3), (4, 4), (9, 4)):
        happened = [
            (hour * hop_us + i, 0.1 * (i + 1), 0.3 / (i + 1))
            for hour in range(8)
            for i in range(events)
        ]
        packed, _ = applied(layout, of_one_key(happened), [])
        assert len(packed) == layout.fixed + head + 8 // a_word + 8 * 2 * words
    assert layout.least == layout.fixed + head


def test_a_tile_of_more_events_with_a_null_is_kept_as_it_is_worked_on() -> None:
    layout = LAYOUTS["counts and columns"]
    words, _ = applied(layout, of_one_key([(0, 1.5, np.nan), (1, 1.5, 2.5)]), [])
    assert len(words) == layout.fixed + 2 + 1 + (1 + 2 * 5)


@given(st.lists(st.floats(0.01, 10_000), min_size=1, max_size=40))
def test_of_ordinary_values_no_tile_is_kept_as_it_is_worked_on(values: list[float]) -> None:
    layout = lay_out([Read(SUM, 0, 9 * LONG, LONG)])
    columns = of_one_key([(i // 3, x, x) for i, x in enumerate(values)])
    words, _ = applied(layout, columns, [])
    assert len(words) == layout.fixed + 2 + min(len(values), 4)


def test_a_minus_zero_is_least_and_no_sum() -> None:
    layout = LAYOUTS["of all time"]
    columns = of_one_key([(0, -0.0, -0.0)])
    words, ends = applied(layout, columns, [])
    values, _, _ = read_packed(layout, words, places(ends), HOUR)
    assert np.signbit(values).tolist() == [[False, False, True]]


def test_a_damaged_state_that_would_take_more_room_than_it_has_is_told() -> None:
    layout = lay_out([Read(SUM, column, 9 * LONG, LONG) for column in (0, 1)])
    words, ends = applied(layout, of_one_key([(i, 1.0 + i, 2.0 + i) for i in range(4)]), [])
    torn = words.copy()
    torn[-1] ^= 1  # of four events by one column, and of five by the other
    nothing = Groups(np.array([0, 0]), np.empty(0, np.int64))
    assert update_packed(layout, words, places(ends), nothing, of_one_key([]))[2] == -1
    assert update_packed(layout, torn, places(ends), nothing, of_one_key([]))[2] == 0
    two = np.concatenate([words, torn]), np.array([len(words), 2 * len(words)])
    nothing = Groups(np.array([0, 0, 0]), np.empty(0, np.int64))
    assert update_packed(layout, two[0], places(two[1]), nothing, of_one_key([]))[2] == 1


@pytest.mark.parametrize("name", LAYOUTS)
@given(HAPPENED)
def test_no_state_takes_more_words_than_there_may_be(
    name: str, events: list[tuple[int, float, float]]
) -> None:
    layout = LAYOUTS[name]
    words, _ = applied(layout, of_one_key(events), [])
    assert len(words) <= min(layout.most, layout.least + len(events) * layout.growth)


@pytest.mark.parametrize("hop_us", [HOUR, LONG])
@given(HAPPENED, st.data())
def test_a_damaged_word_is_told_or_read_as_another_state(
    hop_us: int, events: list[tuple[int, float, float]], data: st.DataObject
) -> None:
    layout = lay_out([Read(SUM, column, 9 * hop_us, hop_us) for column in (0, 1)])
    happened = [(event[0] * (hop_us // HOUR), *event[1:]) for event in events]
    words, ends = applied(layout, of_one_key(happened), [])
    place = data.draw(st.integers(layout.fixed, len(words) - 1))
    bit = data.draw(st.integers(0, 63))
    head = layout.fixed + layout.tables.levels[0, 9]
    n = int(words[layout.fixed]) & 0x1FFFF
    words[place] ^= np.uint64(1 << bit).astype(np.int64)
    nothing = of_one_key([])
    again, _, told = update_packed(
        layout, words, places(ends), bucket(np.empty(0, np.int64), 1), nothing
    )
    is_told = told == 0
    _, _, damaged = read_packed(layout, words, places(ends), 20 * hop_us)
    # Else it is within its bounds, whatever it says.
    assert is_told or (damaged == -1 and len(again) <= len(words))
    if place == layout.fixed and (bit < 17 or hop_us == HOUR):
        assert is_told
    tile = 4 * (place - head) + bit // 16
    if head <= place < head + -(-n // 4) and (bit % 16 < 3 or tile >= n):
        assert is_told
