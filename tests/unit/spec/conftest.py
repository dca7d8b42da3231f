"""A whole good system, as the arguments that make it, so that a test can spoil one thing."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import sevenfold as sf


def spent(pieces: Any, price: Any) -> Any:
    """What a line came to."""
    return pieces * price  # in pounds


@sf.on_demand
def days_between(customer_x_item__since_last: Any, customer_x_item__count: Any) -> Any:
    """Days since the item was taken, for each time it was."""
    return customer_x_item__since_last / 86_400 / np.maximum(customer_x_item__count, 1)


@sf.on_demand
def freshness(days_between: Any, popular_score: Any, request_time: Any) -> Any:
    """Reads a function, a generator's score and the time."""
    return days_between * popular_score * (request_time > 0)


def declare() -> dict[str, Any]:
    """The arguments of a good system, new objects each time."""
    customer, item = sf.Entity("customer"), sf.Entity("item")
    prices = sf.Table(
        "prices",
        item,
        {"list_price": sf.Number(), "supplier": sf.Id()},
        time="at",
        delete="withdrawn",
    )
    lines = sf.Stream(
        "lines",
        time="sold_at",
        keys=[customer, item],
        fields={
            "invoice": sf.Id(),
            "land": sf.Category(["uk", "fr"]),
            "pieces": sf.Integer(low=1, high=10_000),
            "price": sf.Number(unit="GBP", low=0.0),
            "note": sf.Text(),
        },
        optional_keys=[customer],
        enrich={"asked": sf.Lookup(prices, "list_price", ttl="90 d")},
    )
    supplier = sf.Entity("supplier")
    deliveries = sf.Stream("deliveries", time="at", keys=[supplier], fields={"late": sf.Number()})
    lateness = sf.aggregate(supplier, deliveries, sf.mean("late", windows=["28 d"]))
    return {
        "name": "corner-shop",
        "requirements": sf.Requirements(
            goal="a basket filled sooner",
            metric="pieces a visit",
            latency=sf.Latency(p99="100 ms", p50="20 ms"),
            scale=sf.Scale(daily_users=5_000, requests_per_user=2, items=5_000),
            guardrails=[sf.Guardrail("coverage@20", max_loss=0.1)],
            privacy=sf.Privacy(personal=["customer"], forbidden=["note"], retention="730 d"),
        ),
        "task": sf.Ranking(
            item=item,
            query=[customer],
            k=20,
            baseline="what sells most",
            label=sf.Label("bought", outcome=lines, request="invoice", within="1 h"),
        ),
        "data": [lines, prices, deliveries],
        "features": [
            sf.aggregate(
                item,
                lines,
                sf.count(windows=["1 d", "28 d"]),
                sf.sum(spent, windows=["28 d"], hop="1 d"),
                sf.distinct("customer", windows=["28 d"], cap=64),
                sf.decayed("pieces", half_life="14 d"),
            ),
            sf.aggregate(
                [customer, item],
                lines,
                sf.count(),
                sf.since_last(),
                where=lambda pieces: pieces > 0,
            ),
            sf.attribute(item, prices, "list_price", ttl="365 d"),
            days_between,
            freshness,
            sf.through(prices, "supplier", lateness, ttl="365 d"),
        ],
        "models": [
            sf.Rule(by="item__count_28d", then="item__decayed_pieces_14d"),
            sf.LogisticRegression(features=["item__count_1d", "freshness"]),
            sf.LightGBM(features=["item__count_1d", "customer_x_item__count", "days_between"]),
        ],
        "evaluation": sf.Evaluation(
            primary="ndcg@20",
            also=["recall@100"],
            slices=["land", "customer"],
            split=sf.Split(train="180 d", valid="14 d", gap="1 h"),
        ),
        "serving": sf.Pipeline(
            retrieve=[
                sf.BoughtBefore(lines, customer, item, half_life="90 d", n=100),
                sf.BoughtTogether(lines, customer, item, basket="invoice", half_life="90 d", n=100),
                sf.Popular(lines, item, half_life="14 d", n=200),
            ],
            limit=300,
        ),
        "monitoring": sf.Monitoring(retrain=sf.Retrain(every="28 d")),
    }


@pytest.fixture
def parts() -> dict[str, Any]:
    """The arguments of a good system."""
    return declare()


def changed(value: Any, path: tuple[str | int, ...], new: Any) -> Any:
    """A copy of `value` in which what lies at `path` is `new`."""
    if not path:
        return new
    step, rest = path[0], path[1:]
    if isinstance(value, dict):
        return {**value, step: changed(value[step], rest, new)}
    if isinstance(step, int):
        items = list(value)
        items[step] = changed(items[step], rest, new)
        return tuple(items) if isinstance(value, tuple) else items
    return replace(value, **{step: changed(getattr(value, step), rest, new)})


@pytest.fixture
def spoiled(parts: dict[str, Any]) -> Callable[..., list[sf.errors.Problem]]:
    """A function that gives the problems of the good system with one thing changed."""

    def problems(*path: str | int, to: Any) -> list[sf.errors.Problem]:
        wrong = changed(parts, path, to)
        try:
            return sf.check(sf.System(**wrong))
        except sf.errors.SpecError as error:
            return list(error.problems)

    return problems


@pytest.fixture(scope="session")
def anew() -> Callable[[], dict[str, Any]]:
    """A function that gives the arguments of a good system, new objects each time."""
    return declare


@pytest.fixture(scope="session")
def change() -> Callable[..., Any]:
    """A function that gives a copy of a value with one thing in it changed."""
    return changed
