"""Tensors of the Open Inference Protocol: as JSON, as raw bytes, and as arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sevenfold.errors import InputError

__all__ = ["NUMBERS", "TEXT", "Tensor", "from_raw", "from_values", "to_raw"]

# The types that numbers may come in; little-endian, as the protocol has them. What a model reads is float32.
NUMBERS: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
TEXT = "BYTES"
_FLOATS, _INTS, _BOOLS = frozenset({float, int, type(None)}), frozenset({int}), frozenset({bool})
_MAX_DIMENSIONS = 2
_LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A named tensor: an array of its shape, or of type BYTES a flat list of texts."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: npt.NDArray[Any] | list[str]

    @property
    def rows(self) -> int:
        """The length of the first dimension."""
        return self.shape[0]


def from_values(name: str, datatype: str, shape: Sequence[int], values: Any) -> Tensor:
    """The tensor of JSON values, flat or in lists of lists; null is NaN where the type has one.

    Raises InputError where values, type and shape do not fit.
    """
    size = _size(name, datatype, shape)
    if datatype == TEXT:
        texts = _flat(values)
        if not all(isinstance(text, str) for text in texts):
            raise InputError(f"$.inputs.{name}: BYTES in JSON are texts")
        _check_size(name, len(texts), size, shape)
        return Tensor(name, datatype, tuple(shape), texts)
    flat = _flat(values)
    _check_size(name, len(flat), size, shape)
    kinds = set(map(type, flat))
    if kinds - (_FLOATS if datatype.startswith("FP") else _BOOLS if datatype == "BOOL" else _INTS):
        raise InputError(f"$.inputs.{name}: the values are not all {datatype}")
    try:
        # None is NaN here; of whole numbers numpy refuses those that the type cannot hold.
        array = np.array(flat, dtype=np.float64 if datatype.startswith("FP") else NUMBERS[datatype])
    except OverflowError:
        raise InputError(f"$.inputs.{name}: the values are not all {datatype}") from None
    with np.errstate(over="ignore"):
        return Tensor(name, datatype, tuple(shape), array.astype(NUMBERS[datatype]).reshape(shape))


def from_raw(name: str, datatype: str, shape: Sequence[int], raw: bytes | memoryview) -> Tensor:
    """The tensor of raw bytes: numbers little-endian in row order, texts each behind its length in 4 bytes."""
    size = _size(name, datatype, shape)
    if datatype == TEXT:
        texts = _texts(name, bytes(raw))
        _check_size(name, len(texts), size, shape)
        return Tensor(name, datatype, tuple(shape), texts)
    kind = NUMBERS[datatype]
    if len(raw) != size * kind.itemsize:
        raise InputError(
            f"$.inputs.{name}: {len(raw)} bytes given; {datatype} {list(shape)} has {size * kind.itemsize}"
        )
    return Tensor(name, datatype, tuple(shape), np.frombuffer(raw, dtype=kind).reshape(shape))


def to_raw(values: npt.NDArray[Any]) -> bytes:
    """Numbers as raw bytes, little-endian in row order."""
    return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).tobytes()


def _size(name: str, datatype: str, shape: Sequence[int]) -> int:
    if datatype not in NUMBERS and datatype != TEXT:
        raise InputError(
            f"$.inputs.{name}.datatype: {datatype[:20]!r} is none of {', '.join(NUMBERS)}, {TEXT}"
        )
    if not 1 <= len(shape) <= _MAX_DIMENSIONS or min(shape) < 0:
        raise InputError(f"$.inputs.{name}.shape: give [rows] or [rows, columns]")
    return math.prod(shape)


def _check_size(name: str, given: int, wanted: int, shape: Sequence[int]) -> None:
    if given != wanted:
        raise InputError(f"$.inputs.{name}: {given} values given; shape {list(shape)} has {wanted}")


def _flat(values: Any) -> list[Any]:
    """Lists of lists as one list; only as deep as a tensor is."""
    if not isinstance(values, list):
        return [values]
    if not any(isinstance(one, list) for one in values):
        return values
    return [one for inner in values for one in (inner if isinstance(inner, list) else [inner])]


def _texts(name: str, raw: bytes) -> list[str]:
    texts, at = [], 0
    while at < len(raw):
        begin = at + _LENGTH_BYTES
        at = begin + int.from_bytes(raw[at:begin], "little")
        if begin > len(raw) or at > len(raw):
            raise InputError(f"$.inputs.{name}: a length leads past the end of the bytes")
        try:
            texts.append(raw[begin:at].decode())
        except UnicodeDecodeError:
            raise InputError(f"$.inputs.{name}: BYTES are texts in UTF-8 here") from None
    return texts
