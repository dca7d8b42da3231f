"""Clocks that change, seconds that are written as 60, and the ends of time: an answer or a clear refusal."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.engines.offline import read_at
from sevenfold.features.frame import Spine
from sevenfold.features.plan import compile_plan
from sevenfold.sources.files import read_pieces
from sevenfold.sources.validate import Validated, validate
from sevenfold.spec import aggregate as agg
from sevenfold.spec.entity import Entity
from sevenfold.spec.field import Number
from sevenfold.spec.stream import Stream
from sevenfold.types import Texts

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CUSTOMER = Entity("customer")


def stream(timezone: str | None = None) -> Stream:
    """Sales somewhere."""
    fields = {"price": Number()}
    return Stream("sales", time="at", id="line", keys=[CUSTOMER], fields=fields, timezone=timezone)


def taken(*times: Any, timezone: str | None = None) -> Validated:
    """What becomes of one event at each of the times."""
    rows = [
        {"line": f"l{i}", "at": at, "customer": "c", "price": 1.0} for i, at in enumerate(times)
    ]
    return validate(stream(timezone), rows)


def us_of(text: str) -> int:
    """The instant that a text with an offset names, by Python's own reading."""
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1)


@pytest.mark.parametrize(
    "zone", ["Europe/London", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]
)
@given(minute=st.integers(0, 366 * 24 * 60))
def test_a_local_time_is_what_the_zone_says_or_refused(zone: str, minute: int) -> None:
    local = datetime(2024, 1, 1) + timedelta(minutes=minute)  # noqa: DTZ001  local is what is tested
    places = ZoneInfo(zone)
    moments = [local.replace(tzinfo=places, fold=fold).astimezone(UTC) for fold in (0, 1)]
    fit = {m for m in moments if m.astimezone(places).replace(tzinfo=None, fold=0) == local}
    found = taken(local.isoformat(), timezone=zone)
    if len(fit) == 1:
        assert found.batch.event_us.tolist() == [(fit.pop() - EPOCH) // timedelta(microseconds=1)]
    else:
        reason = "ambiguous_time" if fit else "nonexistent_time"
        assert [letter.reason for letter in found.letters] == [reason]


LEAPS = [
    "2016-12-31T23:59:60Z",
    "2016-12-31T23:59:60.75Z",
    "2017-01-01T00:59:60+01:00",
    "2015-06-30T23:59:60Z",
]


@pytest.mark.parametrize("text", LEAPS)
def test_a_leap_second_is_the_last_moment_of_its_day(text: str) -> None:
    day = "2015-07-01T00:00:00+00:00" if text.startswith("2015") else "2017-01-01T00:00:00+00:00"
    assert taken(text).batch.event_us.tolist() == [us_of(day) - 1]


@pytest.mark.parametrize(
    "text",
    [
        "2016-12-31T12:59:60Z",
        "2016-12-30T23:59:60Z",
        "2016-12-31T23:59:61Z",
        "2016-12-31T23:58:60Z",
    ],
)
def test_a_second_60_elsewhere_is_refused(text: str) -> None:
    assert [letter.reason for letter in taken(text).letters] == ["bad_time"]


def test_a_leap_second_without_an_offset_is_refused() -> None:
    found = taken("2016-12-31T23:59:60", timezone="UTC")
    assert [letter.reason for letter in found.letters] == ["bad_time"]


BOUNDS = [
    ("1970-01-01T00:00:00Z", 0),
    ("1969-12-31T23:59:59.999999Z", -1),
    ("1970-01-01T00:30:00+01:00", -1_800_000_000),
    (0, 0),
    (-1, -1),
    ("2255-06-05T23:47:34.740992Z", 1 << 53),
    ("1684-07-28T00:12:25.259008Z", -(1 << 53)),
    (1 << 53, 1 << 53),
]
BEYOND = [
    "2255-06-05T23:47:34.740993Z",
    "2262-04-11T23:47:16.854775Z",
    "2262-04-11T23:47:16.854776Z",
    "9999-12-31T23:59:59Z",
    "0001-01-01T00:00:00+14:00",
    (1 << 53) + 1,
    (1 << 63) - 1,
    1 << 63,
    -(1 << 63),
    1e300,
    0.5,
]


@pytest.mark.parametrize(("given_time", "us"), BOUNDS)
def test_the_first_and_the_last_times(given_time: Any, us: int) -> None:
    assert taken(given_time).batch.event_us.tolist() == [us]


@pytest.mark.parametrize("given_time", BEYOND)
def test_what_lies_beyond_is_refused_with_the_years_that_are_allowed(given_time: Any) -> None:
    (letter,) = taken(given_time, "1970-01-01T00:00:00Z").letters
    assert letter.reason == "bad_time"
    assert "between the years 1685 and 2255" in letter.detail


FILED = [
    ("timestamptz '1970-01-01 00:00:00+00'", 0),
    ("timestamptz '1969-12-31 23:59:59.999999+00'", -1),
    ("timestamptz '2262-04-11 23:47:16.854775+00'", None),
    ("timestamptz '294246-01-01 00:00:00+00'", None),
    ("timestamptz 'infinity'", None),
    ("timestamptz '-infinity'", None),
    ("timestamp '1970-01-01 00:00:00'", 0),
    ("timestamp '2262-04-11 23:47:16.854775'", None),
    ("timestamp 'infinity'", None),
    ("timestamp_ns '2262-04-11 23:47:16.854775'", None),
    ("timestamp_ns '1970-01-01 00:00:00.000000999'", 0),
    ("timestamp_ns '1969-12-31 23:59:59.999999001'", -1),
    ("timestamp_ns 'infinity'", None),
    ("date '9999-12-31'", None),
    ("date '1970-01-01'", 0),
    ("'2016-12-31T23:59:60Z'", 1_483_228_799_999_999),
]


@pytest.mark.parametrize(("sql", "us"), FILED)
@pytest.mark.parametrize("end", ["parquet", "csv"])
def test_times_of_files_are_read_or_refused_row_by_row(
    sql: str, us: int | None, end: str, tmp_path: Path
) -> None:
    path = tmp_path / f"sales.{end}"
    kind = "format parquet" if end == "parquet" else "format csv, header"
    late = sql.partition(" ")[0] if not sql.startswith("'") else ""
    good = f"{late} '2000-01-01 00:00:00'" if late else "'2000-01-01T00:00:00Z'"
    good = good.replace("00'", "00+00'") if late == "timestamptz" else good
    rows = f"select * from (values ('l0', {sql}), ('l1', {good})) t(line, \"at\")"
    connection = duckdb.connect()
    connection.execute("set TimeZone = 'UTC'")
    connection.execute(
        f"copy (select *, 'c' as customer, 1.0 as price from ({rows})) to '{path}' ({kind})"
    )
    connection.close()
    (piece,) = read_pieces(path, stream("UTC"))
    found = validate(stream("UTC"), piece.rows)
    times = dict(zip(found.batch.event_ids, found.batch.event_us.tolist(), strict=True))
    assert times["l1"] == 946_684_800_000_000
    if us is None:
        assert [letter.reason for letter in found.letters] in (["bad_time"], ["missing_time"])
    else:
        assert times["l0"] == us


def test_windows_cover_the_turn_of_1970() -> None:
    found = taken(-3_600_000_000, -1, 0, 1, 3_600_000_000)
    view = agg.aggregate(CUSTOMER, stream(), agg.count(windows=["1 h"]), agg.count())
    plan = compile_plan([view])
    instants = np.array([-3_600_000_000, 0, 1, 2, 3_600_000_001], dtype=np.int64)
    spine = Spine(instants, {"customer": Texts.of(["c"] * len(instants))})
    names = ["customer__count_1h", "customer__count"]
    frame = read_at(plan, names, spine, {"sales": found.batch})
    vectors = np.asarray(frame.vectors())
    np.testing.assert_array_equal(np.nan_to_num(vectors[:, 1]), [0, 2, 3, 4, 5])
    assert vectors[2, 0] >= 2
