"""What is told of features that are reached: the way, and what is a delete on it."""

from __future__ import annotations

from typing import Any

import sevenfold as sf
from sevenfold.features.description import compare_features, describe_features
from sevenfold.features.plan import compile_plan

ad, campaign = sf.Entity("ad"), sf.Entity("campaign")
clicks = sf.Stream("clicks", time="at", keys=[campaign], fields={})
of_campaign = sf.aggregate(campaign, clicks, sf.count())


def described(**options: Any) -> Any:
    ads = sf.Table("ads", ad, {"campaign": sf.Id(), "bid": sf.Number()}, time="at", **options)
    features = [sf.through(ads, "campaign", of_campaign), sf.attribute(ad, ads, "bid", name="own")]
    return describe_features(compile_plan(features), features)


def test_the_way_is_told() -> None:
    found = described(delete="gone")["ad_campaign__count"]
    assert found.view == "campaign"
    assert found.parts["link 1"] == "ads.campaign to campaign"
    assert found.parts["deletes of ads"] == "gone"


def test_another_rule_of_deletes_alters_what_is_read_of_the_table() -> None:
    different = compare_features(described(), described(delete="gone"))
    assert different.altered == {
        "ad_campaign__count": (("deletes of ads", "-", "gone"),),
        "own__bid": (("deletes of ads", "-", "gone"),),
    }
