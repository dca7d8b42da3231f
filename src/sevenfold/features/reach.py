"""Keys that are reached through links: the hash of a text as three numbers of a state, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from sevenfold.errors import InputError
from sevenfold.features.frame import Spine
from sevenfold.features.plan import Reading
from sevenfold.hashing import combine128, hash128
from sevenfold.types import Column, Floats, Texts

__all__ = ["key_part", "reading_hashes"]

Hashes = npt.NDArray[np.uint64]
_BITS = np.uint64(43)
_PART = np.uint64((1 << 43) - 1)
_LOW_BITS = np.uint64(64 - 43)  # of the lower half that are in the second part
_HIGH = np.uint64((1 << (2 * 43 - 64)) - 1)


def key_part(column: Column, part: int) -> Floats:
    """Part 0, 1 or 2 of the hashes of a column of texts, float64 (n,); null as NaN."""
    if not isinstance(column, Texts):
        return column  # a field that these events do not have yet: all null
    hashes = hash128(column)
    low, high = hashes[:, 0], hashes[:, 1]
    if part == 0:
        whole = low & _PART
    elif part == 1:
        whole = (low >> _BITS) | ((high & _HIGH) << _LOW_BITS)
    else:
        whole = high >> (_BITS - _LOW_BITS)
    return np.where(column.valid, whole.astype(np.float64), np.nan)


def reading_hashes(
    reading: Reading,
    spine: Spine,
    found: Mapping[str, tuple[Floats, Any]],
    hashed: dict[str, Hashes] | None = None,
) -> Hashes:
    """The hashes of the keys that a view is read under, uint64 (n, 2) or (1, 2) for one for all rows.

    `found` holds the values of the links that lead to it, by the name of their reading; `hashed` keeps the hashes of the
    spine's keys from one reading to the next. Raises InputError when a key is neither given nor reached.
    """
    for entity in reading.entities:
        if entity not in spine.keys:
            raise InputError(
                f"$.{entity}: features of {reading.name!r} need the key of {entity!r}; "
                f"given are {', '.join(spine.keys) or 'no keys'}"
            )
    hashed = {} if hashed is None else hashed
    parts = []
    for entity in reading.view.entities:
        link = reading.links.get(entity)
        if link is not None:
            parts.append(_joined(found[link.name][0]))
            continue
        one = hashed.get(entity)
        if one is None:
            one = hashed[entity] = hash128(spine.keys[entity])
        parts.append(one)
    return combine128(parts)


def _joined(parts: Floats) -> Hashes:
    """The hashes uint64 (n, 2) of three columns of parts (n, 3); the null key (0, 0) for NaN."""
    known = ~np.asarray(np.isnan(parts).any(axis=1))
    first, second, third = np.where(known[:, None], parts, 0.0).astype(np.uint64).T
    out = np.empty((len(parts), 2), dtype=np.uint64)
    out[:, 0] = first | (second << _BITS)
    out[:, 1] = (second >> _LOW_BITS) | (third << (_BITS - _LOW_BITS))
    return out
