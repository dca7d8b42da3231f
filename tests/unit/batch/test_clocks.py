"""Clocks in a spine: changes of clocks, seconds written as 60, the ends of time; an answer or a clear refusal.

Those of events are in tests/unit/sources/test_clocks.py, with the same answers.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from sevenfold.batch import Reader
from sevenfold.errors import InputError
from tests.unit.batch.shop import DAY0, some_sales, system

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
YEAR_US = 366 * 86_400_000_000
NAMES = ["user__since_last"]
LONDON, LORD_HOWE = "Europe/London", "Australia/Lord_Howe"


@pytest.fixture(scope="module")
def reader() -> Reader:
    """A shop of which nothing is known before its first day."""
    return Reader(system, events={"sales": some_sales(50)})


def us_of(text: str) -> int:
    return (datetime.fromisoformat(text) - EPOCH) // timedelta(microseconds=1)


def given_as(kind: str, *times: Any) -> dict[str, Any]:
    """A spine with these times, as text, as numpy has them, or as whole microseconds."""
    column: Any = list(times)
    if kind == "datetime64":
        column = np.array(times, dtype="datetime64[us]")
    return {"t": column, "user": ["u0"] * len(times), "item": ["i0"] * len(times)}


def ages(reader: Reader, table: dict[str, Any], timezone: str | None = None) -> list[float]:
    """How long nothing had been heard of the user, which tells the instants apart."""
    found = reader.features_at(table, NAMES, timezone=timezone, dtype="float64")
    return np.asarray(found[NAMES[0]]).tolist()


LOCAL = [
    ("2024-03-31T00:59:59", LONDON, "2024-03-31T00:59:59+00:00"),
    ("2024-03-31T02:00:00", LONDON, "2024-03-31T02:00:00+01:00"),
    ("2024-10-27T00:59:59", LONDON, "2024-10-27T00:59:59+01:00"),
    ("2024-10-27T02:00:00", LONDON, "2024-10-27T02:00:00+00:00"),
    ("2024-10-06T02:30:00", LORD_HOWE, "2024-10-06T02:30:00+11:00"),
]
GAPS = [
    ("2024-03-31T01:00:00", LONDON),
    ("2024-03-31T01:59:59.999999", LONDON),
    ("2024-10-06T02:00:00", LORD_HOWE),  # half an hour only
    ("2024-10-06T02:29:59", LORD_HOWE),
]
FOLDS = [
    ("2024-10-27T01:00:00", LONDON),
    ("2024-10-27T01:59:59.999999", LONDON),
    ("2024-04-07T01:30:00", LORD_HOWE),
    ("2024-04-07T01:59:59", LORD_HOWE),
]


@pytest.mark.parametrize("kind", ["text", "datetime64"])
@pytest.mark.parametrize(("local", "zone", "instant"), LOCAL)
def test_a_local_time_beside_a_change_is_its_instant(
    kind: str, local: str, zone: str, instant: str, reader: Reader
) -> None:
    found = ages(reader, given_as(kind, local), zone)
    assert found == ages(reader, given_as("us", us_of(instant)))
    assert found == ages(reader, given_as("text", instant))


@pytest.mark.parametrize("kind", ["text", "datetime64"])
@pytest.mark.parametrize(("local", "zone"), GAPS)
def test_a_time_that_was_left_out_is_refused(
    kind: str, local: str, zone: str, reader: Reader
) -> None:
    with pytest.raises(InputError, match=f"never happened in {zone}, where clocks went forward"):
        ages(reader, given_as(kind, "2024-01-01T00:00:00", local), zone)


@pytest.mark.parametrize("kind", ["text", "datetime64"])
@pytest.mark.parametrize(("local", "zone"), FOLDS)
def test_a_time_that_came_twice_is_refused_and_is_two_with_its_offset(
    kind: str, local: str, zone: str, reader: Reader
) -> None:
    with pytest.raises(InputError, match=f"happened twice in {zone}, where clocks went back"):
        ages(reader, given_as(kind, "2024-01-01T00:00:00", local), zone)
    offsets = ("+01:00", "+00:00") if zone == LONDON else ("+11:00", "+10:30")
    first, second = ages(reader, given_as("text", *(local + offset for offset in offsets)), zone)
    assert second - first == (3_600 if zone == LONDON else 1_800)


def test_a_leap_second_is_the_last_moment_of_its_day() -> None:
    sales = some_sales(50)
    reader = Reader(system, events={"sales": sales | {"sold_at": sales["sold_at"] - 9 * YEAR_US}})
    leaps = ["2016-12-31T23:59:60Z", "2016-12-31T23:59:60.5Z", "2017-01-01T08:59:60+09:00"]
    last = us_of("2017-01-01T00:00:00+00:00") - 1
    found = ages(reader, given_as("text", *leaps))
    assert found == ages(reader, given_as("us", *[last] * 3))
    assert not np.isnan(found).any()


@pytest.mark.parametrize(
    ("text", "zone"),
    [
        ("2016-12-31T12:59:60Z", None),
        ("2016-12-30T23:59:60Z", None),
        ("2016-12-31T23:59:61Z", None),
        ("2016-12-31T23:59:60", "UTC"),
    ],
)
def test_a_second_60_elsewhere_is_refused(text: str, zone: str | None, reader: Reader) -> None:
    with pytest.raises(InputError, match=r"row 0 of the spine: .* is not a time"):
        ages(reader, given_as("text", text), zone)


def test_the_first_and_the_last_instants_are_answered(reader: Reader) -> None:
    ends = [-(1 << 53), -1, 0, 1, DAY0 - 1]
    assert np.isnan(ages(reader, given_as("us", *ends))).all()
    (last,) = ages(reader, given_as("us", 1 << 53))
    assert last == ages(reader, given_as("text", "2255-06-05T23:47:34.740992Z"))[0]
    assert last > 200 * 365 * 86_400
    texts = ["1684-07-28T00:12:25.259008Z", "1969-12-31T23:59:59.999999Z", "1970-01-01T00:00:00Z"]
    assert np.isnan(ages(reader, given_as("text", *texts))).all()


@pytest.mark.parametrize(
    "beyond",
    [
        "2255-06-05T23:47:34.740993Z",
        "2262-04-11T23:47:16.854775Z",
        "2262-04-11T23:47:16.854776Z",
        "9999-12-31T23:59:59Z",
        "0001-01-01T00:00:00+14:00",
        (1 << 53) + 1,
        (1 << 63) - 1,
        0.5,
    ],
)
def test_what_lies_beyond_is_refused(beyond: Any, reader: Reader) -> None:
    with pytest.raises(InputError, match=r"row 0 of the spine: .* between the years 1685 and 2255"):
        ages(reader, given_as("us", beyond))


@pytest.mark.parametrize("end", ["parquet", "csv"])
@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("timestamp '2024-03-31 01:30:00'", "never happened in Europe/London"),
        ("timestamp '2024-10-27 01:30:00'", "happened twice in Europe/London"),
        ("timestamp '2262-04-11 23:47:16.854775'", "between the years 1685 and 2255"),
        ("'2016-12-30T23:59:60Z'", "is not a time"),
        ("timestamp '2024-10-27 02:00:00'", None),
        ("timestamp '1970-01-01 00:00:00'", None),
        ("'2016-12-31T23:59:60Z'", None),
    ],
)
def test_a_file_to_fill_is_read_or_refused_alike(
    end: str, sql: str, said: str | None, reader: Reader, tmp_path: Path
) -> None:
    spine, out = tmp_path / f"spine.{end}", tmp_path / "out.parquet"
    kind = "format parquet" if end == "parquet" else "format csv, header"
    with duckdb.connect(config={"threads": 1}) as connection:
        query = f"select {sql} as t, 'u0' as \"user\", 'i0' as item"
        connection.execute(f"copy ({query}) to '{spine}' ({kind})")
    if said is None:
        assert reader.backfill(spine, out, NAMES, timezone=LONDON).rows == 1
        return
    with pytest.raises(InputError, match=said):
        reader.backfill(spine, out, NAMES, timezone=LONDON)
    assert not out.exists()
