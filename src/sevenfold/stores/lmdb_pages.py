"""LMDB's pages, read where they lie: many values are found in one call and none is copied.

A get by way of Python costs more than its search, so the states of a read are looked up by a kernel that walks the tree
of pages itself. It does so inside a read transaction, whose snapshot LMDB keeps whole, and from the root that LMDB names
in that snapshot. What it does not know well it leaves to LMDB: pages of another format or size, values that do not
begin at a multiple of 8 bytes, numbers that point outside of what is in use.

The format is that of LMDB 0.9 on 64 bits (data version 1): a page begins with its number, its flags and the bounds of its
free room; behind them lie the places of its nodes in the order of their keys; a node is its size, flags, key and value, or
the number of the page where a large value begins.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from dataclasses import dataclass
from typing import Any

import lmdb
import numpy as np
import numpy.typing as npt

from sevenfold.compiled import borrowed, kernel, soon
from sevenfold.types import Ints

__all__ = ["Pages", "ordered", "pages_of"]

_FORMAT = (0, 9)
_MAGIC = 0x1BEEFC0DE  # with the data version above it
_RECORD = 48  # bytes of what is known of a table: the last 8 are the number of its root
_HEAD = 16
_LEFT_OUT = 6  # flags of nodes that hold more than a value
_ODD = -1  # what no page below, no node of a leaf is
_AHEAD = 12  # keys: a page takes about as long to come as they take to search
_LINES = (
    256  # bytes of a value that are asked for before it is read; what follows them comes by itself
)


@dataclass(frozen=True, slots=True, eq=False)
class Pages:
    """The map of an environment: its words, how many bytes a page has, and LMDB's own table, which names the others."""

    words: Ints
    size: int
    names: Any

    def find(self, record: Any, prefix: bytes, hashes: npt.NDArray[np.uint64]) -> Ints | None:
        """Where the values under `prefix`, 8 bytes, and each hash (n, 2) lie: first byte and the one after the last.

        int64 (n, 2); twice the same for a key that is not there. `record` is the table's, of the snapshot.
        None when LMDB has to be asked.
        """
        places = np.empty((len(hashes), 2), dtype=np.int64)
        root = int.from_bytes(record[_RECORD - 8 : _RECORD], "little", signed=True)
        start = np.frombuffer(prefix, dtype=np.int64)[0]
        if _find(self.words, self.size, root, start, hashes.view(np.int64), places):
            return places
        return None


def pages_of(environment: Any) -> Pages | None:
    """The pages of an open environment; None when they are of another format."""
    names, size = environment.open_db(None), environment.stat()["psize"]
    if lmdb.version()[:2] != _FORMAT or sys.byteorder != "little" or size != mmap.PAGESIZE:
        return None
    with environment.begin(names, buffers=True) as txn, txn.cursor() as cursor:
        if not cursor.first():
            return None
        # LMDB hands out its map: what it finds lies on a page, and a page says which one it is.
        inside = np.frombuffer(cursor.value(), dtype=np.uint8).__array_interface__["data"][0]
        page = inside // size * size
        base = page - size * ctypes.c_int64.from_address(page).value
        room = ctypes.c_int64 * (environment.info()["map_size"] // 8)
        words = np.frombuffer(room.from_address(base), dtype=np.int64)
        known = int(words[2]) == _MAGIC and int(words[5]) & 0xFFFFFFFF == size
    return Pages(words, size, names) if known else None


@kernel
def _find(words: Ints, size: int, root: int, prefix: int, hashes: Ints, places: Ints) -> bool:
    words, hashes, places = borrowed(words), borrowed(hashes), borrowed(places)
    # The two first pages say, by turns, which page is the last in use.
    last = max(words[17], words[size // 8 + 17])
    first, n = ordered(prefix), hashes.shape[0]
    for i in range(n):
        places[i, 0] = root
    # All keys go down together, a level at a time: while one looks, the pages of the next are on their way from memory.
    for _ in range(64):
        found = True
        for i in range(n):
            if i + _AHEAD < n:
                soon(words, places[i + _AHEAD, 0] * size // 8)
            page = places[i, 0]
            if page == -1:
                places[i, 1] = 0
                continue  # a table of nothing
            if page < 2 or page > last:
                return False
            key = (first, ordered(hashes[i, 0]), ordered(hashes[i, 1]))
            below = _search(words, size, page * size, key)
            if below == _ODD:
                return False
            if below <= 0:
                places[i, 1] = -below
            else:
                places[i, 0], found = below, False
        if found:
            return _values(words, size, last, places)
    return False


@kernel
def _values(words: Ints, size: int, last: int, places: Ints) -> bool:
    """Write where the values lie whose nodes are the second of `places`; False for one that is left to LMDB."""
    for i in range(places.shape[0]):
        node = places[i, 1]
        places[i, 0] = 0
        if node == 0:
            continue
        length = _short(words, node) | _short(words, node + 2) << 16
        begin, flags = node + 32, _short(words, node + 4)
        stop = (node // size + 1) * size
        if flags & 1:
            page = _word(words, begin)
            begin, stop = page * size + _HEAD, (last + 1) * size
            if page < 2 or page > last:
                return False
        if flags & _LEFT_OUT or (begin | length) & 7 or begin + length > stop:
            return False
        for line in range(0, min(length, _LINES), 64):
            soon(words, (begin + line) // 8)
        places[i, 0] = begin
        places[i, 1] = begin + length
    return True


@kernel
def _search(words: Ints, size: int, begin: int, key: tuple[int, int, int]) -> Any:
    """The page below the one at `begin` that leads to a key; of a leaf minus its node's first byte, or 0 for no such key."""
    head = words[begin // 8 + 1]
    flags, lower = (head >> 16) & 0xFFFF, (head >> 32) & 0xFFFF
    if lower < _HEAD or lower > size or flags & 0x23 not in (1, 2):
        return _ODD
    # The last node whose key is not after ours; the first of a branch stands for all before the second.
    low, high = flags & 1, (lower - _HEAD) >> 1
    while low < high:
        middle = (low + high) >> 1
        node = begin + _short(words, begin + _HEAD + 2 * middle)
        if _is_after(words, node, key):
            high = middle
        else:
            low = middle + 1
    if low == 0:
        return 0
    node = begin + _short(words, begin + _HEAD + 2 * (low - 1))
    if flags & 2:
        return -int(node) if _is_key(words, node, key) else 0
    return _short(words, node) | _short(words, node + 2) << 16 | _short(words, node + 4) << 32


@kernel
def _is_key(words: Ints, node: int, key: tuple[int, int, int]) -> bool:
    first, second, third = key
    return bool(
        _short(words, node + 6) == 24
        and ordered(_word(words, node + 8)) == first
        and ordered(_word(words, node + 16)) == second
        and ordered(_word(words, node + 24)) == third
    )


@kernel
def _is_after(words: Ints, node: int, key: tuple[int, int, int]) -> bool:
    """Whether the key of a node is after one of 24 bytes."""
    length = _short(words, node + 6)
    for i in range(3):
        if length < 8 * i + 8:
            return _is_short_after(words, node + 8 + 8 * i, length - 8 * i, key[i])
        word = ordered(_word(words, node + 8 + 8 * i))
        if word != key[i]:
            return bool(word > key[i])
    return bool(length > 24)


@kernel
def _is_short_after(words: Ints, at: int, length: int, word: int) -> bool:
    """Whether the `length` bytes at `at`, fewer than 8, are after an ordered word's: equal ones are before, being fewer."""
    for i in range(length):
        mine = (words[(at + i) >> 3] >> (((at + i) & 7) * 8)) & 0xFF
        other = ((word ^ _SIGN) >> (56 - 8 * i)) & 0xFF
        if mine != other:
            return bool(mine > other)
    return False


_SIGN = -(1 << 63)
_EIGHTS, _SIXTEENTHS, _HALF = 0x00FF00FF00FF00FF, 0x0000FFFF0000FFFF, 0xFFFFFFFF


@kernel
def ordered(word: Any) -> Any:
    """The word whose order among whole numbers is that of the bytes of `word`."""
    word = ((word >> 8) & _EIGHTS) | ((word & _EIGHTS) << 8)
    word = ((word >> 16) & _SIXTEENTHS) | ((word & _SIXTEENTHS) << 16)
    return (((word >> 32) & _HALF) | (word << 32)) ^ _SIGN


@kernel
def _word(words: Ints, at: int) -> Any:
    """The word that begins at any even byte: one of numpy, whose bits beyond the 64th fall away."""
    low, shift = words[at >> 3], (at & 7) * 8
    if shift == 0:
        return low
    return ((low >> shift) & ((1 << (64 - shift)) - 1)) | (words[(at >> 3) + 1] << (64 - shift))


@kernel
def _short(words: Ints, at: int) -> int:
    """The two bytes at an even byte."""
    return int((words[at >> 3] >> ((at & 7) * 8)) & 0xFFFF)
