"""Filters and reranks give what their definitions say: known answers, and a second way of computing each."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sevenfold.serving.filtering import Filters, kept
from sevenfold.serving.reranking import (
    Reranking,
    capped,
    freshened,
    pinned,
    share_of_range,
    spread,
)
from sevenfold.spec.stage import Cap, Fresh, Keep, Pin, Spread

NAN = math.nan


def column(*values: float) -> np.ndarray:
    """Values as a feature has them."""
    return np.array(values, dtype=np.float32)


@pytest.mark.parametrize(
    ("keep", "stays"),
    [
        (Keep("x", low=1), [False, True, True, True, False]),
        (Keep("x", high=1), [True, True, False, False, False]),
        (Keep("x", low=1, high=2, nulls=True), [False, True, True, False, True]),
        (Keep("x", one_of=[0, 3]), [True, False, False, True, False]),
        (Keep("x", none_of=[0, 3]), [False, True, True, False, False]),
        (Keep("x", one_of=[0, 1], none_of=[0]), [False, True, False, False, False]),
        (Keep("x"), [True, True, True, True, False]),
        (Keep("x", high=0, nulls=True), [True, False, False, False, True]),
    ],
)
def test_a_filter_keeps_what_it_says(keep: Keep, stays: list[bool]) -> None:
    assert kept(keep, column(0, 1, 2, 3, NAN)).tolist() == stays


def test_a_bound_is_the_value_that_a_feature_can_have() -> None:
    assert kept(Keep("x", low=0.1, high=0.1), column(0.1)).all()
    assert kept(Keep("x", one_of=[0.1]), column(0.1)).all()


def test_all_filters_hold_and_only_those_that_must_when_late() -> None:
    filters = Filters.of([Keep("a", low=1), Keep("b", high=0, must=False), Keep("a", high=5)])
    assert filters.names == ("a", "b")
    rows = np.array([[1, 0], [0, 0], [2, 1], [6, 0]], dtype=np.float32)
    assert filters.stay(rows).tolist() == [True, False, False, False]
    must = filters.that_must()
    assert must.names == ("a",)
    assert must.stay(rows[:, :1]).tolist() == [True, False, True, False]


def test_worth_is_a_share_of_the_range() -> None:
    assert share_of_range(np.array([5.0, 5.0])).tolist() == [0.0, 0.0]
    assert share_of_range(np.array([-1e308, 0.0, 1e308])).tolist() == [0.0, 0.5, 1.0]
    assert share_of_range(np.empty(0)).tolist() == []


def test_freshness_halves_and_never_counts_against() -> None:
    ages = np.array([0.0, 10.0, 20.0, NAN, -5.0])
    assert freshened(np.zeros(5), ages, 10.0, 0.4).tolist() == pytest.approx(
        [0.4, 0.2, 0.1, 0.0, 0.4]
    )


def test_the_slate_is_spread() -> None:
    """Two items of one kind, and one of another that is worth less: at 0.5 it comes second."""
    like = np.array([[1, 0], [2, 0], [0, 1]], dtype=np.float32)
    worth = np.array([1.0, 0.9, 0.5])
    assert spread(np.arange(3), worth, like, 0.5, 3).tolist() == [0, 2, 1]
    assert spread(np.arange(3), worth, like, 1.0, 3).tolist() == [0, 1, 2]
    # 0.9 * 0.9 - 0.1 * 1 = 0.71 is more than 0.9 * 0.5 - 0 = 0.45
    assert spread(np.arange(3), worth, like, 0.9, 3).tolist() == [0, 1, 2]
    # At 0 only unlikeness counts, and the first is the first.
    assert spread(np.arange(3), worth, like, 0.0, 2).tolist() == [0, 2, 1]


def test_a_null_and_a_vector_of_zeros_are_like_nothing() -> None:
    like = np.array([[0, 0], [NAN, NAN], [1, 0]], dtype=np.float32)
    assert spread(np.arange(3), np.array([1.0, 0.5, 0.5]), like, 0.5, 3).tolist() == [0, 1, 2]


def test_a_cap_moves_what_is_over_it_behind_its_places() -> None:
    kinds = column(1, 1, 1, 2, 1, 2, NAN, NAN)
    rows = np.arange(8)
    assert capped(rows, kinds, 2, 4).tolist() == [0, 1, 3, 5, 2, 4, 6, 7]
    assert capped(rows, kinds, 1, 4).tolist() == [0, 3, 6, 7, 1, 2, 4, 5]
    # Only three are under a cap of 1 of these: the best over it fills the fourth place.
    assert capped(np.arange(5), column(1, 1, 2, 1, 3), 1, 4).tolist() == [0, 2, 4, 1, 3]
    assert capped(np.arange(2), column(1, 1), 1, 4).tolist() == [0, 1]


def test_a_pin_moves_the_best_that_fits_and_leaves_other_pins() -> None:
    fits = np.array([False, False, True, True, False])
    assert pinned(np.arange(5), fits, 1).tolist() == [2, 0, 1, 3, 4]
    assert pinned(np.arange(5), fits, 3).tolist() == [0, 1, 2, 3, 4]
    assert pinned(np.arange(5), fits, 5).tolist() == [0, 1, 2, 3, 4]  # none fits from there on
    assert pinned(np.arange(5), fits, 9).tolist() == [0, 1, 2, 3, 4]
    assert pinned(np.arange(5), ~fits, 3, filled=[4]).tolist() == [0, 1, 4, 3, 2]


def test_steps_follow_each_other() -> None:
    """Fresh lifts row 3, the cap lets one of kind 1 in, the pin brings row 2 to the second place."""
    steps = [
        Fresh("age", half_life="10 s", weight=1.0),
        Cap("kind", most=1),
        Pin(2, Keep("kind", one_of=[3])),
    ]
    vectors = np.array([[1, NAN], [1, NAN], [3, NAN], [2, 0]], dtype=np.float32)
    reranking = Reranking(steps, ["kind", "age"])
    scores = np.array([4.0, 3.0, 2.0, 1.5])
    assert reranking.order(scores, vectors, 3).tolist() == [0, 2, 3, 1]


def test_two_pins_keep_their_places() -> None:
    steps = [Pin(1, Keep("kind", one_of=[3])), Pin(2, Keep("kind", one_of=[2]))]
    vectors = np.array([[1], [2], [3]], dtype=np.float32)
    order = Reranking(steps, ["kind"]).order(np.array([3.0, 2.0, 1.0]), vectors, 3)
    assert order.tolist() == [2, 1, 0]
    steps = [Pin(2, Keep("kind", one_of=[3])), Pin(1, Keep("kind", one_of=[2]))]
    assert Reranking(steps, ["kind"]).order(np.array([3.0, 2.0, 1.0]), vectors, 3).tolist() == [
        1,
        2,
        0,
    ]


small = st.integers(0, 3)


@given(
    st.lists(st.tuples(small, small, small), max_size=9),
    st.integers(1, 6),
    st.sampled_from([0, 0.3, 0.5, 1]),
)
def test_spread_is_the_greedy_choice(rows: list[tuple[int, int, int]], k: int, part: float) -> None:
    """By the definition, one pair at a time; whole numbers, so that both ways round alike."""
    worth = np.array([row[0] / 4 for row in rows], dtype=np.float64)
    vectors = np.array([row[1:] for row in rows], dtype=np.float32).reshape(len(rows), 2)
    order = np.argsort(-worth, kind="stable")
    got = spread(order, worth, vectors, part, k).tolist()
    assert sorted(got) == list(range(len(rows)))
    for place, row in enumerate(got[:k]):
        gains = [gain(part, worth, vectors, got[:place], other) for other in got[place:]]
        assert gain(part, worth, vectors, got[:place], row) >= max(gains) - 1e-9
    assert got[k:] == [row for row in order.tolist() if row not in got[:k]]


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """The cosine of two vectors, 0 with a vector of zeros."""
    lengths = math.hypot(*a) * math.hypot(*b)
    return float(a @ b) / lengths if lengths else 0.0


def gain(part: float, worth: np.ndarray, vectors: np.ndarray, above: list[int], row: int) -> float:
    """What a row adds to a slate."""
    likes = [cosine(vectors[row], vectors[other]) for other in above]
    return float(part * worth[row] - (1 - part) * max(likes, default=0.0))


@given(
    st.lists(st.sampled_from([1.0, 2.0, 3.0, NAN]), max_size=12),
    st.integers(1, 3),
    st.integers(1, 8),
)
def test_a_cap_holds_wherever_it_can(values: list[float], most: int, within: int) -> None:
    kinds = column(*values)
    got = capped(np.arange(len(values)), kinds, most, within).tolist()
    assert sorted(got) == list(range(len(values)))
    room = sum(
        1 if math.isnan(kind) else min(most, values.count(kind))
        for kind in {*(v for v in values if not math.isnan(v))}
    ) + sum(math.isnan(v) for v in values)
    places = min(within, room)
    for kind in {v for v in values if not math.isnan(v)}:
        rows = [row for row in got[:places] if values[row] == kind]
        assert len(rows) <= most
        assert rows == sorted(rows)


@given(st.lists(st.booleans(), max_size=8), st.integers(1, 9))
def test_a_pin_keeps_the_order_of_the_others(fits: list[bool], position: int) -> None:
    n = len(fits)
    got = pinned(np.arange(n), np.array(fits, dtype=np.bool_), position).tolist()
    found = next((row for row in range(position - 1, n) if fits[row]), None)
    if found is None:
        assert got == list(range(n))
    else:
        assert got[position - 1] == found
        assert [row for row in got if row != found] == [row for row in range(n) if row != found]


STEPS = st.lists(
    st.sampled_from(
        [
            Fresh("age", half_life="2 s", weight=0.5),
            Spread(["kind", "age"], relevance=0.3),
            Cap("kind", most=1),
            Pin(2, Keep("kind", one_of=[1])),
            Pin(4, Keep("age", low=2)),
        ]
    ),
    max_size=3,
    unique_by=id,
)


@given(STEPS, st.lists(st.tuples(small, small, small), max_size=9), st.integers(1, 6))
@example(
    [Cap("kind", most=1), Pin(2, Keep("age", low=2))],
    [(2, 2, 0), (1, 2, 2), (0, 3, 1), (0, 0, 2)],
    2,
)
def test_fewer_are_the_beginning_of_the_usual_slate(
    steps: list[Any], rows: list[tuple[int, int, int]], k: int
) -> None:
    scores = np.array([row[0] for row in rows], dtype=np.float64)
    vectors = np.array([row[1:] for row in rows], dtype=np.float32).reshape(len(rows), 2)
    reranking = Reranking(steps, ["kind", "age"], 6)
    usual = reranking.order(scores, vectors, 6)
    assert reranking.order(scores, vectors, k)[:k].tolist() == usual[:k].tolist()
