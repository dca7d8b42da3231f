"""States at rest: cut the log into batches anywhere, mix the keys anyhow, and the bytes are the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sevenfold.algebra.replay as replay_module
from sevenfold.algebra.grouping import bucket
from sevenfold.algebra.layout import (
    ATTRIBUTE,
    COUNT_ALL,
    DECAYED,
    DISTINCT,
    LAST,
    MAX,
    MEAN,
    SINCE_LAST,
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
from sevenfold.types import Floats, Ints, VectorState

States = np.ndarray[tuple[int, int], np.dtype[np.uint8]]

KEYS = 3
NO_STATE = np.zeros((1, 2), dtype=np.int64)
LAYOUT = lay_out(
    [
        Read(COUNT_ALL),
        Read(SUM, 0, 50, 5),
        Read(MEAN, 1, 200, 5),
        Read(MAX, 1, 30, 1),
        Read(SUM, 0),
        Read(LAST, 0),
        Read(ATTRIBUTE, 1, 60, nulls=True),
        Read(SINCE_LAST),
        Read(DECAYED, 0, half_life_us=20),
        Read(DISTINCT, 0, cap=4),
        Read(DISTINCT, 0, 40, 5, cap=4),
    ]
)


def some_log(seed: int, n: int) -> tuple[Columns, Ints]:
    """Events of a few keys, a third of them late, and the key of each."""
    rng = np.random.default_rng(seed)
    known = np.sort(rng.integers(0, 600, n))
    late = np.where(rng.random(n) < 0.3, rng.integers(0, 300, n), 0)
    numbers = np.round(rng.normal(size=(n, 2)), 2)
    numbers[rng.random((n, 2)) < 0.2] = np.nan
    return Columns(known - late, known, numbers, rng.integers(0, 8, (n, 1))), rng.integers(
        0, KEYS, n
    )


def applied(layout: Layout, columns: Columns, key: Ints, cuts: list[int]) -> tuple[Ints, Ints]:
    words, ends = np.empty(0, dtype=np.int64), np.zeros(KEYS, dtype=np.int64)
    for rows in np.split(np.arange(len(key)), cuts):
        part = Columns(*(column[rows] for column in columns))
        words, ends, damaged = update_packed(
            layout, words, places(ends), bucket(key[rows], KEYS), part
        )
        assert damaged == -1
    return words, ends


def replayed(columns: Columns, key: Ints, reads: Groups, t_us: Ints) -> tuple[Floats, States]:
    events = bucket(key, KEYS)
    out = np.empty((LAYOUT.n_reads, len(t_us))), np.empty((LAYOUT.n_reads, len(t_us)), np.uint8)
    by_key = Columns(*(column[events.rows] for column in columns))
    replay(LAYOUT, Slices(events.starts[:-1], events.starts[1:]), by_key, reads, t_us, out)
    return out[0].T, out[1].T


def places(ends: Ints) -> Ints:
    """Where packed states lie that end at these words."""
    return laid_out(b"", 8 * np.diff(ends, prepend=0))[1]


@given(st.integers(0, 1_000), st.integers(0, 80), st.lists(st.integers(0, 80), max_size=6))
def test_batches_may_be_cut_anywhere(seed: int, n: int, cuts: list[int]) -> None:
    columns, key = some_log(seed, n)
    whole, whole_ends = applied(LAYOUT, columns, key, [])
    words, ends = applied(LAYOUT, columns, key, sorted(min(c, n) for c in cuts))
    assert words.tobytes() == whole.tobytes()
    assert ends.tolist() == whole_ends.tolist()


@given(st.integers(0, 1_000), st.integers(0, 80), st.integers(0, 900))
def test_the_replay_reads_what_the_packed_states_read(seed: int, n: int, t_us: int) -> None:
    columns, key = some_log(seed, n)
    now = int(np.searchsorted(columns.known_us, t_us))
    visible = Columns(*(column[:now] for column in columns))
    words, ends = applied(LAYOUT, visible, key[:now], [])
    packed = read_packed(LAYOUT, words, places(ends), t_us)
    reads = bucket(np.arange(KEYS), KEYS)
    then = replayed(columns, key, reads, np.full(KEYS, t_us))
    assert packed[0].tobytes() == then[0].tobytes()
    assert packed[1].tolist() == then[1].tolist()


def test_reads_of_a_replay_may_come_in_any_order_and_again() -> None:
    columns, key = some_log(5, 60)
    instants = np.array([700, 100, 400, 100, 100, 300])
    of_key = np.array([0, 1, 0, 1, 2, 0])
    by_time = np.argsort(instants, kind="stable")
    reads = bucket(of_key, KEYS, by_time)
    values, states = replayed(columns, key, reads, instants)
    for i, (t_us, k) in enumerate(zip(instants.tolist(), of_key.tolist(), strict=True)):
        alone = bucket(np.array([k]), KEYS)
        value, state = replayed(columns, key, alone, np.array([t_us]))
        assert value[0].tobytes() == values[i].tobytes()
        assert state[0].tolist() == states[i].tolist()


@pytest.mark.parametrize("held", [1, 2, 3, 7])
def test_reads_of_a_replay_are_the_same_however_few_are_held(
    held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns, key = some_log(7, 80)
    rng = np.random.default_rng(held)
    instants = rng.integers(1, 6, 40) * 120  # many of a key at one instant
    reads = bucket(rng.integers(0, KEYS, 40), KEYS, np.argsort(instants, kind="stable"))
    whole = replayed(columns, key, reads, instants)
    monkeypatch.setattr(replay_module, "_ROOM", held * LAYOUT.n_reads * 8)
    values, states = replayed(columns, key, reads, instants)
    assert values.tobytes() == whole[0].tobytes()
    assert states.tobytes() == whole[1].tobytes()


def test_an_unknown_key_reads_as_empty_windows() -> None:
    columns, key = some_log(5, 60)
    words, ends = applied(LAYOUT, columns, key, [])
    size = int(ends[0])
    at = places(np.array([0, size, size]))
    values, states, _ = read_packed(LAYOUT, words[:size], at, 700)
    assert values[0].tobytes() == values[2].tobytes()
    nan = np.nan
    np.testing.assert_array_equal(values[0], [0, 0, nan, nan, 0, nan, nan, nan, 0, 0, 0])
    missing = VectorState.MISSING
    assert states[0].tolist() == [missing if np.isnan(v) else VectorState.VALUE for v in values[0]]


@pytest.mark.parametrize(
    ("t_us", "state"), [(70, VectorState.VALUE), (109, VectorState.VALUE), (110, VectorState.STALE)]
)
def test_an_attribute_is_kept_while_it_is_younger_than_its_ttl(t_us: int, state: int) -> None:
    layout = lay_out([Read(ATTRIBUTE, 0, 60, nulls=True), Read(ATTRIBUTE, 0, nulls=True)])
    rows = Columns(
        np.array([50]), np.array([51]), np.array([[3.0]]), np.empty((1, 0), dtype=np.int64)
    )
    words, ends, _ = update_packed(
        layout, np.empty(0, np.int64), NO_STATE, bucket(np.zeros(1, np.int64), 1), rows
    )
    values, states, _ = read_packed(layout, words, places(ends), t_us)
    assert states[0].tolist() == [state, VectorState.VALUE]
    assert values[0, 1] == 3.0
    assert np.isnan(values[0, 0]) == (state == VectorState.STALE)


def test_a_known_null_is_not_a_missing_row() -> None:
    layout = lay_out([Read(ATTRIBUTE, 0, nulls=True)])
    rows = Columns(
        np.array([50]), np.array([51]), np.array([[np.nan]]), np.empty((1, 0), dtype=np.int64)
    )
    words, ends, _ = update_packed(
        layout, np.empty(0, np.int64), NO_STATE, bucket(np.zeros(1, np.int64), 1), rows
    )
    both, ends = np.concatenate([words]), np.array([len(words), len(words)])
    assert read_packed(layout, both, places(ends), 60)[1][:, 0].tolist() == [
        VectorState.NULL,
        VectorState.MISSING,
    ]


def test_windows_of_one_hop_share_their_tiles() -> None:
    alone = lay_out([Read(SUM, 0, 200, 5)])
    shared = lay_out([Read(SUM, 0, 200, 5), Read(MAX, 0, 50, 5), Read(MEAN, 0, 100, 5)])
    assert shared.words == alone.words
    assert len(shared.tables.levels) == 1
