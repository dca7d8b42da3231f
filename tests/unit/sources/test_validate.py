"""Every row ends as one event or one dead letter, for the reason that a person would give."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.errors import InputError, TimeError
from sevenfold.sources.validate import Validated, Validator, no_events, validate
from sevenfold.spec.entity import Entity
from sevenfold.spec.field import Category, Flag, Id, Integer, Number, Text, Vector
from sevenfold.spec.stream import Stream
from sevenfold.types import US_PER_S, EventBatch, Texts

NOW = 1_700_000_000_000_000
FIELDS = {
    "quantity": Integer(low=-1000, high=1000),
    "price": Number(low=0),
    "country": Category(["UK", "France"]),
    "channel": Category(["web"], other=True),
    "invoice": Id(),
    "note": Text(),
}
GOOD: dict[str, Any] = {
    "at": NOW - 5,
    "customer": "c1",
    "item": "tea",
    "quantity": 2,
    "price": 1.5,
    "country": "France",
    "channel": "app",
    "invoice": "i7",
    "note": "two\nlines ☕",
}


def stream(**changes: Any) -> Stream:
    settings: dict[str, Any] = {
        "name": "sales",
        "time": "at",
        "keys": [Entity("customer"), Entity("item")],
        "optional_keys": [Entity("item")],
        "fields": FIELDS,
    }
    return Stream(**(settings | changes))


def one(row: Any, **changes: Any) -> Validated:
    return validate(stream(**changes), [row], NOW)


def refused(row: Any, **changes: Any) -> tuple[str, str]:
    found = one(row, **changes)
    assert (len(found.batch), len(found.letters)) == (0, 1), found.batch
    assert found.letters[0].row == (row if isinstance(row, dict) else {"row": row})
    assert found.letters[0].stream == "sales"
    return found.letters[0].reason, found.letters[0].detail


def test_a_good_row_becomes_an_event() -> None:
    found = one(GOOD)
    batch = found.batch
    assert found.letters == []
    assert (batch.stream, batch.event_us.tolist(), batch.known_us.tolist()) == (
        "sales",
        [NOW - 5],
        [NOW],
    )
    assert {name: keys.to_list() for name, keys in batch.keys.items()} == {
        "customer": ["c1"],
        "item": ["tea"],
    }
    assert {
        name: column.to_list() if isinstance(column, Texts) else column.tolist()
        for name, column in batch.fields.items()
    } == {
        "quantity": [2.0],
        "price": [1.5],
        "country": [1.0],
        "channel": [1.0],
        "invoice": ["i7"],
        "note": ["two\nlines ☕"],
    }


def test_nulls_and_fields_left_out_are_the_same() -> None:
    spare = {"at": NOW, "customer": "c1"}
    nulls = dict.fromkeys(GOOD) | spare | {"price": math.nan, "invoice": ""}
    for row in (spare, nulls):
        batch = one(row).batch
        assert all(
            np.isnan(batch.fields[name]).all()
            for name in ("quantity", "price", "country", "channel")
        )
        assert batch.fields["invoice"].to_list() == batch.fields["note"].to_list() == [None]  # type: ignore[union-attr]
        assert batch.keys["item"].to_list() == [None]


@pytest.mark.parametrize(
    ("change", "reason", "words"),
    [
        ({"at": None}, "missing_time", "$[0].at: the time of the event is missing"),
        ({"at": "yesterday"}, "bad_time", "$[0].at: 'yesterday' is not a time"),
        ({"at": 1.5}, "bad_time", "whole microseconds"),
        ({"at": True}, "bad_time", "True is not a time"),
        ({"at": 1 << 60}, "bad_time", "1685 and 2255"),
        ({"at": math.inf}, "bad_time", "inf is not a time"),
        ({"at": "2011-02-30T00:00:00Z"}, "bad_time", "is not a time"),
        ({"at": "٢٠١١-02-03T00:00:00Z"}, "bad_time", "is not a time"),
        ({"at": "2011-02-03T00:00:00"}, "naive_time", "declare the time zone"),
        (
            {"at": NOW + 6 * US_PER_S},
            "from_the_future",
            "6 s after it became known, 5 s are allowed",
        ),
        ({"customer": None}, "missing_customer", "the key of entity 'customer' is missing"),
        ({"customer": ""}, "missing_customer", "$[0].customer"),
        ({"customer": 1.5}, "wrong_type", "1.5 is not a name"),
        ({"customer": ["c1"]}, "wrong_type", "['c1'] is not a name"),
        ({"customer": 1 << 70}, "wrong_type", "is not a name"),
        ({"customer": "é" * 129}, "too_long", "longer than 256 bytes"),
        ({"customer": "a\x00b"}, "control_character", "'a\\x00b' holds a control character"),
        ({"item": "a\x85"}, "control_character", "$[0].item"),
        ({"item": "\ud800"}, "wrong_type", "'\\ud800' is not a name"),
        ({"quantity": 1.5}, "not_whole", "1.5 is not a whole number"),
        ({"quantity": "2"}, "wrong_type", "'2' is not a number"),
        ({"quantity": True}, "wrong_type", "True is not a number"),
        ({"quantity": 1001}, "out_of_range", "1001 is above the highest allowed, 1000"),
        ({"quantity": (1 << 53) + 1}, "out_of_range", "beyond 2^53"),
        ({"quantity": 10**400}, "out_of_range", "an integer of more than 60 digits lies beyond"),
        ({"quantity": -math.inf}, "infinite", "-inf is infinite as a float64"),
        ({"price": -0.01}, "out_of_range", "-0.01 is below the lowest allowed, 0"),
        ({"price": math.inf}, "infinite", "inf is infinite as a float64; give"),
        ({"price": 10**400}, "infinite", "more than 60 digits is infinite"),
        ({"price": {"pounds": 1}}, "wrong_type", "{'pounds': 1} is not a number"),
        (
            {"country": "Atlantis"},
            "unknown_category",
            "not one of the declared values (UK, France)",
        ),
        ({"country": "fr\x1bance"}, "control_character", "$[0].country"),
        ({"invoice": "x" * 257}, "too_long", "$[0].invoice"),
        ({"note": 5}, "wrong_type", "5 is not a text"),
        ({"note": "bell\x07"}, "control_character", "$[0].note"),
        ({"note": "x" * 10_001}, "too_long", "longer than 10000 bytes"),
        ({"extra": object}, "wrong_type", "what JSON cannot hold"),
    ],
)
def test_a_bad_value_is_a_dead_letter_with_a_reason(
    change: dict[str, Any], reason: str, words: str
) -> None:
    found, detail = refused(GOOD | change)
    assert found == reason
    assert words in detail
    assert detail.endswith(".")


@pytest.mark.parametrize("row", [None, [], "text", 5])
def test_a_row_that_is_no_object_is_a_dead_letter(row: Any) -> None:
    assert refused(row) == ("not_an_object", "$[0]: a row is an object of fields and values.")


def test_a_bad_row_takes_no_good_one_with_it() -> None:
    rows = [GOOD, GOOD | {"price": math.inf}, None, GOOD | {"customer": "c2"}]
    found = validate(stream(), rows, NOW)
    assert found.event_rows.tolist() == [0, 3]
    assert found.letter_rows.tolist() == [1, 2]
    assert found.batch.keys["customer"].to_list() == ["c1", "c2"]
    assert [letter.reason for letter in found.letters] == ["infinite", "not_an_object"]
    assert found.letters[0].detail.startswith("$[1].price")


def test_no_rows_are_no_events() -> None:
    found = validate(stream(), [], NOW)
    assert (len(found.batch), found.letters) == (0, [])


def test_whole_numbers_name_things_in_digits() -> None:
    rows = [GOOD | {"customer": key} for key in (13085, 13085.0, "13085", 2**63 + 1, -7)]
    found = validate(stream(), rows, NOW)
    assert found.batch.keys["customer"].to_list() == [
        "13085",
        "13085",
        "13085",
        str(2**63 + 1),
        "-7",
    ]


def test_an_event_a_little_ahead_is_clamped_to_when_it_became_known() -> None:
    for ahead in (0, 1, 5 * US_PER_S):
        assert one(GOOD | {"at": NOW + ahead}).batch.event_us.tolist() == [NOW]
    assert len(one(GOOD | {"at": NOW + 5 * US_PER_S + 1}).batch) == 0
    assert len(one(GOOD | {"at": NOW + 60 * US_PER_S}, skew="1 min").batch) == 1


def test_times_are_read_in_all_declared_forms() -> None:
    expected = 1_297_000_800_123_456
    for at in (
        expected,
        float(expected),
        "2011-02-06T14:00:00.123456Z",
        "2011-02-06t14:00:00.123456789z",
        "2011-02-06 15:00:00.123456+01:00",
        "2011-02-06T09:30:00.123456-04:30",
    ):
        assert one(GOOD | {"at": at}).batch.event_us.tolist() == [expected], at


def test_local_times_need_a_zone_and_the_hour_of_the_change_is_refused() -> None:
    london = {"timezone": "Europe/London"}
    assert one(GOOD | {"at": "2011-07-01T12:00:00"}, **london).batch.event_us.tolist() == [
        1_309_518_000_000_000
    ]
    assert one(GOOD | {"at": "2011-12-01T12:00:00"}, **london).batch.event_us.tolist() == [
        1_322_740_800_000_000
    ]
    assert refused(GOOD | {"at": "2011-03-27T01:30:00"}, **london)[0] == "nonexistent_time"
    reason, detail = refused(GOOD | {"at": "2011-10-30T01:30:00"}, **london)
    assert reason == "ambiguous_time"
    assert "happened twice in Europe/London" in detail
    assert len(one(GOOD | {"at": "2011-10-30T01:30:00+01:00"}, **london).batch) == 1
    with pytest.raises(TimeError, match="'Mars/Base' is no time zone"):
        Validator(stream(timezone="Mars/Base"))


def test_history_is_known_after_the_declared_delay_or_when_it_says() -> None:
    late = validate(stream(delay="2 h"), [GOOD])
    assert late.batch.known_us.tolist() == [GOOD["at"] + 7_200 * US_PER_S]
    said = stream(known="arrived")
    rows = [
        GOOD | {"arrived": NOW},
        GOOD | {"arrived": "2001-01-01T00:00:00Z"},
        GOOD | {"arrived": None},
    ]
    found = validate(said, rows)
    assert found.batch.known_us.tolist() == [NOW]
    assert [letter.reason for letter in found.letters] == ["from_the_future", "missing_time"]


def test_an_id_comes_from_its_field() -> None:
    named = {"id": "line"}
    assert one(GOOD | {"line": 12}, **named).batch.event_ids.to_list() == ["12"]
    assert refused(GOOD, **named)[0] == "missing_id"
    assert refused(GOOD | {"line": ""}, **named)[0] == "missing_id"


def content_id(row: dict[str, Any], **changes: Any) -> str | None:
    found = one(row, **changes)
    assert not found.letters, found.letters
    return found.batch.event_ids.to_list()[0]


def test_the_id_of_content_is_the_row_and_nothing_else() -> None:
    base = content_id(GOOD)
    assert base is not None
    assert len(base) == 32
    same = [
        dict(reversed(GOOD.items())),
        GOOD | {"extra": None, "more": math.nan},
        GOOD | {"quantity": 2.0},
        GOOD | {"at": "2023-11-14T22:13:19.999995Z"},
    ]
    assert {content_id(row) for row in same} == {base}
    others = [
        GOOD | {"extra": 1},
        GOOD | {"extra": "1"},
        GOOD | {"extra": True},
        GOOD | {"extra": 1 << 80},
        GOOD | {"extra": (1 << 80) + 1},
        GOOD | {"extra": f"int {1 << 80:x}"},
        GOOD | {"extra": [1]},
        GOOD | {"extra": {"a": [1]}},
        GOOD | {"extra": datetime(2020, 1, 1)},  # noqa: DTZ001
        GOOD | {"extra": ""},
        GOOD | {"extras": 1},
        GOOD | {"quantity": 1, "price": 2},
        GOOD | {"quantity": 2, "price": 1},
        GOOD | {"quantity": 0},
        GOOD | {"quantity": None},
        GOOD | {"customer": "tea", "item": "c1"},
        GOOD | {"at": NOW},
    ]
    assert len({base, *(content_id(row) for row in others)}) == 1 + len(others)


def test_columns_and_rows_give_the_same_events_ids_and_letters() -> None:
    rows = [
        GOOD | {"customer": customer, "price": price, "shelf": shelf, "ok": ok}
        for customer, price, shelf, ok in [
            (13085, 1.0, "a", True),
            (None, 2.0, None, False),
            (7, math.inf, "☕", True),
            (8, None, "a\tb", False),
        ]
    ]
    columns: dict[str, Any] = {
        name: Texts.of([row[name] for row in rows])
        for name in ("item", "country", "channel", "invoice", "note", "shelf")
    }
    columns["at"] = np.full(4, GOOD["at"])
    columns["customer"] = np.ma.array([13085, 1, 7, 8], mask=[False, True, False, False])
    columns["quantity"] = np.full(4, 2, dtype=np.int16)
    columns["price"] = np.array([1.0, 2.0, math.inf, math.nan])
    columns["ok"] = np.array([True, False, True, False])
    of_rows, of_columns = validate(stream(), rows, NOW), validate(stream(), columns, NOW)
    assert of_rows.batch.event_ids.to_list() == of_columns.batch.event_ids.to_list()
    assert of_columns.event_rows.tolist() == of_rows.event_rows.tolist() == [0, 3]
    assert of_columns.letters == of_rows.letters
    assert [letter.reason for letter in of_rows.letters] == ["missing_customer", "infinite"]
    assert of_columns.batch.keys["customer"].to_list() == ["13085", "8"]


def test_columns_of_local_times_are_read_in_the_zone() -> None:
    spare = stream(fields={}, keys=[], optional_keys=[], timezone="Europe/London")
    local = np.array(
        ["2011-07-01T12:00", "2011-03-27T01:30", "NaT", "2011-12-01T12:00:00.000001"],
        "datetime64[us]",
    )
    found = validate(spare, {"at": local})
    assert found.batch.event_us.tolist() == [1_309_518_000_000_000, 1_322_740_800_000_001]
    assert [letter.reason for letter in found.letters] == ["nonexistent_time", "missing_time"]


def test_large_integers_in_columns_are_not_rounded() -> None:
    spare = stream(fields={"n": Integer()}, keys=[Entity("customer")], optional_keys=[])
    keys = np.array([(1 << 62) + 1, (1 << 62) + 2], dtype=np.int64)
    found = validate(
        spare, {"at": np.array([NOW, NOW]), "customer": keys, "n": np.array([1 << 53, 5])}
    )
    assert found.batch.keys["customer"].to_list() == [str((1 << 62) + 1), str((1 << 62) + 2)]
    assert found.batch.fields["n"].tolist() == [float(1 << 53), 5.0]  # type: ignore[union-attr]
    assert len(set(found.batch.event_ids)) == 2
    over = validate(
        spare, {"at": np.array([NOW]), "customer": keys[:1], "n": np.array([(1 << 53) + 1])}
    )
    assert over.letters[0].reason == "out_of_range"
    unsigned = np.array([(1 << 64) - 1], dtype=np.uint64)
    found = validate(spare, {"at": np.array([NOW]), "customer": unsigned, "n": np.array([0])})
    assert found.batch.keys["customer"].to_list() == [str((1 << 64) - 1)]


def test_wrong_columns_are_told() -> None:
    spare = stream(fields={}, keys=[], optional_keys=[])
    with pytest.raises(InputError, match="no column 'at'; given are x"):
        validate(spare, {"x": np.zeros(2)})
    with pytest.raises(InputError, match=r"lengths \[1, 2\]"):
        validate(spare, {"at": np.zeros(2), "x": np.zeros(1)})
    with pytest.raises(InputError, match="dtype complex128 cannot be read"):
        validate(spare, {"at": np.zeros(2, dtype=np.complex128)})


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(NOW - 10**7, NOW + 10**7)
    | st.floats()
    | st.text(max_size=8)
    | st.characters(categories=["Cs", "Cc"])
    | st.sampled_from(["UK", "France", "web", "2011-03-27T01:30:00", "2011-07-01T12:00:00Z"])
    | st.datetimes()
    | st.binary(max_size=3)
)
GARBAGE = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
)
ROWS = st.lists(
    SCALARS
    | st.fixed_dictionaries(
        {}, optional={name: GARBAGE | st.just(value) for name, value in GOOD.items()}
    ).flatmap(
        lambda row: st.dictionaries(st.text(max_size=3), GARBAGE, max_size=2).map(
            lambda more: more | row
        )
    ),
    max_size=8,
)


@given(ROWS, st.sampled_from([None, "Europe/London"]), st.sampled_from([None, NOW]), st.booleans())
def test_any_rows_end_as_events_or_letters(
    rows: list[Any], timezone: str | None, known_us: int | None, own_id: bool
) -> None:
    declared = stream(timezone=timezone, **({"id": "invoice"} if own_id else {}))
    found = validate(declared, rows, known_us)
    assert len(found.batch) == len(found.event_rows)
    assert len(found.letters) == len(found.letter_rows)
    assert sorted([*found.event_rows.tolist(), *found.letter_rows.tolist()]) == list(
        range(len(rows))
    )
    assert (found.batch.event_us <= found.batch.known_us).all()
    for letter, row in zip(found.letters, found.letter_rows.tolist(), strict=True):
        assert letter.reason.replace("_", "").isalnum()
        assert letter.detail.startswith(f"$[{row}]")
        assert letter.row is rows[row] or letter.row == {"row": rows[row]}
    for row in found.event_rows.tolist():
        alone = validate(declared, [rows[row]], known_us)
        at = found.event_rows.tolist().index(row)
        assert alone.batch.event_ids.to_list() == [found.batch.event_ids.to_list()[at]]


@given(st.data(), st.integers(0, 6))
def test_any_columns_end_as_events_or_letters(data: st.DataObject, n: int) -> None:
    def column() -> st.SearchStrategy[Any]:
        numbers = st.lists(st.integers(-(1 << 63), (1 << 63) - 1), min_size=n, max_size=n)
        masks = st.lists(st.booleans(), min_size=n, max_size=n)
        return st.one_of(
            st.builds(lambda x, m: np.ma.array(x, mask=m, dtype=np.int64), numbers, masks),
            numbers.map(lambda x: np.array(x, dtype=np.int64).view(np.uint64)),
            numbers.map(lambda x: np.array(x, dtype=np.int64).view(np.float64)),
            numbers.map(lambda x: np.array(x, dtype=np.int64).view("datetime64[us]")),
            st.lists(st.integers(-100, 100), min_size=n, max_size=n).map(
                lambda x: np.array(x, dtype=np.int8)
            ),
            masks.map(lambda x: np.array(x, dtype=np.bool_)),
            st.lists(
                st.none() | st.text(st.characters(exclude_categories=["Cs"])),
                min_size=n,
                max_size=n,
            ).map(Texts.of),
            st.just(np.full(n, NOW)),
        )

    columns = {name: data.draw(column(), label=name) for name in GOOD}
    found = validate(stream(timezone="Europe/London"), columns)
    assert len(found.batch) + len(found.letters) == n
    assert sorted([*found.event_rows.tolist(), *found.letter_rows.tolist()]) == list(range(n))
    assert [set(letter.row) for letter in found.letters] == [set(GOOD)] * len(found.letters)


def test_no_events_are_of_the_kinds_that_events_have() -> None:
    shop = Stream(
        "shop",
        time="at",
        id="id",
        keys=[Entity("customer"), Entity("item")],
        fields={"n": Number(), "tag": Id(), "note": Text(), "v": Vector(width=3), "ok": Flag()},
        timezone="UTC",
    )
    row = {"at": "2024-01-01", "id": "a", "customer": "c", "item": "i", "n": 1.5, "tag": "t"}
    row = {**row, "at": "2024-01-01T00:00:00", "v": [1.0, 2.0, 3.0], "ok": True, "note": None}
    some, none = validate(shop, [row]).batch, no_events(shop)
    assert len(some) == 1
    assert len(none) == 0
    both = EventBatch.concat([none, some, none])
    assert {name: type(column) for name, column in none.fields.items()} == {
        name: type(column) for name, column in some.fields.items()
    }
    for name, column in some.fields.items():
        mine = both.fields[name]
        if isinstance(column, Texts) and isinstance(mine, Texts):
            assert mine.to_list() == column.to_list()
        else:
            assert np.asarray(mine).tobytes() == np.asarray(column).tobytes()
            assert np.asarray(none.fields[name]).dtype == np.asarray(column).dtype
