"""A declaration becomes a plan: names, what is read for what, and every problem at once."""

from __future__ import annotations

import numpy as np
import pytest

import sevenfold as sf
from sevenfold.errors import NotFoundError, SpecError
from sevenfold.features.plan import compile_plan

user, item = sf.Entity("user"), sf.Entity("item")
sales = sf.Stream(
    "sales",
    time="at",
    keys=[user, item],
    fields={"price": sf.Number(), "kind": sf.Category(["a", "b"]), "note": sf.Text()},
)
clicks = sf.Stream("clicks", time="at", keys=[user], fields={"depth": sf.Number()})


def doubled(price: np.ndarray) -> np.ndarray:
    return price * 2


def test_features_are_named_by_view_kind_source_and_window() -> None:
    plan = compile_plan(
        [
            sf.aggregate(
                user,
                sales,
                sf.count(),
                sf.count("note", windows=["1440 min", "90 s"]),
                sf.sum(doubled, windows=["1.5 h"]),
                sf.decayed(half_life="14 d"),
                sf.decayed("price", half_life="36 h"),
                sf.since_last(),
                sf.distinct("item", cap=7),
                sf.std("price", windows=["1 h", "1 d"]),
                sf.last_k("price", 2, windows=["1 h"]),
            ),
            sf.aggregate([user, item], sales, sf.last("price")),
            sf.attribute(user, clicks, "depth", ttl="1 d"),
            sf.rate("ratio", "user__count", "user_x_item__last_price", prior=0.5, weight=2),
        ]
    )
    assert plan.names == (
        "user__count",
        "user__count_note_1d",
        "user__count_note_90s",
        "user__sum_doubled_90min",
        "user__decayed_14d",
        "user__decayed_price_36h",
        "user__since_last",
        "user__distinct_item",
        "user__std_price_1h",
        "user__std_price_1d",
        "user__last_2_price_1h_1",
        "user__last_2_price_1h_2",
        "user_x_item__last_price",
        "user_clicks__depth",
        "ratio",
    )
    assert plan.entities == ("user", "item")
    assert plan.streams == ("sales", "clicks")
    assert plan.view_by_feature["user_x_item__last_price"].entities == ("user", "item")


def test_every_name_given_twice_is_told_at_once() -> None:
    @sf.on_demand
    def other__count(request_time: np.ndarray) -> np.ndarray:
        return request_time * 1.0

    with pytest.raises(SpecError) as caught:
        compile_plan(
            [
                sf.aggregate(user, sales, sf.count(), sf.sum("price"), sf.sum("price")),
                sf.aggregate(user, clicks, sf.count("depth")),
                sf.aggregate(user, clicks, sf.count(), name="other"),
                other__count,
            ]
        )
    messages = [problem.message for problem in caught.value.problems]
    assert messages == [
        "two views are named 'user'",
        "two features are named 'user__sum_price'",
        "two features are named 'other__count'",
    ]


def test_an_unknown_feature_is_named_with_those_there_are() -> None:
    plan = compile_plan([sf.aggregate(user, sales, sf.count(), sf.sum("price"))])
    with pytest.raises(
        NotFoundError, match=r"'nope', 'user__cnt'; there are user__count, user__sum_price"
    ):
        plan.require(["user__count", "nope", "user__cnt"])


def test_only_the_views_that_are_needed_are_read() -> None:
    @sf.on_demand
    def share(user__count: np.ndarray, total: np.ndarray) -> np.ndarray:
        return user__count / total

    @sf.on_demand
    def total(clicked__count: np.ndarray) -> np.ndarray:
        return clicked__count + 1

    @sf.on_demand
    def hour(request_time: np.ndarray) -> np.ndarray:
        return request_time / 3.6e9 % 24

    plan = compile_plan(
        [
            share,
            total,
            hour,
            sf.aggregate(item, sales, sf.count()),
            sf.aggregate(user, clicks, sf.count(), name="clicked"),
            sf.aggregate(user, sales, sf.count()),
        ]
    )
    assert [reading.name for reading in plan.readings_for(["share"])] == ["clicked", "user"]
    assert [reading.name for reading in plan.readings_for(["item__count"])] == ["item"]
    assert plan.readings_for(["hour"]) == ()
    # Each after its inputs, once.
    assert plan.inputs(["share", "total"]) == ("user__count", "clicked__count", "total", "share")


def test_functions_that_need_one_another_are_refused() -> None:
    @sf.on_demand
    def there(back: np.ndarray) -> np.ndarray:
        return back

    @sf.on_demand
    def back(there: np.ndarray) -> np.ndarray:
        return there

    @sf.on_demand
    def own(own: np.ndarray) -> np.ndarray:
        return own

    with pytest.raises(SpecError, match="back, there need one another in a circle"):
        compile_plan([there, back])
    with pytest.raises(SpecError, match="circle"):
        compile_plan([own])
