"""From a time as it was written to an instant."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import numpy.typing as npt

from sevenfold.errors import TimeError
from sevenfold.sources.flaws import Flaws
from sevenfold.sources.raw import EXACT, LOCAL, NULL, NUMBER, TEXT, RawColumn
from sevenfold.types import US_PER_DAY, US_PER_S, Floats, Ints

__all__ = ["LocalTime", "parse_times"]

_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?"
    r"([Zz]|[+-][0-9]{2}(?::?[0-9]{2})?)?",
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_QUARTER_US = 900 * US_PER_S
_PLAIN, _AMBIGUOUS, _MISSING = range(3)


class LocalTime:
    """The clock on the wall of one place; raises TimeError for a zone that is not known."""

    def __init__(self, name: str) -> None:
        try:
            self._zone = ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise TimeError(
                f"{name!r} is no time zone of this machine: give a name such as 'Europe/London' or 'UTC'"
            ) from error
        self.name = name

    def to_utc(self, local_us: Ints) -> tuple[Ints, npt.NDArray[np.uint8]]:
        """The instants (n,), and for each whether it is plain, ambiguous or missing from the calendar.

        Offsets are looked up once a quarter of an hour, and value by value only in those with a change.
        """
        quarters, where = np.unique(local_us // _QUARTER_US, return_inverse=True)
        offsets = np.zeros(len(quarters), dtype=np.int64)
        changing = np.zeros(len(quarters), dtype=np.bool_)
        for i, quarter in enumerate((quarters * _QUARTER_US).tolist()):
            first, state = self._offset(quarter)
            last, last_state = self._offset(quarter + _QUARTER_US - 1)
            offsets[i] = first
            changing[i] = first != last or state != _PLAIN or last_state != _PLAIN
        shift, states = offsets[where], np.zeros(len(local_us), dtype=np.uint8)
        for row in np.flatnonzero(changing[where]).tolist():
            shift[row], states[row] = self._offset(int(local_us[row]))
        return local_us - shift, states

    def _offset(self, local_us: int) -> tuple[int, int]:
        at = (_EPOCH + timedelta(microseconds=local_us)).replace(tzinfo=self._zone)
        earlier, later = at.utcoffset(), at.replace(fold=1).utcoffset()
        if earlier is None or later is None or earlier == later:
            return _us(earlier or timedelta()), _PLAIN
        return _us(earlier), _AMBIGUOUS if earlier > later else _MISSING


def parse_times(column: RawColumn, path: str, zone: LocalTime | None, flaws: Flaws) -> Ints:
    """The instants (n,) of a column: whole microseconds, RFC 3339 text, or local times of `zone`.

    A row without a usable one is refused in `flaws` and holds 0. A leap second, written as 60 at the end of a
    month of UTC with its offset, is the last microsecond before the next minute; any other 60 is refused.
    """

    def given(row: int) -> str:
        return f"$[{row}].{path}: {column.spelled(row)}"

    if column.only(NUMBER) and (whole := _whole_instants(column.numbers)) is not None:
        return whole
    flaws.add(
        column.is_kind(NULL),
        "missing_time",
        lambda row: f"$[{row}].{path}: the time of the event is missing; give it in every row.",
    )
    instants = np.where(column.is_kind(NUMBER), column.numbers, np.nan)
    local = np.where(column.is_kind(LOCAL), column.numbers, np.nan)
    written = column.is_kind(TEXT)
    if written.any():
        instants[written], local[written] = _parse_texts(column.texts.take(written).to_list())
    with np.errstate(invalid="ignore"):
        usable = (np.abs(instants) <= EXACT) & (np.floor(instants) == instants)
        nearby = np.abs(local) <= EXACT - 2 * US_PER_DAY
    flaws.add(
        ~usable & ~nearby,
        "bad_time",
        lambda row: (
            f"{given(row)} is not a time; give whole microseconds since 1970-01-01 UTC or RFC 3339 "
            "text such as '2026-01-31T23:59:59Z', between the years 1685 and 2255."
        ),
    )
    out: Ints = np.where(usable, instants, 0.0).astype(np.int64)
    if not nearby.any():
        return out
    if zone is None:
        flaws.add(
            nearby,
            "naive_time",
            lambda row: (
                f"{given(row)} says neither an offset nor a zone; write the offset ('Z', '+01:00') "
                "or declare the time zone of the stream."
            ),
        )
        return out
    out[nearby], found = zone.to_utc(local[nearby].astype(np.int64))
    states = np.full(len(column), _PLAIN, dtype=np.uint8)
    states[nearby] = found
    flaws.add(
        states == _AMBIGUOUS,
        "ambiguous_time",
        lambda row: (
            f"{given(row)} happened twice in {zone.name}, where clocks went back; write the offset."
        ),
    )
    flaws.add(
        states == _MISSING,
        "nonexistent_time",
        lambda row: (
            f"{given(row)} never happened in {zone.name}, where clocks went forward; write the offset."
        ),
    )
    return out


def _whole_instants(numbers: Floats) -> Ints | None:
    """The numbers (n,) as instants; None where one of them is none."""
    if np.count_nonzero(np.abs(numbers) <= EXACT) < len(numbers):
        return None
    instants: Ints = numbers.astype(np.int64)
    return instants if np.count_nonzero(instants == numbers) == len(numbers) else None


def _parse_texts(
    texts: list[str | None],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The instants and the local times of the texts, NaN where it is not that; each text is read once."""
    known: dict[str | None, tuple[float, float]] = {}
    for text in texts:
        if text not in known:
            known[text] = _parse_text(text or "")
    pairs = np.array([known[text] for text in texts])
    return pairs[:, 0], pairs[:, 1]


def _parse_text(text: str) -> tuple[float, float]:
    found = _RFC3339.fullmatch(text)
    if found is None:
        return np.nan, np.nan
    date, clock, fraction, offset = found.groups()
    leap = clock.endswith(":60")
    if (
        leap
    ):  # the last moment of the second before it: its own day, and before all that comes after
        clock, fraction = f"{clock[:-2]}59", "999999"
    micros = (fraction or "").ljust(6, "0")[:6]
    zone = "+00:00" if offset is None or offset in "Zz" else offset
    try:
        whole = _us(datetime.fromisoformat(f"{date}T{clock}.{micros}{zone}") - _EPOCH)
    except (ValueError, OverflowError):
        return np.nan, np.nan
    us = float(whole)
    if us != whole:  # beyond 2^53, where floats are no longer exact
        return np.nan, np.nan
    if leap and (offset is None or not _ends_a_month(int(us))):
        return np.nan, np.nan
    return (np.nan, us) if offset is None else (us, np.nan)


def _ends_a_month(us: int) -> bool:
    """Whether the next microsecond begins a month of UTC: only there has a minute a second more."""
    after = _EPOCH + timedelta(microseconds=us + 1)
    return after.day == 1 and after.time() == time.min


def _us(gap: timedelta) -> int:
    return gap.days * US_PER_DAY + gap.seconds * US_PER_S + gap.microseconds
