"""Grouping by hash is what dictionaries would say, however the hashes collide."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.algebra.grouping import bucket, byte_order, group, match

# Few low words with many high ones: equal slots, equal low words, and the null key among them.
pairs = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 17, 1 << 40, (1 << 64) - 1, (1 << 64) - 17]),
        st.sampled_from([0, 1, 2, 3, 1 << 63]),
    ),
    max_size=60,
)


def hashes(rows: list[tuple[int, int]]) -> np.ndarray:
    return np.array(rows, dtype=np.uint64).reshape(-1, 2)


@given(pairs)
def test_groups_are_numbered_as_they_first_appear(rows: list[tuple[int, int]]) -> None:
    ids, firsts = group(hashes(rows))
    number: dict[tuple[int, int], int] = {}
    assert ids.tolist() == [number.setdefault(row, len(number)) for row in rows]
    assert firsts.tolist() == [rows.index(row) for row in number]


@given(pairs, pairs)
def test_a_match_is_the_place_among_the_wanted(
    wanted: list[tuple[int, int]], rows: list[tuple[int, int]]
) -> None:
    different = list(dict.fromkeys(wanted))
    places = {row: i for i, row in enumerate(different)}
    expected = [-1 if row == (0, 0) else places.get(row, -1) for row in rows]
    assert match(hashes(different), hashes(rows)).tolist() == expected


@given(pairs)
def test_the_byte_order_is_that_of_the_bytes(rows: list[tuple[int, int]]) -> None:
    different = hashes(list(dict.fromkeys(rows)))
    ordered = [different[i].tobytes() for i in byte_order(different)]
    assert ordered == sorted(row.tobytes() for row in different)


@given(st.lists(st.integers(-1, 5), max_size=50), st.randoms())
def test_a_bucket_keeps_the_order_of_its_rows(ids: list[int], shuffle: object) -> None:
    order = list(range(len(ids)))
    shuffle.shuffle(order)  # type: ignore[attr-defined]
    for given_order in (None, np.array(order, dtype=np.int64)):
        starts, rows = bucket(np.array(ids, dtype=np.int64), 6, given_order)
        walked = range(len(ids)) if given_order is None else order
        for g in range(6):
            assert rows[starts[g] : starts[g + 1]].tolist() == [i for i in walked if ids[i] == g]
        assert len(rows) == starts[-1] == len([i for i in ids if i >= 0])


@pytest.mark.parametrize("same", ["low", "high", "slots"])
def test_thousands_of_colliding_hashes_stay_apart(same: str) -> None:
    n = 3_000
    numbers = np.arange(1, n + 1, dtype=np.uint64)
    rows = np.full((n, 2), 7, dtype=np.uint64)
    # In a table of 2^13 slots the low 13 bits alone choose the first slot to look at.
    rows[:, 1 if same == "low" else 0] = numbers << np.uint64(20) if same == "slots" else numbers
    ids, firsts = group(np.concatenate([rows, rows[::-1]]))
    assert len(firsts) == n
    assert ids.tolist() == [*range(n), *reversed(range(n))]
    assert match(rows, rows[::-1]).tolist() == list(reversed(range(n)))


def test_nothing_groups_into_nothing() -> None:
    ids, firsts = group(hashes([]))
    assert (len(ids), len(firsts)) == (0, 0)
    assert match(hashes([]), hashes([(1, 1)])).tolist() == [-1]
    starts, rows = bucket(np.empty(0, dtype=np.int64), 0)
    assert (starts.tolist(), rows.tolist()) == ([0], [])
