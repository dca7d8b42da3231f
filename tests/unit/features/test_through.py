"""Features of what a row leads to: ad to campaign, campaign to advertiser."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import sevenfold as sf
from sevenfold.batch.spine import readable
from sevenfold.engines.offline import read_at
from sevenfold.engines.online import OnlineEngine
from sevenfold.errors import InputError, SpecError
from sevenfold.features.frame import FeatureFrame, Spine
from sevenfold.features.plan import Plan, compile_plan
from sevenfold.features.reach import key_part
from sevenfold.sources.validate import validate
from sevenfold.stores.memory import MemoryStore
from sevenfold.types import EventBatch, Texts, VectorState

VALUE, MISSING = VectorState.VALUE, VectorState.MISSING
user, ad = sf.Entity("user"), sf.Entity("ad")
campaign, advertiser = sf.Entity("campaign"), sf.Entity("advertiser")
ads = sf.Table("ads", ad, {"campaign": sf.Id(), "bid": sf.Number()}, time="at", delete="gone")
campaigns = sf.Table("campaigns", campaign, {"advertiser": sf.Text()}, time="at")
clicks = sf.Stream("clicks", time="at", keys=[user, campaign], fields={})
spends = sf.Stream("spends", time="at", keys=[advertiser], fields={"usd": sf.Number()})

of_campaign = sf.aggregate(campaign, clicks, sf.count(), sf.since_last())
of_advertiser = sf.aggregate(advertiser, spends, sf.sum("usd"))
of_pair = sf.aggregate([user, campaign], clicks, sf.count(), name="pair")
ROWS = {
    "ads": [
        {"ad": "a", "at": 10, "campaign": "c1", "bid": 0.5},
        {"ad": "b", "at": 10, "campaign": None, "bid": 0.5},
        {"ad": "a", "at": 50, "campaign": "c2"},
        {"ad": "a", "at": 80, "gone": True},
    ],
    "campaigns": [
        {"campaign": "c1", "at": 10, "advertiser": "x"},
        {"campaign": "c2", "at": 10, "advertiser": "y"},
    ],
    "clicks": [
        {"user": "u", "campaign": "c1", "at": 20},
        {"user": "u", "campaign": "c1", "at": 30},
        {"user": "v", "campaign": "c1", "at": 31},
        {"user": "u", "campaign": "c2", "at": 60},
    ],
    "spends": [
        {"advertiser": "x", "at": 20, "usd": 7.0},
        {"advertiser": "y", "at": 20, "usd": 9.0},
    ],
}
STREAMS = {stream.name: stream for stream in (ads, campaigns, clicks, spends)}
LOG = {name: validate(STREAMS[name], rows).batch for name, rows in ROWS.items()}


def read(features: list[Any], t_us: int, **keys: str) -> FeatureFrame:
    """All features for one row at `t_us`, which both engines must agree on."""
    plan = compile_plan(features)
    spine = Spine(np.array([t_us]), {name: Texts.of([key]) for name, key in keys.items()})
    offline = read_at(plan, plan.names, spine, LOG)
    store, engine = MemoryStore(), OnlineEngine(plan)
    with store.write() as txn:
        for batch in LOG.values():
            engine.apply(txn, batch.take(batch.known_us < t_us))
        online = engine.read(txn, plan.names, spine)
    np.testing.assert_array_equal(offline.values, online.values)
    np.testing.assert_array_equal(offline.states, online.states)
    return offline


def count(t_us: int, key: str, **options: Any) -> float:
    return float(
        read([sf.through(ads, "campaign", of_campaign, **options)], t_us, ad=key).values[0, 0]
    )


def test_an_ad_has_the_features_of_its_campaign_and_needs_no_key_of_it() -> None:
    assert sf.through(ads, "campaign", of_campaign).name == "ad_campaign"
    frame = read([sf.through(ads, "campaign", of_campaign)], 40, ad="a")
    assert frame.names == ("ad_campaign__count", "ad_campaign__since_last")
    assert frame.values[0].tolist() == [3.0, 9e-6]


def test_link_and_value_are_read_at_one_instant() -> None:
    assert count(31, "a") == 2
    assert count(50, "a") == 3  # the row that leads to c2 is not visible at its own instant
    assert count(51, "a") == 0
    assert count(61, "a") == 1


@pytest.mark.parametrize(("t_us", "key"), [(5, "a"), (40, "b"), (90, "a"), (40, "nobody")])
def test_no_row_no_key_and_a_delete_give_the_values_of_an_unknown_key(t_us: int, key: str) -> None:
    frame = read([sf.through(ads, "campaign", of_campaign)], t_us, ad=key)
    assert frame.values[0, 0] == 0
    assert frame.states[0].tolist() == [VALUE, MISSING]


def test_an_old_link_is_not_followed() -> None:
    assert count(41, "a", ttl="32 us") == 3
    assert count(42, "a", ttl="32 us") == 0


def test_one_key_of_a_composite_may_be_reached() -> None:
    pair = sf.through(ads, "campaign", of_pair)
    assert pair.needs == ("ad", "user")
    assert read([pair], 40, ad="a", user="u").values.tolist() == [[2.0]]
    assert read([pair], 40, ad="a", user="w").values.tolist() == [[0.0]]


def test_a_link_may_lead_to_a_link() -> None:
    spent = sf.through(ads, "campaign", sf.through(campaigns, "advertiser", of_advertiser))
    assert spent.name == "ad_campaign_advertiser"
    assert read([spent], 40, ad="a").values.tolist() == [[7.0]]
    assert read([spent], 70, ad="a").values.tolist() == [[9.0]]
    assert read([spent], 90, ad="a").values.tolist() == [[0.0]]


def test_a_view_is_kept_once_however_many_ways_lead_to_it() -> None:
    ways = [of_campaign, sf.through(ads, "campaign", of_campaign, ttl="1 d")]
    ways += [sf.through(ads, "campaign", of_campaign, ttl="1 d", name="again")]
    plan = compile_plan(ways)
    assert [view.name for view in plan.views] == ["campaign", "ads.ad.campaign.1 d"]
    assert plan.entities == ("campaign", "ad")


def test_what_is_reached_only_is_no_feature_of_its_own() -> None:
    plan = compile_plan([sf.through(ads, "campaign", of_campaign)])
    assert plan.names == ("ad_campaign__count", "ad_campaign__since_last")
    assert plan.entities == ("ad",)
    spine = Spine(np.array([40]), {"campaign": Texts.of(["c1"])})
    with pytest.raises(InputError, match="ad"):
        readable(plan, list(spine.keys), ["ad_campaign__count"])
    with pytest.raises(InputError, match="need the key of 'ad'"):
        read_at(plan, plan.names, spine, LOG)


def test_the_way_is_part_of_the_definition() -> None:
    def hashes(*features: Any) -> set[str]:
        plan: Plan = compile_plan(features)
        return set(
            plan.definition_hashes([n for n in plan.names if n.endswith("__count")]).values()
        )

    direct, way = hashes(of_campaign), hashes(sf.through(ads, "campaign", of_campaign))
    fresh = hashes(sf.through(ads, "campaign", of_campaign, ttl="1 d"))
    assert len(direct | way | fresh) == 3
    assert way == hashes(sf.through(ads, "campaign", of_campaign, name="other"))


def test_a_field_that_older_events_lack_leads_nowhere() -> None:
    older = LOG["ads"]
    bare = EventBatch(
        "ads",
        older.event_us,
        older.known_us,
        older.event_ids,
        older.keys,
        {"gone": older.fields["gone"]},
    )
    plan = compile_plan([sf.through(ads, "campaign", of_campaign)])
    spine = Spine(np.array([40]), {"ad": Texts.of(["a"])})
    assert read_at(plan, plan.names, spine, {**LOG, "ads": bare}).values[0, 0] == 0


def test_parts_of_a_key_are_whole_numbers_that_a_float_holds() -> None:
    keys = Texts.of([f"k{i}" for i in range(1000)])
    for part in range(3):
        numbers = key_part(keys, part)
        assert (numbers == np.floor(numbers)).all()
        assert 0 <= numbers.min() <= numbers.max() < 2**43


def test_a_function_reads_states_and_ages() -> None:
    bids = sf.attribute(ad, ads, "bid", age=True, name="ad")

    @sf.on_demand
    def bid_or_age(ad__bid: Any, ad__bid__state: Any, ad__age: Any) -> Any:
        return np.where(ad__bid__state == VALUE, ad__bid, ad__age)

    frame = read([bids, bid_or_age], 40, ad="a")
    assert frame.names == ("ad__bid", "ad__age", "bid_or_age")
    assert frame.values[0].tolist() == [0.5, 30e-6, 0.5]
    assert read([bids, bid_or_age], 70, ad="a").values[0, 2] == 20e-6  # the newest row has no bid
    gone = read([bids, bid_or_age], 90, ad="a")
    assert gone.states[0].tolist() == [MISSING, MISSING, VectorState.NULL]


def test_two_views_of_one_name_are_refused_on_the_way_too() -> None:
    twin = sf.aggregate(campaign, clicks, sf.count())
    with pytest.raises(SpecError, match="'campaign'"):
        compile_plan([of_campaign, sf.through(ads, "campaign", twin)])
