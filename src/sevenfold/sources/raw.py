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

__all__ = ["BIG", "BOOL", "EXACT", "LOCAL", "NULL", "NUMBER", "OTHER", "TEXT", "Raw", "RawColumn"]

NULL, NUMBER, BIG, TEXT, BOOL, LOCAL, OTHER = range(7)
"""What a cell holds. BIG is an integer that no float64 holds exactly, LOCAL a time without an offset."""

EXACT = float(1 << 53)
"""The largest magnitude up to which a float64 holds every whole number."""

Raw: TypeAlias = Sequence[Any] | npt.NDArray[Any] | Texts

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, eq=False)
class RawColumn:
    """Cells by kind: `kinds` uint8 (n,), `numbers` float64 (n,), `texts` (n,), null where not TEXT.

    `numbers` holds the value of NUMBER and BOOL, the nearest float of BIG, and the microseconds of LOCAL.
    """

    kinds: npt.NDArray[np.uint8]
    numbers: Floats
    texts: Texts
    source: Raw

    @classmethod
    def of(cls, source: Raw) -> RawColumn:
        """The column of a list of any Python values, of an array or of Texts."""
        if isinstance(source, Texts):
            kinds = np.where(source.valid, TEXT, NULL).astype(np.uint8)
            return cls(kinds, np.zeros(len(source)), source, source)
        if isinstance(source, np.ndarray) and source.dtype.kind not in "OUS":
            return _of_array(source)
        values = source.tolist() if isinstance(source, np.ndarray) else source
        return _of_values(values)

    def __len__(self) -> int:
        """The number of cells."""
        return len(self.kinds)

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
    return RawColumn(kinds, numbers, _no_texts(n), source)


def _of_values(values: Sequence[Any]) -> RawColumn:
    n = len(values)
    kinds, numbers = bytearray(n), [0.0] * n
    texts: list[str | None] | None = None
    for row, value in enumerate(values):
        kind = type(value)
        if kind is str:
            if texts is None:
                texts = [None] * n
            kinds[row], texts[row] = TEXT, value
        elif value is not None:
            kinds[row], numbers[row] = _cell(value)
    array = np.frombuffer(kinds, dtype=np.uint8)
    return RawColumn(array, np.array(numbers), _encoded(texts, array, n), values)


def _cell(value: Any) -> tuple[int, float]:
    match value:
        case bool():
            return BOOL, float(value)
        case float():
            return (NULL, 0.0) if math.isnan(value) else (NUMBER, value)
        case int():
            if -EXACT <= value <= EXACT:
                return NUMBER, float(value)
            return BIG, float(value) if value.bit_length() < 1_000 else math.copysign(
                math.inf, value
            )
        case datetime():
            local = value.tzinfo is None
            gap = (value.replace(tzinfo=UTC) if local else value) - _EPOCH
            us = gap.days * US_PER_DAY + gap.seconds * US_PER_S + gap.microseconds
            return (LOCAL if local else NUMBER), float(us)
        case np.bool_() | np.integer() | np.floating():
            return _cell(value.item())
        case _:
            return OTHER, 0.0


def _encoded(texts: list[str | None] | None, kinds: npt.NDArray[np.uint8], n: int) -> Texts:
    """The texts; one with half of a surrogate pair has no UTF-8 and is of kind OTHER from here on."""
    if texts is None:
        return _no_texts(n)
    try:
        return Texts.of(texts)
    except UnicodeEncodeError:
        for row, text in enumerate(texts):
            if text is not None and any("\ud800" <= letter <= "\udfff" for letter in text):
                kinds[row], texts[row] = OTHER, None
        return Texts.of(texts)


def _no_texts(n: int) -> Texts:
    return Texts(
        np.zeros(0, dtype=np.uint8), np.zeros(n + 1, dtype=np.int64), np.zeros(n, dtype=np.bool_)
    )
