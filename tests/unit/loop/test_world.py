"""A recorded world: its rows, its order, and trouble on the way."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.errors import InputError
from sevenfold.loop.world import Requests, World, disturb
from sevenfold.types import Texts

NAN = float("nan")


def world(n: int) -> World:
    """A row every 10 us, every third without a note and every fourth without a price."""
    requests = Requests(np.array([5, 15]), Texts.of(["r0", "r1"]), {"user": Texts.of(["u0", None])})
    columns = {
        "number": np.arange(n),
        "note": Texts.of([None if i % 3 == 0 else f"note {i}" for i in range(n)]),
        "price": np.array([NAN if i % 4 == 0 else i / 2 for i in range(n)]),
    }
    return World("sales", columns, np.arange(n) * 10, requests)


def rows(of: World) -> list[tuple[tuple[str, object], ...]]:
    return [tuple(sorted(row.items())) for row in of.rows(0, len(of))]


@given(
    st.integers(0, 60),
    st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    st.integers(2, 500),
    st.integers(0, 999),
)
def test_trouble_loses_no_row_and_changes_none(
    n: int, share: float, delay_us: int, seed: int
) -> None:
    calm = world(n)
    troubled = disturb(calm, share, delay_us, np.random.default_rng(seed))
    before, after = Counter(rows(calm)), Counter(rows(troubled))
    assert before.keys() == after.keys()
    assert all(1 <= times <= 2 for times in after.values())
    assert (np.diff(troubled.arrival_us) >= 0).all()
    assert len(troubled) == len(troubled.arrival_us) == sum(after.values())
    assert troubled.requests is calm.requests
    if share == 0:
        assert rows(troubled) == rows(calm)
        assert troubled.arrival_us.tolist() == calm.arrival_us.tolist()
    if share == 1:
        assert set(after.values()) <= {2}


@given(st.integers(0, 999))
def test_no_row_comes_before_it_happened(seed: int) -> None:
    troubled = disturb(world(80), 0.3, 200, np.random.default_rng(seed))
    assert (troubled.arrival_us >= np.asarray(troubled.columns["number"]) * 10).all()


def test_trouble_is_the_same_for_the_same_seed() -> None:
    one, same, other = (disturb(world(50), 0.3, 100, np.random.default_rng(s)) for s in (1, 1, 2))
    assert rows(one) == rows(same)
    assert one.arrival_us.tolist() == same.arrival_us.tolist()
    assert rows(one) != rows(other)


def test_each_kind_of_trouble_happens() -> None:
    troubled = disturb(world(200), 0.2, 500, np.random.default_rng(0))
    numbers = np.asarray(troubled.columns["number"])
    assert 20 <= len(troubled) - 200 <= 60
    assert (np.diff(numbers) < 0).sum() > 20
    assert (troubled.arrival_us > numbers * 10).sum() > 20


def test_rows_leave_null_fields_out() -> None:
    assert world(6).rows(0, 2) == [{"number": 0}, {"number": 1, "note": "note 1", "price": 0.5}]
    assert world(6).rows(4, 5) == [{"number": 4, "note": "note 4"}]
    assert world(6).rows(3, 3) == []


def test_a_slice_is_of_every_column() -> None:
    part = world(8).slice(2, 5)
    note = part["note"]
    assert isinstance(note, Texts)
    assert note.to_list() == ["note 2", None, "note 4"]
    assert np.asarray(part["number"]).tolist() == [2, 3, 4]
    assert {len(column) for column in part.values()} == {3}


def test_what_is_out_of_order_is_refused() -> None:
    calm = world(3)
    with pytest.raises(InputError, match="rows of stream 'sales' or its requests are not in order"):
        replace(calm, arrival_us=np.array([0, 20, 10]))
    with pytest.raises(InputError, match="not in order of time"):
        replace(calm, requests=replace(calm.requests, t_us=np.array([15, 5])))


def test_requests_are_taken_whole() -> None:
    taken = world(1).requests.take(np.array([1]))
    assert (len(taken), taken.t_us.tolist(), taken.ids.to_list()) == (1, [15], ["r1"])
    assert taken.fields["user"].to_list() == [None]
