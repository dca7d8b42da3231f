"""What is known of customers, items and their past together at the instant a basket opens."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

import sevenfold as sf
from sevenfold.blueprints.shop.data import STREAM
from sevenfold.spec.aggregate import FeatureView
from sevenfold.spec.on_demand import OnDemand
from sevenfold.types import US_PER_DAY, Floats, Ints

__all__ = ["FEATURES", "MODEL_FEATURES", "country", "customer", "item", "lines"]

customer = sf.Entity("customer", "who buys; an account number")
item = sf.Entity("item", "what is bought; a stock code")
country = sf.Entity("country", "where the customer lives")

lines = sf.Stream(
    STREAM,
    time="sold_at",
    keys=[customer, item, country],
    fields={
        "invoice": sf.Id(),
        "cancelled": sf.Integer(high=0),
        "quantity": sf.Integer(unit="pieces", low=1),
        "price": sf.Number(unit="GBP", low=0.001),
        "day": sf.Number(unit="d"),
        "opens": sf.Integer(low=0, high=1),
    },
    id=sf.CONTENT,
    description="Lines of invoices; equal lines are one. Cancellations and corrections go to the dead letters.",
)


def spend(quantity: Floats, price: Floats) -> Floats:
    """The value of a line, in GBP."""
    return quantity * price


def opens_basket(opens: Floats) -> npt.NDArray[np.bool_]:
    """Whether the line is the first of its basket."""
    return np.equal(opens, 1)


_customer = sf.aggregate(
    customer,
    lines,
    sf.count(),
    sf.count(windows=["30 d", "365 d"]),
    sf.mean("price"),
    sf.mean("quantity"),
    sf.sum(spend, windows=["90 d"]),
    sf.distinct("item", cap=2048),
    sf.since_last(),
)
_baskets = sf.aggregate(
    customer,
    lines,
    sf.count(),
    sf.count(windows=["90 d"]),
    sf.decayed(half_life="120 d"),
    sf.min("day"),
    sf.max("day"),
    where=opens_basket,
    name="customer_baskets",
)
_item = sf.aggregate(
    item,
    lines,
    sf.count(windows=["7 d", "30 d"], hop="1 d"),
    sf.decayed(half_life="3 d"),
    sf.decayed(half_life="7 d"),
    sf.decayed(half_life="21 d"),
    sf.decayed(half_life="120 d"),
    sf.since_last(),
    sf.min("day"),
    sf.mean("price"),
    sf.mean("quantity"),
    sf.max("quantity", windows=["90 d"], hop="1 d"),
    sf.last("price"),
    sf.distinct("customer", windows=["30 d"], cap=128),
)
_pair = sf.aggregate(
    [customer, item],
    lines,
    sf.distinct("invoice", cap=128),
    sf.count(windows=["90 d", "365 d"]),
    sf.decayed(half_life="15 d"),
    sf.decayed(half_life="45 d"),
    sf.decayed(half_life="120 d"),
    sf.decayed(half_life="365 d"),
    sf.since_last(),
    sf.min("day"),
    sf.mean("quantity"),
    sf.last("price"),
    sf.sum(spend),
)
_country = sf.aggregate(country, lines, sf.decayed(half_life="90 d"))
_country_item = sf.aggregate([country, item], lines, sf.decayed(half_life="90 d"))


@sf.on_demand
def together_score(bought_together_score: Floats) -> Floats:
    """How often the item shared baskets with the customer's latest items."""
    return bought_together_score


@sf.on_demand
def together_share(bought_together_share: Floats) -> Floats:
    """The same, over the highest of the request."""
    return bought_together_share


@sf.on_demand
def pair_share(
    customer_x_item__decayed_120d: Floats, customer_baskets__decayed_120d: Floats
) -> Floats:
    """The share of the customer's late baskets that held the item."""
    return customer_x_item__decayed_120d / (customer_baskets__decayed_120d + 1e-9)


@sf.on_demand
def pair_basket_share(
    customer_x_item__distinct_invoice: Floats, customer_baskets__count: Floats
) -> Floats:
    """The share of all the customer's baskets that held the item."""
    return customer_x_item__distinct_invoice / np.maximum(customer_baskets__count, 1)


@sf.on_demand
def pair_baskets_ago(customer_x_item__since_last: Floats, customer__since_last: Floats) -> Floats:
    """Seconds from the customer's last line of the item to their last line of all."""
    return customer_x_item__since_last - customer__since_last


@sf.on_demand
def pair_overdue(
    customer_x_item__since_last: Floats,
    customer_x_item__min_day: Floats,
    customer_x_item__distinct_invoice: Floats,
    request_time: Ints,
) -> Floats:
    """Time since the customer took the item, over their usual time between takings."""
    since = customer_x_item__since_last / 86_400
    repeats = np.where(
        customer_x_item__distinct_invoice > 1, customer_x_item__distinct_invoice - 1, np.nan
    )
    gap = (request_time / US_PER_DAY - since - customer_x_item__min_day) / repeats
    return since / (gap + 1)


@sf.on_demand
def item_age(item__min_day: Floats, request_time: Ints) -> Floats:
    """Days since the item was first sold."""
    return request_time / US_PER_DAY - item__min_day


@sf.on_demand
def item_price_change(item__last_price: Floats, item__mean_price: Floats) -> Floats:
    """The item's latest price over its usual one."""
    return item__last_price / item__mean_price


@sf.on_demand
def item_price_fit(item__last_price: Floats, customer__mean_price: Floats) -> Floats:
    """The item's price over what the customer usually pays."""
    return item__last_price / (customer__mean_price + 1e-6)


@sf.on_demand
def item_quantity_fit(item__mean_quantity: Floats, customer__mean_quantity: Floats) -> Floats:
    """The item's usual quantity over the customer's."""
    return item__mean_quantity / (customer__mean_quantity + 1e-6)


@sf.on_demand
def customer_variety(customer__distinct_item: Floats, customer__count: Floats) -> Floats:
    """The share of the customer's lines that were new items."""
    return customer__distinct_item / np.maximum(customer__count, 1)


@sf.on_demand
def customer_basket_size(customer__count: Floats, customer_baskets__count: Floats) -> Floats:
    """Lines a basket."""
    return customer__count / np.maximum(customer_baskets__count, 1)


@sf.on_demand
def customer_gap(
    customer_baskets__max_day: Floats,
    customer_baskets__min_day: Floats,
    customer_baskets__count: Floats,
) -> Floats:
    """Days between the customer's baskets."""
    gaps = np.where(customer_baskets__count > 1, customer_baskets__count - 1, np.nan)
    return (customer_baskets__max_day - customer_baskets__min_day) / gaps


@sf.on_demand
def country_share(
    country_x_item__decayed_90d: Floats, country__decayed_90d: Floats, item__decayed_120d: Floats
) -> Floats:
    """The item's share of the country's lines, over its weight everywhere."""
    share = 1000 * country_x_item__decayed_90d / (country__decayed_90d + 50)
    return share / (item__decayed_120d + 1)


FEATURES: list[FeatureView | OnDemand] = [
    _customer,
    _baskets,
    _item,
    _pair,
    _country,
    _country_item,
    together_score,
    together_share,
    pair_share,
    pair_basket_share,
    pair_baskets_ago,
    pair_overdue,
    item_age,
    item_price_change,
    item_price_fit,
    item_quantity_fit,
    customer_variety,
    customer_basket_size,
    customer_gap,
    country_share,
    sf.rate("item_week_share", "item__count_7d", "item__count_30d", prior=0.23, weight=5),
    sf.rate("item_trend", "item__decayed_21d", "item__decayed_120d", prior=0.175, weight=5),
    sf.rate("item_repeat", "item__count_30d", "item__distinct_customer_30d", prior=1.0, weight=2),
]

MODEL_FEATURES = [
    "together_score",
    "together_share",
    "pair_share",
    "pair_basket_share",
    "pair_baskets_ago",
    "pair_overdue",
    "customer_x_item__distinct_invoice",
    "customer_x_item__count_90d",
    "customer_x_item__count_365d",
    "customer_x_item__decayed_15d",
    "customer_x_item__decayed_45d",
    "customer_x_item__decayed_120d",
    "customer_x_item__decayed_365d",
    "customer_x_item__since_last",
    "customer_x_item__mean_quantity",
    "customer_x_item__sum_spend",
    "item__decayed_3d",
    "item__decayed_7d",
    "item__decayed_21d",
    "item__decayed_120d",
    "item_trend",
    "item_week_share",
    "item_repeat",
    "item__since_last",
    "item_age",
    "item__mean_price",
    "item__mean_quantity",
    "item__max_quantity_90d",
    "item_price_change",
    "item_price_fit",
    "item_quantity_fit",
    "customer__since_last",
    "customer__distinct_item",
    "customer_variety",
    "customer_basket_size",
    "customer_gap",
    "customer__mean_price",
    "customer__mean_quantity",
    "customer_baskets__count_90d",
    "customer__sum_spend_90d",
    "country_share",
]
