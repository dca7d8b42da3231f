"""Stable hashes: the same in every process, on every machine, in every version of Python.

Keys are hashed by SipHash-2-4 with 128 bits of output (Aumasson and Bernstein 2012, and the reference
implementation's 128-bit extension); definitions by BLAKE2b over canonical JSON.
"""

from __future__ import annotations

import hashlib
import json
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sevenfold.compiled import kernel
from sevenfold.types import Texts

__all__ = [
    "canonical_json",
    "combine128",
    "digest",
    "file_digest",
    "hash128",
    "key_bytes",
    "siphash128",
]

Hashes = npt.NDArray[np.uint64]

# The key is fixed, so that one event has one identity everywhere; it is not a secret.
_KEY = (0x0706050403020100, 0x0F0E0D0C0B0A0908)
_HALVES = np.uint64(_KEY[0]), np.uint64(_KEY[1])


def digest(data: bytes, size: int = 16) -> str:
    """The BLAKE2b digest of `data` as hexadecimal text of `size` bytes.

    >>> digest(b"tea", 4)
    '1fb8a626'
    """
    return hashlib.blake2b(data, digest_size=size).hexdigest()


def file_digest(path: Path, size: int = 16) -> str:
    """The BLAKE2b digest of the content of a file, read a piece at a time."""
    found = hashlib.blake2b(digest_size=size)
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            found.update(piece)
    return found.hexdigest()


def canonical_json(value: Any) -> bytes:
    """`value` as JSON that does not depend on the order of keys or on spacing.

    >>> canonical_json({"b": 1, "a": [1.5, None]})
    b'{"a":[1.5,null],"b":1}'

    A number is written as what it is worth, whatever its type: numpy's as Python's own.
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=_number
    )
    return text.encode()


def _number(value: Any) -> int | float:
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    raise TypeError(f"{type(value).__name__} is no value of JSON")


def hash128(texts: Texts) -> Hashes:
    """The 128-bit hash of each string, uint64 (n, 2); a null hashes to (0, 0)."""
    out = np.zeros((len(texts), 2), dtype=np.uint64)
    _hash_texts(texts.data, texts.offsets, texts.valid, *_HALVES, out)
    return out


def siphash128(data: bytes) -> tuple[int, int]:
    """The SipHash-2-4-128 of `data` under the fixed key, as two 64-bit integers."""
    raw = np.frombuffer(data, dtype=np.uint8)
    low, high = _siphash(raw, 0, len(raw), *_HALVES)
    return int(low), int(high)


def combine128(parts: list[Hashes]) -> Hashes:
    """The hash of a composite key from the hashes of its parts, each uint64 (n, 2) or (1, 2).

    A single part is its own hash; a null part makes the whole key null.
    """
    if len(parts) == 1:
        return parts[0]
    n = next((len(part) for part in parts if len(part) != 1), 1)
    out = np.zeros((n, 2), dtype=np.uint64)
    if len(parts) == 2:
        first, second = (np.ascontiguousarray(part) for part in parts)
        _hash_pairs(first, second, *_HALVES, out)
        return out
    joined = np.empty((n, 2 * len(parts)), dtype=np.uint64)
    for i, part in enumerate(parts):
        joined[:, 2 * i : 2 * i + 2] = part
    _hash_rows(joined.view(np.uint8), joined, *_HALVES, out)
    return out


def key_bytes(hashes: Hashes, prefix: bytes = b"") -> list[bytes]:
    """The store keys of `hashes` uint64 (n, 2): `prefix` and 16 bytes each."""
    size = len(prefix) + 16
    raw = np.empty((len(hashes), size), dtype=np.uint8)
    raw[:, : len(prefix)] = np.frombuffer(prefix, dtype=np.uint8)
    raw[:, len(prefix) :] = np.ascontiguousarray(hashes).view(np.uint8)
    # Numpy makes the bytes of each row itself: three times as fast as cutting them out one by one.
    rows: Any = raw.view(np.dtype((np.void, size))).reshape(-1)
    keys: list[bytes] = rows.tolist()
    return keys


@kernel
def _rotl(x: np.uint64, bits: int) -> np.uint64:
    return np.uint64((x << np.uint64(bits)) | (x >> np.uint64(64 - bits)))


@kernel
def _round(
    v0: np.uint64, v1: np.uint64, v2: np.uint64, v3: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    v0 += v1
    v1 = _rotl(v1, 13) ^ v0
    v0 = _rotl(v0, 32)
    v2 += v3
    v3 = _rotl(v3, 16) ^ v2
    v0 += v3
    v3 = _rotl(v3, 21) ^ v0
    v2 += v1
    v1 = _rotl(v1, 17) ^ v2
    v2 = _rotl(v2, 32)
    return v0, v1, v2, v3


@kernel
def _siphash(
    data: npt.NDArray[np.uint8], start: int, end: int, k0: np.uint64, k1: np.uint64
) -> tuple[np.uint64, np.uint64]:
    v0 = np.uint64(0x736F6D6570736575) ^ k0
    v1 = np.uint64(0x646F72616E646F6D) ^ k1 ^ np.uint64(0xEE)
    v2 = np.uint64(0x6C7967656E657261) ^ k0
    v3 = np.uint64(0x7465646279746573) ^ k1
    n = end - start
    whole = n - n % 8
    for i in range(start, start + whole, 8):
        m = np.uint64(0)
        for j in range(8):
            m |= np.uint64(data[i + j]) << np.uint64(8 * j)
        v3 ^= m
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
        v0 ^= m
    m = np.uint64(n & 0xFF) << np.uint64(56)
    for j in range(n % 8):
        m |= np.uint64(data[start + whole + j]) << np.uint64(8 * j)
    v3 ^= m
    v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    v0 ^= m
    v2 ^= np.uint64(0xEE)
    for _ in range(4):
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    low = v0 ^ v1 ^ v2 ^ v3
    v1 ^= np.uint64(0xDD)
    for _ in range(4):
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    return low, v0 ^ v1 ^ v2 ^ v3


@kernel
def _hash_texts(
    data: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    valid: npt.NDArray[np.bool_],
    k0: np.uint64,
    k1: np.uint64,
    out: Hashes,
) -> None:
    for i in range(len(valid)):
        if valid[i]:
            low, high = _siphash(data, offsets[i], offsets[i + 1], k0, k1)
            out[i, 0] = low
            out[i, 1] = high


@kernel
def _hash_pairs(first: Hashes, second: Hashes, k0: np.uint64, k1: np.uint64, out: Hashes) -> None:
    """The hashes of n pairs of hashes, each (n, 2) or (1, 2), as `_hash_rows` has them of both side by side."""
    row = np.empty(4, dtype=np.uint64)
    raw = row.view(np.uint8)
    for i in range(out.shape[0]):
        a, b = i if first.shape[0] > 1 else 0, i if second.shape[0] > 1 else 0
        row[0], row[1], row[2], row[3] = first[a, 0], first[a, 1], second[b, 0], second[b, 1]
        if (row[0] | row[1]) == 0 or (row[2] | row[3]) == 0:
            continue
        low, high = _siphash(raw, 0, 32, k0, k1)
        out[i, 0] = low
        out[i, 1] = high


@kernel
def _hash_rows(
    rows: npt.NDArray[np.uint8], parts: Hashes, k0: np.uint64, k1: np.uint64, out: Hashes
) -> None:
    """The hashes of n rows of bytes, which are those of `parts` (n, 2 k); of one with a part that is null nothing."""
    width = rows.shape[1]
    flat = rows.reshape(-1)
    for i in range(rows.shape[0]):
        is_null = False
        for j in range(0, parts.shape[1], 2):
            is_null |= (parts[i, j] | parts[i, j + 1]) == 0
        if is_null:
            continue
        low, high = _siphash(flat, i * width, (i + 1) * width, k0, k1)
        out[i, 0] = low
        out[i, 1] = high
