"""The shop's two years, as they are published."""

from __future__ import annotations

import numpy as np
import pytest

from sevenfold.blueprints.shop.data import STREAM, load_world
from sevenfold.loop.world import World
from sevenfold.types import US_PER_DAY, US_PER_S, Ints, Texts

MINUTE_US = 60 * US_PER_S


def us(day: str) -> int:
    return int(np.datetime64(day, "us").astype(np.int64))


@pytest.fixture(scope="session")
def world() -> World:
    """Loaded once: a few seconds."""
    return load_world()


def texts(world: World, name: str) -> list[str | None]:
    column = world.columns[name]
    assert isinstance(column, Texts)
    return column.to_list()


def numbers(world: World, name: str) -> Ints:
    return np.asarray(world.columns[name])


def test_every_line_is_there_in_order_of_time(world: World) -> None:
    assert (world.stream, len(world)) == (STREAM, 1_067_371)
    assert {len(column) for column in world.columns.values()} == {1_067_371}
    ends = world.arrival_us[[0, -1]].astype("datetime64[us]").astype("datetime64[m]")
    assert ends.astype(str).tolist() == ["2009-12-01T07:45", "2011-12-09T12:50"]
    assert numbers(world, "sold_at") is world.arrival_us
    assert (world.arrival_us % MINUTE_US == 0).all()


def test_dirt_is_kept(world: World) -> None:
    customer = world.columns["customer"]
    assert isinstance(customer, Texts)
    assert int((~customer.valid).sum()) == 243_007
    assert int(numbers(world, "cancelled").sum()) == 19_494
    assert int((numbers(world, "quantity") < 0).sum()) == 22_950
    assert int((numbers(world, "price") <= 0).sum()) == 6_207


def test_a_request_is_a_basket_a_second_before_its_first_good_line(world: World) -> None:
    requests = world.requests
    assert len(requests) == 36_969
    ids, invoices = requests.ids.to_list(), texts(world, "invoice")
    assert len(set(ids)) == len(ids)
    good = np.flatnonzero(
        np.array([c is not None for c in texts(world, "customer")])
        & (numbers(world, "cancelled") == 0)
        & (numbers(world, "quantity") > 0)
        & (numbers(world, "price") > 0)
    ).tolist()
    opened: dict[str | None, int] = {}
    for row in good:
        opened.setdefault(invoices[row], row)
    assert opened.keys() == set(ids)
    rows = np.array([opened[invoice] for invoice in ids])
    np.testing.assert_array_equal(requests.t_us, world.arrival_us[rows] - US_PER_S)
    np.testing.assert_array_equal(np.flatnonzero(numbers(world, "opens")), np.sort(rows))
    for name in ("customer", "country"):
        assert requests.fields[name].to_list() == _taken(world, name, rows)
    np.testing.assert_allclose(numbers(world, "day"), world.arrival_us / US_PER_DAY)


def _taken(world: World, name: str, rows: Ints) -> list[str | None]:
    column = world.columns[name]
    assert isinstance(column, Texts)
    return column.take(rows).to_list()


def test_baskets_of_known_customers_from_september_2011_on(world: World) -> None:
    """The test period of the benchmark: customers who had an earlier basket."""
    seen: set[str | None] = set()
    returning = 0
    customers = world.requests.fields["customer"].to_list()
    for t_us, customer in zip(world.requests.t_us.tolist(), customers, strict=True):
        returning += t_us >= us("2011-09-09") and customer in seen
        seen.add(customer)
    assert returning == 6_084
    assert len(seen) == 5_878


def test_rows_are_as_the_source_gives_them(world: World) -> None:
    assert world.rows(0, 1) == [
        {
            "invoice": "489434",
            "item": "85048",
            "description": "15CM CHRISTMAS GLASS BALL 20 LIGHTS",
            "quantity": 12,
            "price": 6.95,
            "customer": "13085",
            "country": "United Kingdom",
            "sold_at": us("2009-12-01T07:45"),
            "cancelled": 0,
            "day": pytest.approx(us("2009-12-01T07:45") / US_PER_DAY),
            "opens": 1,
        }
    ]
