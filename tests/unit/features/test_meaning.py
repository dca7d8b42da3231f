"""Each kind of aggregate has its words, with its bounds, its ties and what it is when there is nothing."""

from typing import get_args

import sevenfold as sf
from sevenfold.features import meaning
from sevenfold.features.meaning import meanings
from sevenfold.features.plan import compile_plan
from sevenfold.spec.aggregate import AggregateKind
from tests.laws.views import FEATURES

user, ad, campaign = sf.Entity("user"), sf.Entity("ad"), sf.Entity("campaign")
clicks = sf.Stream("clicks", time="at", keys=[user, ad], fields={"x": sf.Number()})
ads = sf.Table("ads", ad, {"campaign": sf.Id(), "bid": sf.Number()}, time="at", delete="bid")
of_campaign = sf.aggregate(
    campaign, sf.Stream("spent", time="at", keys=[campaign], fields={}), sf.count()
)


def test_every_kind_has_words() -> None:
    assert set(meaning._KINDS) == set(get_args(AggregateKind))


def test_every_feature_has_a_sentence() -> None:
    said = meanings(FEATURES)
    assert set(said) == set(compile_plan(FEATURES).names)
    assert all(len(sentence) > 20 and "{}" not in sentence for sentence in said.values())


def test_windows_say_their_bounds_as_the_law_has_them() -> None:
    said = meanings([sf.aggregate(user, clicks, sf.mean("x", windows=["7 d"]), sf.sum("x"))])
    assert said["user__mean_x_7d"] == (
        "the mean of x, nulls left out, over the events of clicks of the row's user that became known before t "
        "and happened at floor((t - 7d) / 1h) * 1h or later: no event younger than 7d is left out, none older "
        "than 7d and 1h is in; null when there is none"
    )
    assert said["user__sum_x"] == (
        "the sum of x, over the events of clicks of the row's user that became known before t; 0 when there is none"
    )


def test_ties_hops_filters_and_places_are_said() -> None:
    def dear(x):
        return x > 3

    view = sf.aggregate(
        [user, ad], clicks, sf.last("x", windows=["1 d"], hop="12 h"), sf.last_k("x", 2), where=dear
    )
    said = meanings([view])
    last = said["user_x_ad__last_x_1d"]
    assert "of several at one time that which became known last, then that of the larger id" in last
    assert "of the row's user and the row's ad, for which dear(...) holds, that" in last
    assert "floor((t - 1d) / 12h) * 12h or later" in last
    assert said["user_x_ad__last_2_x_2"].startswith(
        "number 2 of the newest 2 values of x, newest first"
    )


def test_rows_ttl_deletes_links_and_functions_are_said() -> None:
    @sf.on_demand
    def dearer(ads__bid, request_time):
        """How much dearer."""

    said = meanings(
        [
            sf.attribute(ad, ads, "bid", ttl="1 d", name="ads"),
            sf.through(ads, "campaign", of_campaign, ttl="2 d"),
            dearer,
        ]
    )
    assert said["ads__bid"].endswith(
        "of ads of the row's ad that is visible at t, while t is less than 1d after its time, then STALE; "
        "MISSING before the first row and from a delete on"
    )
    assert said["ad_campaign__count"] == (
        "the number of events, over the events of spent of the campaign (in campaign of the newest row of ads of the "
        "row's ad, as visible at t, while that row is younger than 2d) that became known before t; 0 when there is none"
    )
    assert (
        said["dearer"]
        == "computed from ads__bid, request_time, all at the same t: How much dearer."
    )
