"""From values of views to the features asked for."""

from __future__ import annotations

import numpy as np
import pytest

import sevenfold as sf
from sevenfold.errors import InputError, NotFoundError
from sevenfold.features.assemble import assemble
from sevenfold.features.frame import FeatureFrame, Spine
from sevenfold.features.plan import Plan, compile_plan
from sevenfold.types import Texts, VectorState

user = sf.Entity("user")
sales = sf.Stream("sales", time="at", keys=[user], fields={"price": sf.Number()})


@sf.on_demand
def spent_an_hour(user__sum_price: np.ndarray, hours: np.ndarray) -> np.ndarray:
    return user__sum_price / hours


@sf.on_demand
def again(spent_an_hour: np.ndarray) -> np.ndarray:
    return spent_an_hour * 2


@sf.on_demand
def second(request_time: np.ndarray) -> np.ndarray:
    return request_time // 1_000_000


@pytest.fixture
def plan() -> Plan:
    view = sf.aggregate(user, sales, sf.count(), sf.sum("price"), sf.last("price"))
    return compile_plan([again, spent_an_hour, second, view])


def spine(n: int, **fields: list[float]) -> Spine:
    t_us = np.full(n, 5_000_000, dtype=np.int64)
    return Spine(t_us, {"user": Texts.of(["a"])}, {k: np.array(v) for k, v in fields.items()})


def values(n: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    states = np.array([[VectorState.VALUE, VectorState.VALUE, VectorState.NULL]], dtype=np.uint8)
    return {"user": (np.tile([[2.0, 8.0, np.nan]], (n, 1)), np.tile(states, (n, 1)))}


def test_one_key_and_one_field_serve_all_rows(plan: Plan) -> None:
    names = ["again", "user__last_price", "user__count", "second"]
    frame = assemble(plan, names, spine(3, hours=[4.0]), values(1))
    np.testing.assert_array_equal(frame.values, np.tile([4.0, np.nan, 2.0, 5.0], (3, 1)))
    assert frame.states[0].tolist() == [0, VectorState.NULL, 0, 0]
    assert frame.names == tuple(names)


def test_rows_of_their_own_stay_their_own(plan: Plan) -> None:
    frame = assemble(plan, ["spent_an_hour"], spine(2, hours=[4.0, np.nan]), values(2))
    np.testing.assert_array_equal(frame.values[:, 0], [2.0, np.nan])
    assert frame.states[:, 0].tolist() == [VectorState.VALUE, VectorState.NULL]


def test_vectors_are_float32_with_nan_for_null(plan: Plan) -> None:
    frame = assemble(plan, ["user__last_price", "user__count"], spine(1), values(1))
    assert frame.vectors().dtype == np.float32
    np.testing.assert_array_equal(frame.vectors(), np.array([[np.nan, 2]], dtype=np.float32))
    assert frame.column("user__count").tolist() == [2.0]
    with pytest.raises(
        NotFoundError, match="no feature 'nope' in this frame; there are user__last_price"
    ):
        frame.column("nope")


def test_a_missing_request_field_is_named_with_those_given(plan: Plan) -> None:
    with pytest.raises(InputError, match=r"\$\.hours: .* given are .*minutes"):
        assemble(plan, ["again"], spine(2, minutes=[1.0]), values(1))


def test_a_function_of_another_shape_is_refused() -> None:
    @sf.on_demand
    def wrong(request_time: np.ndarray) -> np.ndarray:
        return request_time[:-1] * 1.0

    with pytest.raises(InputError, match=r"\$\.wrong: .* shape \(2,\) for 3 rows"):
        assemble(compile_plan([wrong]), ["wrong"], spine(3), {})


def test_a_function_may_give_one_value_for_all_rows() -> None:
    @sf.on_demand
    def constant(request_time: np.ndarray) -> float:
        return 0.5

    frame = assemble(compile_plan([constant]), ["constant"], spine(3), {})
    assert frame.values[:, 0].tolist() == [0.5] * 3
    assert FeatureFrame(frame.names, frame.values, frame.states).column("constant").shape == (3,)


def test_a_spine_refuses_columns_of_another_length() -> None:
    with pytest.raises(InputError, match=r"\$\.hours: the column has 2 rows, the spine 3"):
        spine(3, hours=[1.0, 2.0])
    with pytest.raises(InputError, match=r"\$\.user: the column has 2 rows, the spine 3"):
        Spine(np.zeros(3, dtype=np.int64), {"user": Texts.of(["a", "b"])})
    assert len(spine(0, hours=[1.0])) == 0
