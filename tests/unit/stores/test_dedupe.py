"""A second delivery inside the horizon is refused, one beyond it accepted, in whatever batches they come."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.errors import InputError, StoreError
from sevenfold.stores.dedupe import fresh
from sevenfold.stores.memory import MemoryStore
from sevenfold.stores.tables import IDS
from sevenfold.types import US_PER_DAY, US_PER_S, Texts

DELIVERIES = st.lists(
    st.tuples(st.integers(0, 4 * US_PER_S), st.sampled_from("abcde")), max_size=30
)


def ask(
    store: MemoryStore, known: list[int], ids: list[str], horizon: int, stream: str = "s"
) -> list[bool]:
    with store.write() as txn:
        mask = fresh(txn, stream, Texts.of(ids), np.array(known, dtype=np.int64), horizon)
    answers: list[bool] = mask.tolist()
    return answers


def by_hand(deliveries: list[tuple[int, str]], horizon: int) -> list[bool]:
    accepted: dict[str, int] = {}
    mask = []
    for known, name in deliveries:
        new = name not in accepted or known - accepted[name] > horizon
        mask.append(new)
        if new:
            accepted[name] = known
    return mask


def test_the_first_occurrence_wins_in_a_batch_and_across_batches() -> None:
    store = MemoryStore()
    assert ask(store, [1, 2, 3], ["a", "b", "a"], US_PER_DAY) == [True, True, False]
    assert ask(store, [4, 5], ["c", "b"], US_PER_DAY) == [True, False]
    assert ask(store, [], [], US_PER_DAY) == []


def test_the_horizon_is_inclusive_and_a_refusal_does_not_lengthen_it() -> None:
    store = MemoryStore()
    assert ask(store, [0], ["a"], 10) == [True]
    assert ask(store, [6], ["a"], 10) == [False]
    assert ask(store, [10], ["a"], 10) == [False]
    assert ask(store, [11], ["a"], 10) == [True]


def test_streams_have_ids_of_their_own() -> None:
    store = MemoryStore()
    assert ask(store, [1], ["a"], 10, "s") == [True]
    assert ask(store, [2], ["a"], 10, "t") == [True]
    assert ask(store, [3], ["a"], 10, "s") == [False]


@given(DELIVERIES, st.lists(st.integers(0, 30)), st.sampled_from([0, 1, US_PER_S, 3 * US_PER_S]))
def test_any_cut_into_batches_gives_what_one_by_one_gives(
    deliveries: list[tuple[int, str]], cuts: list[int], horizon: int
) -> None:
    deliveries.sort(key=lambda pair: pair[0])
    store = MemoryStore()
    got: list[bool] = []
    bounds = sorted({0, len(deliveries), *(cut for cut in cuts if cut < len(deliveries))})
    for begin, end in pairwise(bounds):
        part = deliveries[begin:end]
        got += ask(store, [known for known, _ in part], [name for _, name in part], horizon)
    assert got == by_hand(deliveries, horizon)


def test_what_was_rolled_back_is_new_again() -> None:
    store = MemoryStore()
    with suppress(KeyError), store.write() as txn:
        fresh(txn, "s", Texts.of(["a"]), np.array([1]), 10)
        raise KeyError
    assert ask(store, [2], ["a"], 10) == [True]


def test_old_ids_are_forgotten_in_bounded_slices() -> None:
    store = MemoryStore()
    horizon = 60 * US_PER_S
    n = 3_000
    ask(store, list(range(n)), [f"id{i}" for i in range(n)], horizon)
    with store.read() as txn:
        before = txn.count(IDS)
    sizes = []
    for i in range(60):
        ask(store, [10 * horizon + i], [f"late{i}"], horizon)
        with store.read() as txn:
            sizes.append(txn.count(IDS))
    removed = -np.diff([before, *sizes])
    assert removed.max() <= 66
    assert sizes[-1] <= 60


def test_a_changed_horizon_still_knows_the_ids_it_has() -> None:
    store = MemoryStore()
    day = US_PER_DAY
    names = [f"id{i}" for i in range(50)]
    known = [i * day // 10 for i in range(50)]
    ask(store, known, names, 7 * day)
    assert ask(store, [5 * day] * 50, names, 3 * day) == [5 * day - t > 3 * day for t in known]
    assert ask(store, [6 * day], ["id49"], 30 * day) == [False]


def test_times_before_1970_work() -> None:
    store = MemoryStore()
    assert ask(store, [-5, -3, 0], ["a", "b", "a"], 10) == [True, True, False]
    assert ask(store, [4, 7], ["a", "b"], 10) == [False, False]
    assert ask(store, [8], ["b"], 10) == [True]


def test_a_damaged_cell_is_a_store_error() -> None:
    store = MemoryStore()
    ask(store, [1], ["a"], 10)
    with store.write() as txn:
        key, value = next(txn.scan(IDS))
        txn.put(IDS, key, value[:-1])
    with pytest.raises(StoreError, match="table of event ids is damaged"):
        ask(store, [2], ["a"], 10)


def test_a_negative_horizon_is_refused() -> None:
    with pytest.raises(InputError, match="horizon of stream 's' is -1 us"):
        ask(MemoryStore(), [1], ["a"], -1)
