"""Features as of then: every row of the spine, once, in its order, with nothing it could not know."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import sevenfold as sf
from sevenfold.engines.offline import read_at
from sevenfold.errors import InputError, NotFoundError
from sevenfold.features.frame import FeatureFrame, Spine
from sevenfold.features.plan import Plan, compile_plan
from sevenfold.types import US_PER_S, EventBatch, Texts, VectorState

Log = dict[str, EventBatch]
NAMES = ("user__count", "user_x_item__sum_price", "dear__sum_price_1h", "user_profiles__age")


def spine(rows: list[tuple[int, str | None, str | None]]) -> Spine:
    seconds, users, items = (list(column) for column in zip(*rows, strict=True))
    t_us = np.array(seconds, dtype=np.int64) * US_PER_S
    return Spine(t_us, {"user": Texts.of(users), "item": Texts.of(items)})


def same(a: FeatureFrame, b: FeatureFrame) -> bool:
    return a.values.tobytes() == b.values.tobytes() and a.states.tobytes() == b.states.tobytes()


ROWS: list[tuple[int, str | None, str | None]] = [
    (14_400, "u0", "i1"),
    (3_600, "u1", "i0"),
    (3_600, "u1", "i0"),
    (9_000, "u0", None),
    (3_600, "u1", "i2"),
    (0, "u0", "i0"),
    (9_000, None, "i1"),
    (10_000, "nobody", "nothing"),
    (14_400, "u0", "i1"),
    (20_000, "u2", "i1"),
]


def test_rows_come_back_each_as_if_it_were_alone(
    plan: Plan, log: Callable[[int, int], Log]
) -> None:
    events = log(1, 120)
    whole = read_at(plan, NAMES, spine(ROWS), events)
    assert whole.values.shape == (len(ROWS), len(NAMES))
    for i, row in enumerate(ROWS):
        alone = read_at(plan, NAMES, spine([row]), events)
        assert alone.values[0].tobytes() == whole.values[i].tobytes()
        assert alone.states[0].tobytes() == whole.states[i].tobytes()


def test_what_is_known_later_changes_nothing(plan: Plan, log: Callable[[int, int], Log]) -> None:
    events = log(2, 200)
    asked = spine([row for row in ROWS if row[0] <= 9_000])
    known = {name: batch.take(batch.known_us < 9_000 * US_PER_S) for name, batch in events.items()}
    assert len(known["sales"]) < len(events["sales"])
    assert same(read_at(plan, NAMES, asked, events), read_at(plan, NAMES, asked, known))


def test_unknown_and_null_keys_read_as_empty(plan: Plan, log: Callable[[int, int], Log]) -> None:
    frame = read_at(plan, NAMES, spine([(9_000, None, "i1"), (9_000, "nobody", "i1")]), log(1, 120))
    for row in (0, 1):
        assert frame.values[row, :2].tolist() == [0.0, 0.0]
        assert frame.values[row, 2] > 0
        assert frame.states[row].tolist() == [0, 0, 0, VectorState.MISSING]


def test_an_empty_spine_and_empty_streams_are_fine(
    plan: Plan, log: Callable[[int, int], Log]
) -> None:
    empty = Spine(np.empty(0, dtype=np.int64), {"user": Texts.of([]), "item": Texts.of([])})
    assert read_at(plan, NAMES, empty, log(1, 20)).values.shape == (0, len(NAMES))
    assert read_at(plan, NAMES, spine(ROWS), log(1, 0)).values[:, 0].tolist() == [0.0] * len(ROWS)


def test_one_key_serves_all_rows(plan: Plan, log: Callable[[int, int], Log]) -> None:
    t_us = np.array([9_000, 3_600, 14_400]) * US_PER_S
    items = Texts.of(["i0", "i1", "i2"])
    one = Spine(t_us, {"user": Texts.of(["u1"]), "item": items})
    three = Spine(t_us, {"user": Texts.of(["u1"] * 3), "item": items})
    assert same(read_at(plan, NAMES, one, log(3, 90)), read_at(plan, NAMES, three, log(3, 90)))


def test_what_is_missing_is_named(plan: Plan, log: Callable[[int, int], Log]) -> None:
    events, rows = log(1, 20), spine(ROWS)
    with pytest.raises(
        NotFoundError, match="no feature named 'nope'; there are dear__sum_price_10min"
    ):
        read_at(plan, ["user__count", "nope"], rows, events)
    with pytest.raises(InputError, match="need the events of stream 'profiles'; given are sales"):
        read_at(plan, NAMES, rows, {"sales": events["sales"]})
    with pytest.raises(
        InputError, match=r"\$\.item: features of 'user_x_item' need the key of 'item'; .* user$"
    ):
        read_at(plan, NAMES, Spine(rows.t_us, {"user": rows.keys["user"]}), events)
    with pytest.raises(InputError, match=r"\$\.budget"):
        read_at(plan, ["share"], rows, events)


def test_only_what_is_needed_is_asked_for(plan: Plan, log: Callable[[int, int], Log]) -> None:
    told: list[str] = []
    rows = Spine(np.array([9_000 * US_PER_S]), {"item": Texts.of(["i0"])})
    read_at(
        plan,
        ["other__sum_price_1h", "dear__sum_price_1h"],
        rows,
        {"sales": log(1, 50)["sales"]},
        told.append,
    )
    assert told == ["dear", "other"]


def test_an_event_counts_from_the_instant_after_it_is_known() -> None:
    user = sf.Entity("user")
    stream = sf.Stream("s", time="at", keys=[user], fields={"x": sf.Number()})
    plan = compile_plan([sf.aggregate(user, stream, sf.count(), sf.since_last())])
    key = {"user": Texts.of(["u"])}
    late = EventBatch(
        "s", np.array([5]), np.array([9]), Texts.of(["e"]), key, {"x": np.array([1.0])}
    )
    frame = read_at(plan, plan.names, Spine(np.array([10, 9, 6]), key), {"s": late})
    assert frame.column("user__count").tolist() == [1.0, 0.0, 0.0]
    np.testing.assert_array_equal(frame.column("user__since_last"), [5e-6, np.nan, np.nan])
