"""The id of an event that has none of its own: the hash of its whole row.

The hash of a row is the sum, modulo 2^64 in each half, of one keyed 128-bit hash a field that is not null.
So neither the order of fields nor a null that is written or left out matters, and a row has the same id
whether it came as JSON or in a column: 12 and 12.0 are one number, and a time is its instant.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sevenfold.hashing import canonical_json, combine128, hash128
from sevenfold.sources.raw import BIG, BOOL, LOCAL, NULL, NUMBER, OTHER, TEXT, RawColumn
from sevenfold.types import Ints, Texts

__all__ = ["Hashes", "cell_hashes", "content_ids", "instant_hashes", "name_hash", "sum_of_fields"]

Hashes = npt.NDArray[np.uint64]

_INSTANT = 4
_SPELLED = np.uint64(
    0x9E3779B97F4A7C15
)  # sets the spelling of a list apart from a text of the same letters
# By kind of cell, from NULL to OTHER: what sets a number apart from a boolean or a local time of the same bits.
_TAGS = np.array([0, 1, 0, 0, 2, 3, 0], dtype=np.uint64)


def name_hash(name: str) -> Hashes:
    """The hash of a field's name, uint64 (1, 2)."""
    return hash128(Texts.of([name]))


def cell_hashes(column: RawColumn) -> Hashes:
    """The hash of each cell, uint64 (n, 2); (0, 0) for a null and for what JSON cannot hold."""
    if column.only(TEXT, NULL):
        return hash128(column.texts)
    parts = hash128(column.texts)
    rows = column.is_kind(NUMBER, BOOL, LOCAL)
    parts[rows, 0] = (column.numbers[rows] + 0.0).view(np.uint64)  # + 0.0: minus zero is zero
    parts[rows, 1] = _TAGS[column.kinds[rows]]
    odd = np.flatnonzero(column.is_kind(BIG, OTHER))
    if len(odd):
        spelled = hash128(Texts.of([_spelling(value) for value in column.pick(odd)]))
        spelled[spelled.any(axis=1)] ^= _SPELLED
        parts[odd] = spelled
    return parts


def instant_hashes(instants: Ints) -> Hashes:
    """The hash of each instant as a cell, uint64 (n, 2)."""
    parts = np.empty((len(instants), 2), dtype=np.uint64)
    parts[:, 0] = instants.view(np.uint64)
    parts[:, 1] = _INSTANT
    return parts


def sum_of_fields(names: list[Hashes], cells: list[Hashes]) -> Hashes:
    """The hash of each row, uint64 (n, 2), from the fields' names, each (1, 2), and their cells, (n, 2)."""
    n = len(cells[0])
    every = combine128([np.repeat(np.concatenate(names), n, axis=0), np.concatenate(cells)])
    total: Hashes = every.reshape(len(cells), n, 2).sum(axis=0, dtype=np.uint64)
    return total


def content_ids(hashes: Hashes) -> Texts:
    """The ids (n,) of rows by the sums of their fields' hashes: 32 hexadecimal digits."""
    n = len(hashes)
    digits = hashes.astype(">u8").tobytes().hex().encode()
    return Texts(
        np.frombuffer(digits, dtype=np.uint8),
        np.arange(n + 1, dtype=np.int64) * 32,
        np.ones(n, dtype=np.bool_),
    )


def _spelling(value: object) -> str | None:
    if isinstance(value, int):
        return f"int {value:x}"
    try:
        return f"json {canonical_json(value).decode()}"
    except (TypeError, ValueError, RecursionError):
        return None
