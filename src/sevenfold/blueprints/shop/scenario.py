"""How the shop is run: in full, or quickly with a share of the customers and a later start."""

from __future__ import annotations

from datetime import UTC, datetime

import sevenfold as sf
from sevenfold.blueprints.shop.data import load_world
from sevenfold.blueprints.shop.spec import system
from sevenfold.loop.scenario import Scenario
from sevenfold.types import US_PER_DAY, US_PER_S, Instant

__all__ = ["scenario"]


def scenario(quick: bool) -> Scenario:
    """The run of the shop.

    In full every basket from 10 January 2011 on is answered, those from 9 September are the final test.
    Quickly, one customer in six asks, from 4 July on.
    """
    return Scenario(
        system=system,
        reference="shop",
        world=load_world,
        live_us=_at(2011, 7, 4) if quick else _at(2011, 1, 10),
        judge_us=_at(2011, 9, 9),
        end_us=_at(2011, 12, 10),
        step_us=14 * US_PER_DAY,
        known="customer_baskets__count",
        repeat="customer_x_item__distinct_invoice",
        customer="customer",
        share=1 / 6 if quick else 1.0,
        negatives=40,
        rules={
            "popular": sf.Rule("item__decayed_21d", name="popular"),
            "bought_together": sf.Rule(
                "together_score", "item__decayed_21d", name="bought_together"
            ),
        },
        slices={"earlier baskets": (0, 1, 2, 5, 15)},
    )


def _at(year: int, month: int, day: int) -> Instant:
    return int(datetime(year, month, day, tzinfo=UTC).timestamp()) * US_PER_S
