"""A column as it came, before it is believed: of any types, even mixed.

Lists from JSON and typed arrays from files are brought into this one form, so that every check is written
once and gives the same answer for both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from sevenfold.errors import InputError
from sevenfold.sources.flaws import Bools
from sevenfold.types import US_PER_DAY, US_PER_S, Floats, Texts

__all__ = [
    "BIG",
    "BOOL",
    "EXACT",
    "LOCAL",
    "NULL",
    "NUMBER",
    "OTHER",
    "TEXT",
    "Raw",
    "RawColumn",
    "taken",
]

NULL, NUMBER, BIG, TEXT, BOOL, LOCAL, OTHER = range(7)
"""What a cell holds. BIG is an integer that no float64 holds exactly, LOCAL a time without an offset."""

EXACT = float(1 << 53)
"""The largest magnitude up to which a float64 holds every whole number."""

Raw: TypeAlias = Sequence[Any] | npt.NDArray[Any] | Texts


def taken(column: Raw, rows: npt.NDArray[np.intp]) -> Raw:
    """The cells of `column` at `rows`, in a column of its kind."""
    if isinstance(column, Texts):
        return column.take(rows)
    return column[rows] if isinstance(column, np.ndarray) else [column[i] for i in rows.tolist()]


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBERS, _STRINGS = frozenset({float, int}), frozenset({str})
_NUMBER = frozenset({NUMBER})


@dataclass(frozen=True, slots=True, eq=False)
class RawColumn:
    """Cells by kind: `kinds` uint8 (n,), `numbers` float64 (n,), `texts` (n,), null where not TEXT.

    `numbers` holds the value of NUMBER and BOOL, the nearest float of BIG, and the microseconds of LOCAL.
    `present` is the set of kinds, so that a column of one kind costs no search for the others.
    """

    kinds: npt.NDArray[np.uint8]
    numbers: Floats
    texts: Texts
    source: Raw
    present: frozenset[int]

    @classmethod
    def of(cls, source: Raw) -> RawColumn:
        """The column of a list of any Python values, of an array or of Texts."""
        if isinstance(source, Texts):
            kinds = np.where(source.valid, TEXT, NULL).astype(np.uint8)
            return cls(kinds, np.zeros(len(source)), source, source, _present(kinds))
        if isinstance(source, np.ndarray) and source.dtype.kind not in "OUS":
            return _of_array(source)
        values = source.tolist() if isinstance(source, np.ndarray) else source
        return _of_values(values)

    def __len__(self) -> int:
        """The number of cells."""
        return len(self.kinds)

    def only(self, *kinds: int) -> bool:
        """Whether every cell is of one of `kinds`."""
        return self.present.issubset(kinds)

    def is_kind(self, *kinds: int) -> Bools:
        """Which cells (n,) are of one of `kinds`."""
        found: Bools = self.kinds == kinds[0]
        for kind in kinds[1:]:
            found = found | (self.kinds == kind)
        return found

    def pick(self, rows: npt.NDArray[np.intp]) -> list[Any]:
        """The cells at `rows` as they came, as Python values."""
        if isinstance(self.source, Texts):
            return self.source.take(rows).to_list()
        if isinstance(self.source, np.ndarray):
            picked: list[Any] = self.source[rows].tolist()
            return picked
        return [self.source[row] for row in rows.tolist()]

    def spelled(self, row: int) -> str:
        """The cell at `row` for a message: its repr, cut at 60 characters."""
        value = self.pick(np.array([row]))[0]
        if isinstance(value, int) and value.bit_length() > 200:
            return "an integer of more than 60 digits"
        text = ascii(value[:60]) if isinstance(value, str) else ascii(value)
        return text if len(text) <= 60 else f"{text[:57]}..."


def _of_array(source: npt.NDArray[Any]) -> RawColumn:
    n = len(source)
    data, kinds = np.ma.getdata(source), np.full(n, NUMBER, dtype=np.uint8)
    match data.dtype.kind:
        case "f":
            numbers = data.astype(np.float64)
            kinds[np.isnan(numbers)] = NULL
        case "i" | "u":
            numbers = data.astype(np.float64)
            limit = data.dtype.type(1 << 53) if data.dtype.itemsize == 8 else None
            if limit is not None:
                kinds[
                    (data > limit) | ((data < -(1 << 53)) if data.dtype.kind == "i" else False)
                ] = BIG
        case "b":
            numbers = data.astype(np.float64)
            kinds[:] = BOOL
        case "M":
            numbers = data.astype("datetime64[us]").astype(np.int64).astype(np.float64)
            kinds[:] = LOCAL
            kinds[np.isnat(data)] = NULL
        case _:
            raise InputError(
                f"a column of dtype {data.dtype} cannot be read: give numbers, booleans, datetime64 or Texts"
            )
    kinds[np.ma.getmaskarray(source)] = NULL
    return RawColumn(kinds, numbers, _no_texts(n), source, _present(kinds))


def _of_values(values: Sequence[Any]) -> RawColumn:
    types = set(map(type, values))
    has_nulls = type(None) in types
    types.discard(type(None))
    if types <= _NUMBERS:
        found = _of_numbers(values, has_nulls)
        if found is not None:
            return found
    n = len(values)
    if types == _STRINGS:
        numbers = np.zeros(n)
        if has_nulls:
            kinds = bytearray([NULL if value is None else TEXT for value in values])
        else:
            kinds = bytearray((TEXT,)) * n
        texts = list(values)
    else:
        kinds, cells = bytearray(n), [0.0] * n
        texts = [None] * n
        for row, value in enumerate(values):
            if type(value) is str:
                kinds[row], texts[row] = TEXT, value
            elif value is not None:
                kinds[row], cells[row] = _cell(value)
        numbers = np.array(cells)
    column = _encoded(texts, kinds)
    return RawColumn(
        np.frombuffer(kinds, dtype=np.uint8), numbers, column, values, frozenset(kinds)
    )


def _of_numbers(values: Sequence[Any], has_nulls: bool) -> RawColumn | None:
    """The column of ints, floats and None; None when an int is too large to be told apart as a float."""
    given = [np.nan if value is None else value for value in values] if has_nulls else values
    try:
        numbers = np.array(given, dtype=np.float64)
    except OverflowError:
        return None
    if np.count_nonzero(np.abs(numbers) >= EXACT):  # 2^53 may have been 2^53 + 1
        return None
    kinds, present = (numbers == numbers).view(np.uint8), _NUMBER  # NaN is no number, and 0 is NULL
    if np.count_nonzero(kinds) < len(kinds):
        present = _present(kinds)
    return RawColumn(kinds, numbers, _no_texts(len(values)), values, present)


def _cell(value: Any) -> tuple[int, float]:
    match value:
        case bool():
            return BOOL, float(value)
        case float():
            return (NULL, 0.0) if math.isnan(value) else (NUMBER, value)
        case int():
            if -EXACT <= value <= EXACT:
                return NUMBER, float(value)
            if value.bit_length() < 1_000:
                return BIG, float(value)
            return BIG, math.inf if value > 0 else -math.inf
        case datetime():
            local = value.tzinfo is None
            gap = (value.replace(tzinfo=UTC) if local else value) - _EPOCH
            us = gap.days * US_PER_DAY + gap.seconds * US_PER_S + gap.microseconds
            return (LOCAL if local else NUMBER), float(us)
        case np.bool_() | np.integer() | np.floating():
            return _cell(value.item())
        case _:
            return OTHER, 0.0


def _encoded(texts: list[str | None], kinds: bytearray) -> Texts:
    """The texts; one with half of a surrogate pair has no UTF-8 and is of kind OTHER from here on."""
    try:
        return Texts.of(texts)
    except UnicodeEncodeError:
        for row, text in enumerate(texts):
            if text is not None and any("\ud800" <= letter <= "\udfff" for letter in text):
                kinds[row], texts[row] = OTHER, None
        return Texts.of(texts)


def _present(kinds: npt.NDArray[np.uint8]) -> frozenset[int]:
    return frozenset(np.flatnonzero(np.bincount(kinds, minlength=OTHER + 1)).tolist())


def _no_texts(n: int) -> Texts:
    return Texts(
        np.zeros(0, dtype=np.uint8), np.zeros(n + 1, dtype=np.int64), np.zeros(n, dtype=np.bool_)
    )
