"""Columns on disk that are mapped, each piece of them compared with its checksum before its first use.

A file has one checksum for each `PIECE` of its bytes, so that a read of a few keys does not read a whole column.
"""

from __future__ import annotations

import fcntl
import os
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sevenfold.compiled import kernel
from sevenfold.errors import StoreError
from sevenfold.types import Ints

__all__ = ["PIECE", "DamagedError", "Held", "Sealed", "is_held", "pieces", "seal", "seals"]

Words = npt.NDArray[np.uint64]

PIECE = 1 << 20
"""The bytes that have a checksum of their own."""

_DENSE = 4
_LANES = 4


class DamagedError(StoreError):
    """A file that is not what was written, in the folder `path`; the folder is to be made again."""

    def __init__(self, path: Path, what: str) -> None:
        self.path = path
        super().__init__(f"{path} is damaged: {what}")


class Held:
    """The file `path`, open, and held against deletion by other users of `is_held` until it is let go.

    It is let go with the last reference, or with the process.
    """

    __slots__ = ("__weakref__", "_end")

    def __init__(self, path: Path) -> None:
        handle = os.open(path, os.O_RDONLY)
        self._end = weakref.finalize(self, os.close, handle)
        fcntl.flock(handle, fcntl.LOCK_SH)

    def let_go(self) -> None:
        """Let go at once."""
        self._end()


def is_held(path: Path) -> bool:
    """Whether someone holds the file `path`, in this process or another; a file that is not there is not held."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


class Sealed:
    """The files of a folder by name, with their sizes in bytes and the checksums of their pieces.

    What it gives of them has been compared with the checksums; DamagedError when it differs.
    """

    def __init__(self, folder: Path, sizes: Mapping[str, int], sums: Mapping[str, Words]) -> None:
        self._folder = folder
        self._sizes = sizes
        self._sums = sums
        self._is_good = {
            name: np.zeros(pieces(size), dtype=np.bool_) for name, size in sizes.items()
        }

    def whole(self, name: str, kind: Any) -> npt.NDArray[Any]:
        """All values of a file, mapped."""
        self._check(name, 0, self._sizes[name])
        return self._mapped(name, kind, 0, self._sizes[name])

    def part(self, name: str, kind: Any, rows: slice | Ints) -> npt.NDArray[Any]:
        """The values at `rows` of a file: mapped for a slice, else copied."""
        width = np.dtype(kind).itemsize
        if not isinstance(rows, slice):
            self.check_ranges(name, rows * width, rows * width + width)
            values: npt.NDArray[Any] = self._mapped(name, kind, 0, self._sizes[name])[rows]
            return values
        begin, end = rows.start * width, max(rows.stop, rows.start) * width
        self._check(name, begin, end)
        return self._mapped(name, kind, begin, end)

    def bytes_unchecked(self, name: str) -> npt.NDArray[np.uint8]:
        """All bytes of a file, mapped and not compared: see `check_ranges`."""
        return self._mapped(name, np.uint8, 0, self._sizes[name])

    def check_ranges(self, name: str, begins: Ints, ends: Ints) -> None:
        """Compare the pieces that hold bytes `begins[i]` up to `ends[i]`; DamagedError when one differs."""
        good = self._is_good[name]
        if not len(begins) or good.all():
            return
        low, high = int(begins.min()), int(ends.max())
        if high - low <= _DENSE * int((ends - begins).sum()):
            self._check(name, low, high)
            return
        filled = ends > begins
        first, last = begins[filled] // PIECE, (ends[filled] - 1) // PIECE
        steps = np.bincount(first, minlength=len(good) + 1)
        steps -= np.bincount(last + 1, minlength=len(good) + 1)
        self._compare(name, np.flatnonzero((np.cumsum(steps[:-1]) > 0) & ~good))

    def verify(self) -> None:
        """Compare every byte of every file; DamagedError when one differs."""
        for name, good in self._is_good.items():
            good[:] = False
            self._check(name, 0, self._sizes[name])

    def _check(self, name: str, begin: int, end: int) -> None:
        if end > begin:
            first, last = begin // PIECE, (end - 1) // PIECE
            rest = np.flatnonzero(~self._is_good[name][first : last + 1])
            self._compare(name, rest + first)

    def _compare(self, name: str, wanted: Ints) -> None:
        for piece in wanted.tolist():
            begin = piece * PIECE
            raw = self._mapped(name, np.uint8, begin, min(begin + PIECE, self._sizes[name]))
            if seal(raw) != self._sums[name][piece]:
                raise DamagedError(self._folder, f"{name} has changed")
            self._is_good[name][piece] = True

    def _mapped(self, name: str, kind: Any, begin: int, end: int) -> npt.NDArray[Any]:
        n = (end - begin) // np.dtype(kind).itemsize
        if n <= 0:
            return np.empty(0, dtype=kind)
        try:
            found = np.memmap(self._folder / name, dtype=kind, mode="r", offset=begin, shape=(n,))
        except (OSError, ValueError) as error:  # deleted, or shorter than it was
            raise DamagedError(self._folder, f"{name} cannot be read: {error}") from error
        # A plain view: every operation on a memmap of its own class pays for keeping that class.
        return found.view(np.ndarray)


def pieces(size: int) -> int:
    """How many pieces a file of `size` bytes has."""
    return -(-size // PIECE)


def seals(path: Path) -> Words:
    """The checksums of the pieces of a file."""
    size = path.stat().st_size
    out = np.empty(pieces(size), dtype=np.uint64)
    for piece in range(len(out)):
        begin = piece * PIECE
        shape = (min(PIECE, size - begin),)
        out[piece] = seal(np.memmap(path, dtype=np.uint8, mode="r", offset=begin, shape=shape))
    return out


def seal(raw: npt.NDArray[np.uint8]) -> int:
    """A 64-bit checksum of bytes: whatever changes within eight of them changes it, any other but once in 2^64.

    Four lanes take every fourth word each, in steps that are one to one in the lane and in the word; so is
    the step that puts the lanes together. Not against forgery.
    """
    rest = len(raw) % (8 * _LANES)
    last = np.zeros(8 * _LANES, dtype=np.uint8)
    last[:rest] = raw[len(raw) - rest :]
    lanes = np.array([len(raw) + 1, 2, 3, 4], dtype=np.uint64)
    whole = np.ascontiguousarray(raw[: len(raw) - rest]).view(np.uint64)
    _stir(whole, lanes)
    _stir(last.view(np.uint64), lanes)
    total = np.ones(_LANES, dtype=np.uint64)
    for lane in range(_LANES):  # only the first of `total` counts
        _stir(np.roll(lanes, -lane), total)
    return int(total[0])


@kernel
def _stir(words: Words, lanes: Words) -> None:
    prime, half = np.uint64(0x9E3779B185EBCA87), np.uint64(32)
    a, b, c, d = lanes[0], lanes[1], lanes[2], lanes[3]
    for i in range(0, len(words), 4):
        a = (a ^ words[i]) * prime
        b = (b ^ words[i + 1]) * prime
        c = (c ^ words[i + 2]) * prime
        d = (d ^ words[i + 3]) * prime
        # A product moves what changed upwards only.
        a ^= a >> half
        b ^= b >> half
        c ^= c >> half
        d ^= d >> half
    lanes[0], lanes[1], lanes[2], lanes[3] = a, b, c, d
