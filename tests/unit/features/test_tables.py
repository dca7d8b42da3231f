"""Tables: rows that hold until the next one, deletes among them, in both engines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import sevenfold as sf
from sevenfold.engines.offline import read_at
from sevenfold.engines.online import OnlineEngine
from sevenfold.features.frame import FeatureFrame, Spine
from sevenfold.features.plan import compile_plan
from sevenfold.sources.validate import validate
from sevenfold.stores.memory import MemoryStore
from sevenfold.types import EventBatch, Texts, VectorState

VALUE, NULL, MISSING, STALE = (
    VectorState.VALUE,
    VectorState.NULL,
    VectorState.MISSING,
    VectorState.STALE,
)
NAN = float("nan")
ad = sf.Entity("ad")
ads = sf.Table("ads", ad, {"bid": sf.Number(), "op": sf.Id()}, time="at", delete="gone")
Row = tuple[int, int, float, float]
"""event_us, known_us, bid, gone."""


def batch_of(rows: Sequence[Row]) -> EventBatch:
    event, known, bid, gone = (
        np.array(column) for column in zip(*sorted(rows, key=lambda r: r[1]), strict=True)
    )
    ids = Texts.of([f"{i:03d}" for i in range(len(rows))])
    keys, ops = Texts.of(["a"] * len(rows)), Texts.of([None] * len(rows))
    fields = {"bid": bid.astype(float), "gone": gone.astype(float), "op": ops}
    return EventBatch("ads", event, known, ids, {"ad": keys}, fields)


def read(rows: Sequence[Row], t_us: int, **options: Any) -> tuple[float, int]:
    """The bid at `t_us`, which both engines must agree on."""
    plan = compile_plan([sf.attribute(ad, ads, "bid", name="now", **options)])
    spine = Spine(np.array([t_us]), {"ad": Texts.of(["a"])})
    batch = batch_of(rows)
    offline = read_at(plan, ["now__bid"], spine, {"ads": batch})
    store, engine = MemoryStore(), OnlineEngine(plan)
    with store.write() as txn:
        engine.apply(txn, batch.take(batch.known_us < t_us))
        online = engine.read(txn, ["now__bid"], spine)
    answer = _of(offline)
    assert repr(answer) == repr(_of(online))
    return answer


def _of(frame: FeatureFrame) -> tuple[float, int]:
    return float(frame.values[0, 0]), int(frame.states[0, 0])


def is_null(answer: tuple[float, int], state: int) -> bool:
    return bool(np.isnan(answer[0])) and answer[1] == state


def test_from_a_delete_on_the_value_is_missing_and_before_it_is_still_there() -> None:
    rows = [(10, 10, 1.5, 0), (20, 20, NAN, 1)]
    assert is_null(read(rows, 10), MISSING)
    assert read(rows, 11) == (1.5, VALUE)
    assert read(rows, 20) == (1.5, VALUE)
    assert is_null(read(rows, 21), MISSING)


def test_a_later_row_brings_the_key_back() -> None:
    assert read([(10, 10, 1.5, 0), (20, 20, 9.0, 1), (30, 30, 2.5, 0)], 31) == (2.5, VALUE)


def test_a_null_is_no_delete_and_a_null_flag_is_none() -> None:
    assert is_null(read([(10, 10, NAN, 0)], 11), NULL)
    assert read([(10, 10, 4.0, NAN)], 11) == (4.0, VALUE)


def test_a_delete_that_arrives_late_deletes_only_what_was_before_it() -> None:
    late = [(10, 10, 1.5, 0), (30, 30, 2.5, 0), (20, 40, NAN, 1)]
    assert read(late, 41) == (2.5, VALUE)
    assert is_null(read([(10, 10, 1.5, 0), (20, 40, NAN, 1)], 41), MISSING)


def test_of_two_rows_at_one_instant_the_one_known_later_holds() -> None:
    assert is_null(read([(10, 10, 1.5, 0), (10, 11, 2.0, 1)], 12), MISSING)
    assert read([(10, 10, 1.5, 1), (10, 11, 2.0, 0)], 12) == (2.0, VALUE)


def test_a_value_is_kept_while_it_is_younger_than_its_ttl() -> None:
    rows = [(100, 100, 1.5, 0)]
    assert read(rows, 149, ttl="50 us") == (1.5, VALUE)
    assert is_null(read(rows, 150, ttl="50 us"), STALE)
    assert read(rows, 1 << 60) == (1.5, VALUE)
    assert is_null(read([*rows, (110, 110, NAN, 1)], 1000, ttl="50 us"), MISSING)


def test_no_null_has_the_bits_of_a_delete() -> None:
    odd = np.array([0x7FF8_0000_0000_0DE1], dtype=np.int64).view(np.float64)[0]
    assert is_null(read([(10, 10, odd, 0)], 11), NULL)


def test_a_function_of_the_row_may_say_what_is_a_delete() -> None:
    def is_delete(op_code: Any) -> Any:
        return op_code == 2

    table = sf.Table("ads", ad, {"op_code": sf.Integer()}, time="at", delete=is_delete)
    plan = compile_plan([sf.attribute(ad, table, "op_code", name="now")])
    batch = batch_of([(10, 10, 0, 0), (20, 20, 0, 0)])
    fields = {"op_code": np.array([1.0, 2.0])}
    batch = EventBatch("ads", batch.event_us, batch.known_us, batch.event_ids, batch.keys, fields)
    spine = Spine(np.array([11, 21]), {"ad": Texts.of(["a"])})
    frame = read_at(plan, plan.names, spine, {"ads": batch})
    assert frame.states[:, 0].tolist() == [VALUE, MISSING]


def test_what_is_a_delete_is_part_of_the_definition() -> None:
    plain = sf.Table("ads", ad, {"bid": sf.Number(), "gone": sf.Flag()}, time="at")
    with_deletes, without = (
        compile_plan([sf.attribute(ad, table, "bid", name="now")]).definition_hashes(["now__bid"])
        for table in (ads, plain)
    )
    assert with_deletes != without


@pytest.mark.parametrize(
    ("given", "held"),
    [(True, 1), (False, 0), (None, NAN), (1, 1), (0.0, 0), ("true", 1), ("False", 0), ("", NAN)],
)
def test_flags(given: Any, held: float) -> None:
    checked = validate(ads, [{"ad": "a", "at": 5, "gone": given}], 10)
    assert not checked.letters
    assert repr(checked.batch.fields["gone"].tolist()) == repr([float(held)])


@pytest.mark.parametrize("given", [2, "yes", [], 0.5, 1 << 70])
def test_what_is_no_flag_is_refused(given: Any) -> None:
    checked = validate(ads, [{"ad": "a", "at": 5, "gone": given}], 10)
    assert [letter.reason for letter in checked.letters] == ["wrong_type"]
    assert "give true, false or null" in checked.letters[0].detail


def test_a_table_names_its_rows_by_its_entities() -> None:
    shelf = sf.Table("shelf", [sf.Entity("shop"), ad], {"price": sf.Number()}, time="at")
    assert [entity.name for entity in shelf.keys] == ["shop", "ad"]
    assert "gone" in ads.fields
    assert shelf.delete is None
