"""The id of an event that has none of its own: the hash of its whole row.

The hash of a row is the sum, modulo 2^64 in each half, of one keyed 128-bit hash a field that is not null.
So neither the order of fields nor a null that is written or left out matters, and a row has the same id
whether it came as JSON or in a column: 12 and 12.0 are one number, and a time is its instant.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sevenfold.hashing import canonical_json, combine128, hash128
from sevenfold.sources.raw import BIG, BOOL, LOCAL, NUMBER, OTHER, RawColumn
from sevenfold.types import Ints, Texts

__all__ = ["Hashes", "content_ids", "field_hashes", "instant_hashes"]

Hashes = npt.NDArray[np.uint64]

_TAGS = {NUMBER: 1, BOOL: 2, LOCAL: 3}
_INSTANT = np.uint64(4)


def field_hashes(name: Texts, column: RawColumn) -> Hashes:
    """The hash of each cell under its field's name, uint64 (n, 2); (0, 0) for a null.

    `name` is one text for all cells, or one a cell. A cell that JSON cannot hold has (0, 0) too.
    """
    parts = hash128(column.texts)
    bits = (column.numbers + 0.0).view(np.uint64)  # + 0.0: minus zero is zero
    for kind, tag in _TAGS.items():
        rows = column.kinds == kind
        parts[rows, 0] = bits[rows]
        parts[rows, 1] = tag
    odd = np.flatnonzero(column.is_kind(BIG, OTHER))
    if len(odd):
        parts[odd] = hash128(Texts.of([_spelling(value) for value in column.pick(odd)]))
    return combine128([hash128(name), parts])


def instant_hashes(name: str, instants: Ints) -> Hashes:
    """The hash of each instant under the field's name, uint64 (n, 2)."""
    parts = np.empty((len(instants), 2), dtype=np.uint64)
    parts[:, 0] = instants.view(np.uint64)
    parts[:, 1] = _INSTANT
    return combine128([hash128(Texts.of([name])), parts])


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
