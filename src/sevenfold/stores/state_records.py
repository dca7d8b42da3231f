"""Records of states and the slots that say where they lie, as kernels see them: words of the memory of the process.

    record   address of the key's record before it | checksum, length + 1 | key, 3 words | value, to a whole word
    slot     hash of the key | address of its newest record, 0 for a slot that is free

An address is the number of a segment and the word in it. Addresses only grow; a record is never changed, a slot never moved.
So who reads as of a tail takes the address in a slot and goes back along the records until it is before that tail.
A length of -1 (0 as written) is a deletion. The checksum is of all of the record and of its address: what an earlier life of the file
left there is no record of this one.

A table is what a kernel has to know: `FIRST` number of a segment, `BITS` of an address in one, `PARTS` bits of a hash that choose the part,
`COUNT` of segments, where their places begin (`BASES`), and whether records are `SEALED`; then of each part the place of its slots and their number less 1;
then the place of each segment, 0 where it is not mapped.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from sevenfold.compiled import COMPILES, borrowed, kernel
from sevenfold.stores.lmdb_pages import ordered, soon
from sevenfold.types import Ints

__all__ = [
    "BASES",
    "BITS",
    "COUNT",
    "DAMAGED",
    "FIRST",
    "FULL",
    "HEAD",
    "PARTS",
    "RING",
    "SEALED",
    "TABLE",
    "collect",
    "difference",
    "enter",
    "find",
    "lay",
    "move",
    "note",
    "regrow",
    "retreat",
    "weigh",
]

FIRST, BITS, PARTS, COUNT, BASES, SEALED = 0, 1, 2, 3, 4, 5
TABLE = 8
"""Words of a table before its parts."""

HEAD = 5
"""Words of a record before its value."""

RING = 1 << 14
"""Segments whose living words are counted: those of numbers as far apart share a count."""

FULL, DAMAGED = -1, -2
_NONE, _OTHER, _UNMAPPED = -1, -3, -8
_GONE, _NOT_HERE = -1, -2
_AHEAD = 12  # keys: about as long as what is asked for takes to come from memory
_LINES = 4  # of 64 bytes that are asked for before a record is read
_LOW = 0xFFFFFFFF
_K1, _K2, _K3 = -7046029254386353131, -4658895280553007687, -7723592293110705685
_K4 = -3335678366873096957
_APART = 7046029254386353132  # even: odd factors stay odd


def _fence(typing_context: Any) -> Any:
    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.none(), lower


def _in_order() -> None:
    pass


fence: Any = intrinsic(_fence) if COMPILES else _in_order
"""For kernels: what was written before is seen by whoever sees what is written after; machines other than x86 have to be asked."""


@kernel
def _mixed(first: Any, second: Any, third: Any) -> Any:
    x = first ^ (second * _K1)
    x = (x ^ ((x >> 32) & _LOW)) * _K2
    x = (x ^ third) * _K3
    x = (x ^ ((x >> 29) & 0x7FFFFFFFF)) * _K1
    return x ^ ((x >> 32) & _LOW)


@kernel
def _folded(word: Any) -> Any:
    return word ^ (word >> 31)


@kernel
def _seal(memory: Ints, at: int, end: int, address: int) -> Any:
    """The checksum of a record, 32 bits in the upper half of a word: a sum of products, none of which waits for another.

    The factors are odd and all different, so that a change of one word changes the sum; folded are words because a change of their last bit alone
    would be the same with any factor.
    """
    total = np.int64(address) * _K4 + _folded(memory[at]) * _K2 + (memory[at + 1] & _LOW) * _K3
    factor = np.int64(_K1)
    for i in range(at + 2, end):
        total += _folded(memory[i]) * factor
        factor += _APART
    return _mixed(total, np.int64(end - at), address) & ~_LOW


@kernel
def _size(memory: Ints, at: int) -> Any:
    """The words of a record."""
    return HEAD + (((memory[at + 1] & _LOW) + 6) >> 3)


@kernel
def _located(table: Ints, address: int) -> Any:
    """Where in memory an address is; `_GONE` in a segment before the first, `_NOT_HERE` in one that is not mapped."""
    place = (address >> table[BITS]) - table[FIRST]
    if place < 0:
        return _GONE
    if place >= table[COUNT]:
        return _NOT_HERE
    base, size = table[table[BASES] + place], 1 << table[BITS]
    if base == 0 or (address & (size - 1)) + HEAD > size:
        return _NOT_HERE
    return base + (address & (size - 1))


@kernel
def _is_whole(memory: Ints, table: Ints, at: int, address: int) -> bool:
    if not table[SEALED]:
        return True
    room = (1 << table[BITS]) - (address & ((1 << table[BITS]) - 1))
    if room < HEAD:
        return False
    size = _size(memory, at)
    return bool(size <= room and _seal(memory, at, at + size, address) == memory[at + 1] & ~_LOW)


@kernel
def _as_of(memory: Ints, table: Ints, tail: int, address: int, key: tuple[int, int, int]) -> Any:
    """Where the newest record before a tail is, from the newest of all on; another number says why there is none."""
    newest = address
    while address > 0:
        at = _located(table, address)
        if at == _GONE:
            return _NONE
        if at == _NOT_HERE:
            return _UNMAPPED - (address >> table[BITS])
        if not _is_whole(memory, table, at, address):
            return DAMAGED
        if memory[at + 2] != key[0] or memory[at + 3] != key[1] or memory[at + 4] != key[2]:
            return _OTHER if address == newest else DAMAGED
        if address < tail:
            return at
        if memory[at] >= address:
            return DAMAGED
        address = memory[at]
    return _NONE


@kernel
def _slots(table: Ints, tag: Any) -> tuple[Any, Any]:
    """The slots of a hash's part, and their number less 1."""
    part = TABLE + 2 * ((tag >> (64 - table[PARTS])) & ((1 << table[PARTS]) - 1))
    return table[part], table[part + 1]


@kernel
def _tagged(memory: Ints, table: Ints, tag: Any) -> Any:
    """The first slot of a hash, or the free one where it would be."""
    slots, mask = _slots(table, tag)
    for i in range(mask + 1):
        slot = slots + 2 * ((tag + i) & mask)
        if memory[slot + 1] == 0 or memory[slot] == tag:
            return slot
    return DAMAGED


@kernel
def _slot(memory: Ints, table: Ints, tag: Any, key: tuple[int, int, int]) -> Any:
    """The slot of a key, or the free one where it would be; a smaller number than any says why there is none."""
    slots, mask = _slots(table, tag)
    for i in range(mask + 1):
        slot = slots + 2 * ((tag + i) & mask)
        address = memory[slot + 1]
        if address == 0:
            return slot
        if memory[slot] != tag:
            continue
        at = _located(table, address)
        if at == _GONE:
            return slot
        if at == _NOT_HERE:
            return _UNMAPPED - (address >> table[BITS])
        if memory[at + 2] == key[0] and memory[at + 3] == key[1] and memory[at + 4] == key[2]:
            return slot
    return DAMAGED


@kernel
def _searched(memory: Ints, table: Ints, tail: int, tag: Any, key: tuple[int, int, int]) -> Any:
    """The record of a key whose hash another one has, too."""
    slot = _slot(memory, table, tag, key)
    if slot < 0:
        return slot
    return _as_of(memory, table, tail, memory[slot + 1], key)


@kernel
def _placed(memory: Ints, table: Ints, tail: int, key: tuple[int, int, int], place: Ints) -> Any:
    """Turn the hash of a key, and the newest address that there may be of it, into where its value lies; see `find`."""
    tag, at = place[0], _as_of(memory, table, tail, place[1], key)
    if at == _OTHER:
        at = _searched(memory, table, tail, tag, key)
    place[0] = place[1] = _NONE
    if at <= _UNMAPPED:
        return _UNMAPPED - at
    if at == _NONE:
        return 0
    if at < 0:
        return -1
    length = (memory[at + 1] & _LOW) - 1
    if length < 0:
        place[0] = place[1] = -2
    else:
        place[0] = 8 * (at + HEAD)
        place[1] = place[0] + length
    return 0


@kernel
def find(memory: Ints, table: Ints, tail: int, keys: Ints, places: Ints) -> int:
    """Write where the values of keys (n, 3) lie as of a tail: first byte and the one after the last, (n, 2), twice -1 for none and -2 for one that was deleted.

    0 when all is told; the number of a segment that has first to be mapped; -1 minus which key's record is damaged.
    """
    memory, table, keys, places = (
        borrowed(memory),
        borrowed(table),
        borrowed(keys),
        borrowed(places),
    )
    n = keys.shape[0]
    # While one is looked at, the slots and the records of the next are on their way from memory.
    for i in range(n + 2 * _AHEAD):
        if i < n:
            tag = _mixed(keys[i, 0], keys[i, 1], keys[i, 2])
            places[i, 0] = tag
            slots, mask = _slots(table, tag)
            soon(memory, slots + 2 * (tag & mask))
        j = i - _AHEAD
        if 0 <= j < n:
            slot = _tagged(memory, table, places[j, 0])
            places[j, 1] = memory[slot + 1] if slot >= 0 else 0
            at = _located(table, places[j, 1])
            if at > 0:
                for line in range(_LINES):
                    soon(memory, at + 8 * line)
        j -= _AHEAD
        if 0 <= j < n:
            told = _placed(memory, table, tail, (keys[j, 0], keys[j, 1], keys[j, 2]), places[j])
            if told:
                return int(told if told > 0 else -1 - j)
    return 0


@kernel
def _ask_ahead(memory: Ints, here: Ints, table: Ints, run: tuple[int, int, int], end: int) -> Any:
    """Have what the records to come need brought from memory; how far that is: of one the slot, of one before it what the slot points to.

    `run` are two addresses of records `here`, and whether the second is to be moved, too.
    """
    far, near, moves = run
    if far < end:
        at = _located(here, far)
        tag = _mixed(memory[at + 2], memory[at + 3], memory[at + 4])
        slots, mask = _slots(table, tag)
        soon(memory, slots + 2 * (tag & mask))
        far += _size(memory, at)
    if moves and near < end:
        at = _located(here, near)
        tag = _mixed(memory[at + 2], memory[at + 3], memory[at + 4])
        slot = _tagged(memory, table, tag)
        if slot >= 0 and memory[slot + 1]:
            soon(memory, max(_located(table, memory[slot + 1]), 0))
        near += _size(memory, at)
    return far, near


@kernel
def enter(
    memory: Ints, table: Ints, live: Ints, used: Ints, begin: int, end: int, tally: Ints
) -> Any:
    """Have slots point to the records from address `begin` up to `end`, all of one segment.

    `live` are words by segment (`RING`,), `used` slots by part; the number of keys is added to the first of `tally`. The end; or
    the address of the record that it stopped at, with `FULL` and the part in the next of `tally`, or `DAMAGED` or the segment that is to be mapped.
    """
    memory, table, live, used = borrowed(memory), borrowed(table), borrowed(live), borrowed(used)
    fence()
    address = far = near = begin
    ahead = 0
    while address < end:
        while ahead < 2 * _AHEAD:
            far, near = _ask_ahead(memory, table, table, (far, near, ahead >= _AHEAD), end)
            ahead += 1
        ahead -= 1
        at = _located(table, address)
        if not _is_whole(memory, table, at, address):
            tally[1] = DAMAGED
            return address
        size, key = _size(memory, at), (memory[at + 2], memory[at + 3], memory[at + 4])
        tag = _mixed(key[0], key[1], key[2])
        slot = _slot(memory, table, tag, key)
        if slot < 0:
            tally[1] = slot if slot == DAMAGED else _UNMAPPED - slot
            return address
        old = memory[slot + 1]
        if old == 0:
            part = (tag >> (64 - table[PARTS])) & ((1 << table[PARTS]) - 1)
            mask = table[TABLE + 2 * part + 1]
            if used[part] >= (mask + 1) * 3 // 5 - (mask + 1) * part // 512:
                tally[1], tally[2] = FULL, part
                return address
            memory[slot] = tag
            used[part] += 1
        if old != address:
            memory[slot + 1] = address
            before = _located(table, old) if old else _GONE
            if before >= 0 and memory[before + 1] & _LOW:
                tally[0] -= 1
                live[(old >> table[BITS]) & (RING - 1)] -= _size(memory, before)
            if memory[at + 1] & _LOW:
                tally[0] += 1
                live[(address >> table[BITS]) & (RING - 1)] += size
        address += size
    tally[1] = 0
    return address


@kernel
def note(
    memory: Ints, table: Ints, keys: Ints, firsts: Ints, lengths: Ints, begin: int, state: Ints
) -> int:
    """Append values of keys (n, 3) from the `begin`-th on to records that are only this transaction's, and have slots point to them.

    Given are the first word of each value, (n,), and its length in bytes, -1 for a deletion. `state` is the address behind the last record, the one
    where its segment ends, the slots in use. Which key there was no room for, of records or slots; n when there was.
    """
    memory, table, keys = borrowed(memory), borrowed(table), borrowed(keys)
    firsts, lengths = borrowed(firsts), borrowed(lengths)
    for i in range(begin, keys.shape[0]):
        address, n = state[0], (lengths[i] + 7) >> 3
        mask = table[TABLE + 1]
        if address + HEAD + n > state[1] or 2 * state[2] > mask:
            return int(i)
        at = _located(table, address)
        memory[at], memory[at + 1] = 0, lengths[i] + 1
        for k in range(3):
            memory[at + 2 + k] = keys[i, k]
        for k in range(n):
            memory[at + HEAD + k] = memory[firsts[i] + k]
        key = (keys[i, 0], keys[i, 1], keys[i, 2])
        tag = _mixed(key[0], key[1], key[2])
        slot = _slot(memory, table, tag, key)
        if memory[slot + 1] == 0:
            memory[slot] = tag
            state[2] += 1
        memory[slot + 1] = address
        state[0] = address + HEAD + n
    return int(keys.shape[0])


@kernel
def _copied(
    memory: Ints, at: int, size: int, before: int, out: Ints, begin: int, address: int
) -> None:
    """A record as it is at another address, with the one before it."""
    for k in range(1, size):
        out[begin + k] = memory[at + k]
    out[begin] = before
    out[begin + 1] = memory[at + 1] & _LOW
    out[begin + 1] |= _seal(out, begin, begin + size, address)


@kernel
def lay(memory: Ints, pending: Ints, table: Ints, out: Ints, bounds: Ints) -> int:
    """Lay out what a transaction has put as records of the log.

    `bounds` are the pending address to begin at and the one to stop at, of one segment; the words of `out` that are used and that may be; the address of the first word
    of `out`. The first and the third of them are moved. 0, or the segment that has to be mapped, or `DAMAGED`.
    """
    memory, pending, table, out = (
        borrowed(memory),
        borrowed(pending),
        borrowed(table),
        borrowed(out),
    )
    far = near = bounds[0]
    ahead = 0
    while bounds[0] < bounds[1]:
        while ahead < 2 * _AHEAD:
            far, near = _ask_ahead(memory, pending, table, (far, near, ahead >= _AHEAD), bounds[1])
            ahead += 1
        ahead -= 1
        at = _located(pending, bounds[0])
        size, key = _size(memory, at), (memory[at + 2], memory[at + 3], memory[at + 4])
        tag = _mixed(key[0], key[1], key[2])
        if memory[_slot(memory, pending, tag, key) + 1] == bounds[0]:
            slot = _slot(memory, table, tag, key)
            if slot < 0:
                return DAMAGED if slot == DAMAGED else int(_UNMAPPED - slot)
            old = memory[slot + 1]
            before = _located(table, old) if old else _GONE
            # A deletion of what is deleted, too: the record there may lie in what is cleaned, and is not moved.
            if before >= 0 or memory[at + 1] & _LOW:
                if bounds[2] + size > bounds[3]:
                    return 0
                _copied(memory, at, size, old, out, bounds[2], bounds[4] + bounds[2])
                bounds[2] += size
        bounds[0] += size
    return 0


@kernel
def move(memory: Ints, table: Ints, out: Ints, bounds: Ints, oldest: bool) -> int:
    """Lay out copies of what slots still point to in a stretch of the log.

    `bounds` as in `lay`, the first two of them addresses of the log. A deletion in the `oldest` segment has nothing to delete any more.
    """
    memory, table, out = borrowed(memory), borrowed(table), borrowed(out)
    while bounds[0] < bounds[1]:
        at = _located(table, bounds[0])
        if not _is_whole(memory, table, at, bounds[0]):
            return DAMAGED
        size, key = _size(memory, at), (memory[at + 2], memory[at + 3], memory[at + 4])
        slot = _slot(memory, table, _mixed(key[0], key[1], key[2]), key)
        if slot < 0:
            return DAMAGED if slot == DAMAGED else int(_UNMAPPED - slot)
        is_kept = memory[at + 1] & _LOW != 0 or not oldest
        if memory[slot + 1] == bounds[0] and is_kept:
            if bounds[2] + size > bounds[3]:
                return 0
            _copied(memory, at, size, bounds[0], out, bounds[2], bounds[4] + bounds[2])
            bounds[2] += size
        bounds[0] += size
    return 0


@kernel
def difference(memory: Ints, pending: Ints, table: Ints, begin: int, end: int) -> int:
    """How many keys more there are with what a transaction has put, from pending address `begin` up to `end`.

    The table has nothing in it where it has no words.
    """
    memory, pending, table = borrowed(memory), borrowed(pending), borrowed(table)
    more, address = 0, begin
    while address < end:
        at = _located(pending, address)
        key = (memory[at + 2], memory[at + 3], memory[at + 4])
        tag = _mixed(key[0], key[1], key[2])
        if memory[_slot(memory, pending, tag, key) + 1] == address:
            more += memory[at + 1] & _LOW != 0
            slot = _slot(memory, table, tag, key) if table.shape[0] else DAMAGED
            old = memory[slot + 1] if slot >= 0 else 0
            before = _located(table, old) if old else _GONE
            more -= before >= 0 and memory[before + 1] & _LOW != 0
        address += _size(memory, at)
    return int(more)


@kernel
def regrow(memory: Ints, table: Ints, old: int, mask: int, new: int, wider: int) -> int:
    """Have slots of a part, `wider` + 1 at place `new`, point to what those at `old` do; how many are in use."""
    memory, table = borrowed(memory), borrowed(table)
    n = 0
    for i in range(mask + 1):
        tag, address = memory[old + 2 * i], memory[old + 2 * i + 1]
        if address == 0 or _located(table, address) == _GONE:
            continue
        at = tag & wider
        while memory[new + 2 * at + 1]:
            at = (at + 1) & wider
        memory[new + 2 * at] = tag
        memory[new + 2 * at + 1] = address
        n += 1
    return n


@kernel
def retreat(memory: Ints, table: Ints, part: int, tail: int, tally: Ints) -> int:
    """Set each slot of a part that points to a tail or beyond back along its records; how many are in use.

    A negative number: a segment that has to be mapped, or `DAMAGED`. `tally` counts the slots that were set back.
    """
    memory, table = borrowed(memory), borrowed(table)
    slots, mask, n = table[TABLE + 2 * part], table[TABLE + 2 * part + 1], 0
    for i in range(mask + 1):
        slot = slots + 2 * i
        address = memory[slot + 1]
        while address >= tail:
            at = _located(table, address)
            if at < 0:
                return int(_UNMAPPED - (address >> table[BITS]))
            if not _is_whole(memory, table, at, address) or memory[at] >= address:
                return DAMAGED
            address = memory[at]
        if address != memory[slot + 1]:
            memory[slot + 1] = address
            tally[0] += 1
        n += address != 0
    return n


@kernel
def weigh(memory: Ints, table: Ints, part: int, live: Ints) -> None:
    """Add the words of what the slots of a part point to, by segment."""
    memory, table = borrowed(memory), borrowed(table)
    slots, mask = table[TABLE + 2 * part], table[TABLE + 2 * part + 1]
    for i in range(mask + 1):
        address = memory[slots + 2 * i + 1]
        at = _located(table, address) if address else _GONE
        if at >= 0 and memory[at + 1] & _LOW:
            live[(address >> table[BITS]) & (RING - 1)] += _size(memory, at)


@kernel
def collect(memory: Ints, table: Ints, bounds: tuple[int, int, int], part: int, out: Ints) -> int:
    """Write the keys of a part (m, 3) that have a value as of a tail; how many.

    `bounds` are the tail, and the least and the greatest first word, in the order of bytes. `out` has as many rows as the part has
    slots. -1 minus the number of a segment that has to be mapped; `DAMAGED` less than all of these.
    """
    memory, table, out = borrowed(memory), borrowed(table), borrowed(out)
    tail, least, greatest = bounds
    slots, mask, n = table[TABLE + 2 * part], table[TABLE + 2 * part + 1], 0
    for i in range(mask + 1):
        ahead = memory[slots + 2 * ((i + _AHEAD) & mask) + 1]
        soon(memory, max(_located(table, ahead), 0))
        address = memory[slots + 2 * i + 1]
        at = _located(table, address) if address else _GONE
        if at == _GONE:
            continue
        if at == _NOT_HERE:
            return int(-1 - (address >> table[BITS]))
        key = (memory[at + 2], memory[at + 3], memory[at + 4])
        first = ordered(key[0])
        if first < least or first > greatest:
            continue
        at = _as_of(memory, table, tail, address, key)
        if at <= _UNMAPPED:
            return int(-1 - (_UNMAPPED - at))
        if at in (DAMAGED, _OTHER):
            return -(1 << 62)
        if at >= 0 and memory[at + 1] & _LOW:
            out[n, 0], out[n, 1], out[n, 2] = key
            n += 1
    return n
