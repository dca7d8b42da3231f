"""What a view takes of a batch of events."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import sevenfold as sf
from sevenfold.errors import InputError
from sevenfold.features.columns import HashedBatch, key_hashes, view_columns
from sevenfold.features.plan import ViewPlan, compile_plan
from sevenfold.types import EventBatch, Texts

user, item = sf.Entity("user"), sf.Entity("item")
sales = sf.Stream(
    "sales",
    time="at",
    keys=[user, item],
    fields={"price": sf.Number(), "note": sf.Text(), "basket": sf.Id()},
)
NAN = float("nan")
BATCH = EventBatch(
    "sales",
    np.arange(5),
    np.arange(5) + 10,
    Texts.of(list("vwxyz")),
    {"user": Texts.of(["a", None, "b", "a", "b"]), "item": Texts.of(["p", "q", None, "p", "q"])},
    {
        "price": np.array([1.0, 2.0, NAN, 0.0, -0.0]),
        "note": Texts.of(["hi", None, "", None, "ho"]),
        "basket": Texts.of(["1", "1", "2", None, "2"]),
    },
)


def view(*aggregates: Any, entity: Any = user, **options: Any) -> ViewPlan:
    return compile_plan([sf.aggregate(entity, sales, *aggregates, **options)]).views[0]


def test_events_without_a_key_are_left_out() -> None:
    assert view_columns(view(sf.sum("price")), HashedBatch(BATCH)).event_us.tolist() == [0, 2, 3, 4]
    assert view_columns(
        view(sf.sum("price"), entity=[user, item]), HashedBatch(BATCH)
    ).known_us.tolist() == [
        10,
        13,
        14,
    ]


def test_the_hash_of_a_composite_key_knows_its_order() -> None:
    keys = {"user": Texts.of(["a", "b", "ab", None]), "item": Texts.of(["b", "a", "", "a"])}
    forth, back = key_hashes(("user", "item"), keys), key_hashes(("item", "user"), keys)
    assert not (forth[:3] == back[:3]).all(axis=1).any()
    assert forth[0].tolist() == back[1].tolist()
    assert len(np.unique(forth, axis=0)) == 4
    assert forth[3].tolist() == [0, 0]


@pytest.mark.parametrize("n", [0, 1, 2])
def test_one_key_goes_with_as_many_as_there_are(n: int) -> None:
    keys = {"user": Texts.of(["a"]), "item": Texts.of(["p", "q"][:n])}
    alone = {"user": Texts.of(["a"] * n), "item": keys["item"]}
    for order in (("user", "item"), ("item", "user")):
        assert key_hashes(order, keys).tolist() == key_hashes(order, alone).tolist()
        assert key_hashes(order, keys).shape == (n, 2)


def test_where_keeps_the_events_for_which_it_holds() -> None:
    wanted = view(sf.sum("price"), where=lambda price: price > 0)
    columns = view_columns(wanted, HashedBatch(BATCH))
    assert columns.numbers[:, 0].tolist() == [1.0]
    assert len(columns.hashes) == 1


def test_text_counts_as_one_where_it_is() -> None:
    columns = view_columns(view(sf.count("note"), sf.sum(doubled)), HashedBatch(BATCH))
    np.testing.assert_array_equal(columns.numbers, [[1, 2], [1, NAN], [NAN, 0], [1, 0]])


def doubled(price: Any) -> Any:
    return price * 2


def test_marks_are_equal_for_equal_values_and_zero_for_null() -> None:
    by = [sf.distinct("price"), sf.distinct("basket"), sf.distinct("item"), sf.distinct(doubled)]
    price, basket, item_, twice = view_columns(view(*by), HashedBatch(BATCH)).marks.T.tolist()
    assert price[0] != price[2] == price[3] != 0
    assert price[1] == basket[2] == item_[1] == twice[1] == 0
    assert basket[0] != basket[1] == basket[3]
    assert item_[0] == item_[2] != item_[3]


@pytest.mark.parametrize(
    "x", [0.0, 5e-324, -5e-324, 1.0, -1.0, float("inf"), float("-inf"), 2.0**-1022]
)
def test_no_number_has_the_mark_of_null(x: float) -> None:
    fields = {**BATCH.fields, "price": np.full(5, x)}
    batch = EventBatch("sales", BATCH.event_us, BATCH.known_us, BATCH.event_ids, BATCH.keys, fields)
    assert view_columns(view(sf.distinct("price")), HashedBatch(batch)).marks.all()


def one_less(price: Any) -> Any:
    return price[:-1]


@pytest.mark.parametrize("make", [lambda: sf.sum(one_less), lambda: sf.distinct(one_less)])
def test_a_function_of_another_shape_is_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(InputError, match=r"one_less gave an array of shape \(4,\) for 5 events"):
        view_columns(view(make()), HashedBatch(BATCH))
    with pytest.raises(InputError, match="one_less gave"):
        view_columns(view(sf.count(), where=one_less), HashedBatch(BATCH))


def test_an_event_known_before_it_happens_is_refused() -> None:
    early = dataclasses.replace(BATCH, known_us=np.array([0, 1, 1, 3, 4]))
    with pytest.raises(InputError, match="event 2 of stream 'sales' happens at 2 us and was known"):
        view_columns(view(sf.count()), HashedBatch(early))


def test_events_out_of_log_order_are_refused() -> None:
    back = dataclasses.replace(BATCH, known_us=np.array([10, 12, 12, 11, 14]))
    with pytest.raises(InputError, match="event 3 became known before event 2"):
        view_columns(view(sf.count()), HashedBatch(back))
