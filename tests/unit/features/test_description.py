"""What of a definition is different: which feature, and which part of it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import sevenfold as sf
from sevenfold.features.description import compare_features, describe_features
from sevenfold.features.plan import compile_plan
from sevenfold.spec.aggregate import FeatureView

user, item = sf.Entity("user"), sf.Entity("item")
FIELDS = {"x": sf.Number(), "y": sf.Number(), "page": sf.Category(["home", "shop"])}
stream = sf.Stream("visits", time="at", keys=[user, item], fields=FIELDS)


def described(*features: Any) -> Any:
    """The description of features."""
    return describe_features(compile_plan(features), features)


def view(*aggregates: FeatureView | Any, **more: Any) -> FeatureView:
    """A view of users."""
    return sf.aggregate(user, stream, *(aggregates or (sf.count(windows=["7 d"]),)), **more)


def test_the_same_is_the_same_however_it_is_spelled() -> None:
    before = described(view(sf.count(windows=["7 d"]), sf.sum("x", windows=["90 min"])))
    after = described(view(sf.sum("x", windows=["1.5 h"]), sf.count(windows=["168 h"])))
    found = compare_features(before, after)
    assert found.is_empty
    assert set(found.unchanged) == set(before)


@pytest.mark.parametrize(
    ("before", "after", "parts"),
    [
        (sf.sum("x", windows=["1 d"], hop="12 h"), sf.sum("x", windows=["1 d"]), ["hop"]),
        (sf.last("x"), sf.last("x", nulls=True), ["nulls"]),
        (sf.distinct("page", cap=8), sf.distinct("page", cap=9), ["cap"]),
    ],
)
def test_the_part_that_differs_is_named(before: Any, after: Any, parts: list[str]) -> None:
    found = compare_features(described(view(before)), described(view(after)))
    (changed,) = found.altered.values()
    assert [part for part, _, _ in changed] == parts


def test_a_filter_an_entity_a_stream_and_a_source_are_parts_too() -> None:
    def positive(x):
        return np.nan_to_num(x) > 0

    def negative(x):
        return np.nan_to_num(x) < 0

    other = sf.Stream("clicks", time="at", keys=[user, item], fields=FIELDS)
    plain = described(view())
    cases: dict[str, Callable[[], FeatureView]] = {
        "where": lambda: view(where=positive),
        "entities": lambda: sf.aggregate(item, stream, sf.count(windows=["7 d"]), name="user"),
        "stream": lambda: sf.aggregate(user, other, sf.count(windows=["7 d"])),
    }
    for part, make in cases.items():
        found = compare_features(plain, described(make()))
        assert [name for name, _, _ in found.altered["user__count_7d"]] == [part]
    found = compare_features(described(view(where=positive)), described(view(where=negative)))
    ((part, before, after),) = found.altered["user__count_7d"]
    assert part == "where"
    assert ("> 0" in before, "< 0" in after) == (True, True)


def test_a_constant_that_a_function_reads_is_a_difference() -> None:
    def made(factor: float) -> FeatureView:
        def scaled(x):
            return x * factor

        return view(sf.sum(scaled))

    found = compare_features(described(made(2.0)), described(made(3.0)))
    assert [part for part, _, _ in found.altered["user__sum_scaled"]] == ["source"]


def test_the_values_of_a_category_are_a_part() -> None:
    longer = sf.Stream(
        "visits",
        time="at",
        keys=[user, item],
        fields=FIELDS | {"page": sf.Category(["home", "shop", "cart"])},
    )
    after = sf.aggregate(user, longer, sf.distinct("page"))
    found = compare_features(described(view(sf.distinct("page"))), described(after))
    assert found.altered["user__distinct_page"] == (
        ("values of page", "home, shop", "home, shop, cart"),
    )


def test_added_dropped_and_renamed_are_told_apart() -> None:
    before = described(view(sf.count(windows=["7 d"]), sf.sum("x"), sf.min("y")))
    after = described(view(sf.sum("x"), name="person"), view(sf.max("y"), name="user"))
    found = compare_features(before, after)
    assert found.renamed == (("user__sum_x", "person__sum_x"),)
    assert found.added == ("user__max_y",)
    assert found.dropped == ("user__count_7d", "user__min_y")
    assert not found.altered


def test_a_request_time_function_is_altered_with_what_it_reads() -> None:
    def share(prior: float) -> Any:
        return sf.rate("share", "user__count_7d", "user__count_30d", prior=prior, weight=1)

    both = view(sf.count(windows=["7 d", "30 d"]))
    moved = view(sf.count(windows=["7 d", "30 d"]), where=lambda x: x > 0)
    before = described(share(0.5), both)
    assert [
        p for p, _, _ in compare_features(before, described(share(0.6), both)).altered["share"]
    ] == ["function"]
    found = compare_features(before, described(share(0.5), moved))
    assert [p for p, _, _ in found.altered["share"]] == [
        "input user__count_7d",
        "input user__count_30d",
    ]


def test_each_place_of_the_latest_has_its_parts() -> None:
    found = compare_features(
        described(view(sf.last_k("x", 2), sf.var("x"))),
        described(view(sf.last_k("x", 3), sf.var("x"))),
    )
    assert "user__last_3_x_3" in found.added
    assert "user__var_x" in found.unchanged
