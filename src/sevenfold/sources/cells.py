"""From cells as they came to the values of a declared field."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

import numpy as np
import numpy.typing as npt

from sevenfold.sources.flaws import Bools, Flaws
from sevenfold.sources.raw import BIG, BOOL, EXACT, NULL, NUMBER, OTHER, TEXT, RawColumn
from sevenfold.spec.field import Category, Field, Flag, Id, Integer, Number, Text, Vector
from sevenfold.types import Column, Floats, Texts

__all__ = ["MAX_NAME_BYTES", "parse_field", "parse_names"]

MAX_NAME_BYTES = 256
"""The length of a key and of an event's id, in bytes of UTF-8."""

_WORDS = {"true": 1.0, "false": 0.0, "": np.nan}
_LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
_64_BITS = float(1 << 64)
_LINES = b"\t\n\r"
_SUSPECT = np.isin(np.arange(256), [*range(0x20), 0x7F, 0xC2])  # C2 begins U+0080 to U+00BF


def parse_field(field: Field, path: str, column: RawColumn, flaws: Flaws) -> Column:
    """The values (n,) of the field; what it does not allow is refused in `flaws`."""
    match field:
        case Number():
            return _numbers(field, path, column, flaws)
        case Integer():
            return _integers(field, path, column, flaws)
        case Category():
            return _categories(field, path, column, flaws)
        case Flag():
            return _flags(path, column, flaws)
        case Vector():
            return _vectors(field, path, column, flaws)
        case Id():
            return parse_names(path, column, flaws, field.max_bytes)
        case Text():
            _refuse(
                flaws,
                column,
                path,
                ~column.is_kind(TEXT, NULL),
                "wrong_type",
                "is not a text; give a text or null",
            )
            _check_text(column.texts, path, column, flaws, field.max_bytes, _LINES)
            return column.texts
        case _:
            assert_never(field)


def parse_names(
    path: str, column: RawColumn, flaws: Flaws, max_bytes: int = MAX_NAME_BYTES
) -> Texts:
    """The names (n,): texts as they are, whole numbers in decimal digits, empty text as null."""
    names = column.texts
    if not column.only(TEXT, NULL):
        names = _named(path, column, flaws)
    lengths = names.lengths()
    if np.count_nonzero(lengths) < len(lengths):
        names = Texts(names.data, names.offsets, names.valid & (lengths > 0))
    _check_text(names, path, column, flaws, max_bytes, b"")
    return names


def _named(path: str, column: RawColumn, flaws: Flaws) -> Texts:
    """The names of a column that is not all text."""
    whole = _whole(column) | (column.is_kind(BIG) & (np.abs(column.numbers) <= _64_BITS))
    _refuse(
        flaws,
        column,
        path,
        ~(whole | column.is_kind(TEXT, NULL)),
        "wrong_type",
        "is not a name; give a text or a whole number of 64 bits",
    )
    return _with_digits(column, whole) if whole.any() else column.texts


def _numbers(field: Number, path: str, column: RawColumn, flaws: Flaws) -> Floats:
    number = _numeric(path, column, flaws, "a number")
    _refuse_infinite(column, path, number, flaws)
    return _in_range(field, path, column, number, flaws)


def _numeric(path: str, column: RawColumn, flaws: Flaws, wanted: str) -> Bools:
    """Which cells (n,) are numbers; those that are neither a number nor null are refused."""
    number = column.is_kind(NUMBER, BIG)
    if not column.only(NUMBER, BIG, NULL):
        others = ~(number | column.is_kind(NULL))
        sentence = f"is not a number; give {wanted} or null"
        _refuse(flaws, column, path, others, "wrong_type", sentence)
    return number


def _integers(field: Integer, path: str, column: RawColumn, flaws: Flaws) -> Floats:
    number = _numeric(path, column, flaws, "a whole number")
    _refuse_infinite(column, path, column.is_kind(NUMBER), flaws)
    _refuse(
        flaws,
        column,
        path,
        number & (np.abs(column.numbers) > EXACT) | column.is_kind(BIG),
        "out_of_range",
        "lies beyond 2^53, where whole numbers are no longer exact; declare the field an Id or a Number",
    )
    _refuse(
        flaws,
        column,
        path,
        number & ~_whole(column),
        "not_whole",
        "is not a whole number; give one, or declare a Number",
    )
    return _in_range(field, path, column, number, flaws)


def _in_range(
    field: Number | Integer, path: str, column: RawColumn, number: Bools, flaws: Flaws
) -> Floats:
    if field.low is not None:
        below = number & (column.numbers < field.low)
        _refuse(
            flaws, column, path, below, "out_of_range", f"is below the lowest allowed, {field.low}"
        )
    if field.high is not None:
        above = number & (column.numbers > field.high)
        _refuse(
            flaws,
            column,
            path,
            above,
            "out_of_range",
            f"is above the highest allowed, {field.high}",
        )
    return np.where(number, column.numbers, np.nan)


def _categories(field: Category, path: str, column: RawColumn, flaws: Flaws) -> Floats:
    names = parse_names(path, column, flaws)
    codes: dict[str | None, float] = {value: float(code) for code, value in enumerate(field.values)}
    codes[None] = np.nan
    unknown = float(len(field.values))
    out = np.array([codes.get(name, unknown) for name in names.to_list()], dtype=np.float64)
    if not field.other:
        shown = ", ".join(field.values[:8]) + (", ..." if len(field.values) > 8 else "")
        _refuse(
            flaws,
            column,
            path,
            out == unknown,
            "unknown_category",
            f"is not one of the declared values ({shown}); declare it, or the category with other=True",
        )
    return out


def _flags(path: str, column: RawColumn, flaws: Flaws) -> Floats:
    """1 for true, 0 for false, NaN for null."""
    out = np.where(column.is_kind(BOOL, NUMBER), column.numbers, np.nan)
    told = column.is_kind(BOOL) | column.is_kind(NULL) | (out == 0) | (out == 1)
    if TEXT in column.present:
        words = [(text or "").lower() for text in column.texts]
        out = np.where(column.is_kind(TEXT), [_WORDS.get(word, np.nan) for word in words], out)
        told |= column.is_kind(TEXT) & np.array([word in _WORDS for word in words], dtype=np.bool_)
    what = "is not a flag; give true, false or null"
    _refuse(flaws, column, path, ~told, "wrong_type", what)
    return out


def _vectors(field: Vector, path: str, column: RawColumn, flaws: Flaws) -> Floats:
    """The vectors, float64 (n, width) with the values of float32; NaN throughout for null."""
    out = np.full((len(column), field.width), np.nan)
    rows = np.flatnonzero(column.is_kind(OTHER))
    bad = ~column.is_kind(NULL, OTHER)
    for row, cell in zip(rows.tolist(), column.pick(rows), strict=True):
        numbers = _as_vector(cell, field.width)
        if numbers is None:
            bad[row] = True
        else:
            out[row] = numbers
    what = f"is not a vector; give a list of {field.width} finite float32 numbers, or null"
    _refuse(flaws, column, path, bad, "wrong_type", what)
    return out


def _as_vector(cell: object, width: int) -> Floats | None:
    if not isinstance(cell, list | tuple) or len(cell) != width:
        return None
    if not all(type(x) is float or type(x) is int for x in cell):
        return None
    if not all(-_LARGEST_FLOAT32 <= x <= _LARGEST_FLOAT32 for x in cell):
        return None  # NaN as well
    return np.array(cell, dtype=np.float64).astype(np.float32).astype(np.float64)


def _whole(column: RawColumn) -> Bools:
    with np.errstate(invalid="ignore"):  # files may hold NaNs that signal
        whole: Bools = (
            column.is_kind(NUMBER)
            & (np.abs(column.numbers) <= EXACT)
            & (np.floor(column.numbers) == column.numbers)
        )
    return whole


def _with_digits(column: RawColumn, whole: Bools) -> Texts:
    """The texts of the column, and its whole numbers in digits."""
    exact = whole & ~column.is_kind(BIG)
    texts: list[str | None] = [None] * len(column)
    if TEXT in column.present:
        texts = column.texts.to_list()
    rows = np.flatnonzero(exact)
    digits = map(str, column.numbers[rows].astype(np.int64).tolist())
    for row, text in zip(rows.tolist(), digits, strict=True):
        texts[row] = text
    big = np.flatnonzero(whole & ~exact)
    for row, value in zip(big.tolist(), column.pick(big), strict=True):
        texts[row] = str(value)
    return Texts.of(texts)


def _check_text(
    texts: Texts, path: str, column: RawColumn, flaws: Flaws, max_bytes: int, allowed: bytes
) -> None:
    if texts.offsets[-1] > max_bytes:  # else they are short enough together
        _refuse(
            flaws,
            column,
            path,
            texts.lengths() > max_bytes,
            "too_long",
            f"is longer than {max_bytes} bytes of UTF-8; shorten it",
        )
    data = texts.data[: texts.offsets[-1]]
    if np.count_nonzero(_SUSPECT[data]):
        _refuse(
            flaws,
            column,
            path,
            _controls(texts, data, allowed),
            "control_character",
            "holds a control character; leave it out",
        )


def _controls(texts: Texts, data: npt.NDArray[np.uint8], allowed: bytes) -> Bools:
    """Which texts (n,), of these bytes, hold a control character (Unicode category Cc) that is not `allowed`."""
    out = np.zeros(len(texts), dtype=np.bool_)
    bad = (data < 0x20) | (data == 0x7F)
    # U+0080 to U+009F are the byte C2 and one from 80 to 9F.
    bad[:-1] |= (data[:-1] == 0xC2) & (data[1:] >= 0x80) & (data[1:] < 0xA0)
    for byte in allowed:
        bad &= data != byte
    out[np.searchsorted(texts.offsets, np.flatnonzero(bad), side="right") - 1] = True
    return out


def _refuse_infinite(column: RawColumn, path: str, number: Bools, flaws: Flaws) -> None:
    _refuse(
        flaws,
        column,
        path,
        number & np.isinf(column.numbers),
        "infinite",
        "is infinite as a float64; give a finite number, or null when it is not known",
    )


def _refuse(
    flaws: Flaws, column: RawColumn, path: str, where: Bools, reason: str, what: str
) -> None:
    flaws.add(where, reason, _sentence(column, path, what))


def _sentence(column: RawColumn, path: str, what: str) -> Callable[[int], str]:
    return lambda row: f"$[{row}].{path}: {column.spelled(row)} {what}."
