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

from sevenfold.compiled import borrowed, kernel, soon
from sevenfold.types import Ints

__all__ = [
    "AHEAD",
    "BASES",
    "BITS",
    "COUNT",
    "DAMAGED",
    "FIRST",
    "FULL",
    "GONE",
    "HEAD",
    "LOW",
    "NOT_HERE",
    "NO_SLOTS",
    "OTHER",
    "PARTS",
    "RING",
    "SEALED",
    "TABLE",
    "UNKNOWN",
    "UNMAPPED",
    "as_of",
    "find",
    "is_whole",
    "located",
    "mixed",
    "note",
    "seal",
    "size_of",
    "slot_of",
    "slots_of",
    "tagged",
]

FIRST, BITS, PARTS, COUNT, BASES, SEALED = 0, 1, 2, 3, 4, 5
TABLE = 8
"""Words of a table before its parts."""

HEAD = 5
"""Words of a record before its value."""

RING = 1 << 14
"""Segments whose living words are counted: those of numbers as far apart share a count."""

FULL, DAMAGED, OTHER, UNMAPPED = -1, -2, -3, -8
"""Why there is no record or slot: no free slot, no record that was written, one of another key, and as many less as the number of a segment."""

NONE = UNKNOWN = -1
"""No record; a slot that is not known."""

NO_SLOTS: Ints = np.empty(0, dtype=np.int64)
GONE, NOT_HERE = -1, -2
"""Where an address is that is nowhere: of a segment before the first, of one that is not mapped."""

AHEAD = 12  # keys: about as long as what is asked for takes to come from memory
_LINES = 4  # of 64 bytes that are asked for before a record is read
LOW = 0xFFFFFFFF
"""The half of a word that is a record's length."""

# Without signs: products that overflow wrap. Of signed ones the compiler believes that they never do, and what
# it makes of one that does depends on what else it knows where a kernel is called.
_K1, _K2 = np.uint64(11400714819323198485), np.uint64(13787848793156543929)
_K3, _K4 = np.uint64(10723151780598845931), np.uint64(15111065706836454659)
_APART = np.uint64(7046029254386353132)  # even: odd factors stay odd
_29, _32 = np.uint64(29), np.uint64(32)


@kernel
def mixed(first: Any, second: Any, third: Any) -> Any:
    """The hash of three words, all of whose bits depend on all of theirs."""
    x = np.uint64(first) ^ (np.uint64(second) * _K1)
    x = (x ^ (x >> _32)) * _K2
    x = (x ^ np.uint64(third)) * _K3
    x = (x ^ (x >> _29)) * _K1
    return np.int64(x ^ (x >> _32))


@kernel
def _folded(word: Any) -> Any:
    return np.uint64(word ^ (word >> 31))


@kernel
def seal(memory: Ints, at: int, end: int, address: int) -> Any:
    """The checksum of a record, 32 bits in the upper half of a word: a sum of products, none of which waits for another.

    The factors are odd and all different, so that a change of one word changes the sum; folded are words because a change of their last bit alone
    would be the same with any factor.
    """
    total = np.uint64(address) * _K4 + _folded(memory[at]) * _K2
    total += np.uint64(memory[at + 1] & LOW) * _K3
    factor = _K1
    for i in range(at + 2, end):
        total += _folded(memory[i]) * factor
        factor += _APART
    return mixed(total, end - at, address) & ~LOW


@kernel
def size_of(memory: Ints, at: int) -> Any:
    """The words of a record."""
    return HEAD + (((memory[at + 1] & LOW) + 6) >> 3)


@kernel
def located(table: Ints, address: int) -> Any:
    """Where in memory an address is; `GONE` in a segment before the first, `NOT_HERE` in one that is not mapped."""
    place = (address >> table[BITS]) - table[FIRST]
    if place < 0:
        return GONE
    if place >= table[COUNT]:
        return NOT_HERE
    base, size = table[table[BASES] + place], 1 << table[BITS]
    if base == 0 or (address & (size - 1)) + HEAD > size:
        return NOT_HERE
    return base + (address & (size - 1))


@kernel
def is_whole(memory: Ints, table: Ints, at: int, address: int) -> bool:
    """Whether what lies at an address is what was written there, where the table has checksums."""
    if not table[SEALED]:
        return True
    room = (1 << table[BITS]) - (address & ((1 << table[BITS]) - 1))
    if room < HEAD:
        return False
    size = size_of(memory, at)
    return bool(size <= room and seal(memory, at, at + size, address) == memory[at + 1] & ~LOW)


@kernel
def as_of(memory: Ints, table: Ints, tail: int, address: int, key: tuple[int, int, int]) -> Any:
    """Where the newest record before a tail is, from the newest of all on; another number says why there is none."""
    newest = address
    while address > 0:
        at = located(table, address)
        if at == GONE:
            return NONE
        if at == NOT_HERE:
            return UNMAPPED - (address >> table[BITS])
        if not is_whole(memory, table, at, address):
            return DAMAGED
        if memory[at + 2] != key[0] or memory[at + 3] != key[1] or memory[at + 4] != key[2]:
            return OTHER if address == newest else DAMAGED
        if address < tail:
            return at
        if memory[at] >= address:
            return DAMAGED
        address = memory[at]
    return NONE


@kernel
def slots_of(table: Ints, tag: Any) -> tuple[Any, Any]:
    """The slots of a hash's part, and their number less 1."""
    part = TABLE + 2 * ((tag >> (64 - table[PARTS])) & ((1 << table[PARTS]) - 1))
    return table[part], table[part + 1]


@kernel
def tagged(memory: Ints, table: Ints, tag: Any) -> Any:
    """The first slot of a hash, or the free one where it would be."""
    slots, mask = slots_of(table, tag)
    for i in range(mask + 1):
        slot = slots + 2 * (((tag & mask) + i) & mask)
        if memory[slot + 1] == 0 or memory[slot] == tag:
            return slot
    return DAMAGED


@kernel
def slot_of(memory: Ints, table: Ints, tag: Any, key: tuple[int, int, int]) -> Any:
    """The slot of a key, or the free one where it would be; a smaller number than any says why there is none."""
    slots, mask = slots_of(table, tag)
    for i in range(mask + 1):
        slot = slots + 2 * (((tag & mask) + i) & mask)
        address = memory[slot + 1]
        if address == 0:
            return slot
        if memory[slot] != tag:
            continue
        at = located(table, address)
        if at == GONE:
            return slot
        if at == NOT_HERE:
            return UNMAPPED - (address >> table[BITS])
        if memory[at + 2] == key[0] and memory[at + 3] == key[1] and memory[at + 4] == key[2]:
            return slot
    return DAMAGED


@kernel
def _searched(memory: Ints, table: Ints, tail: int, tag: Any, key: tuple[int, int, int]) -> Any:
    """The record of a key whose hash another one has, too."""
    slot = slot_of(memory, table, tag, key)
    if slot < 0:
        return slot
    return as_of(memory, table, tail, memory[slot + 1], key)


@kernel
def _placed(
    memory: Ints, table: Ints, tail: int, key: tuple[int, int, int], place: Ints, slots: Ints
) -> Any:
    """Turn the hash of a key, and the newest address that there may be of it, into where its value lies; see `find`."""
    tag, at = place[0], as_of(memory, table, tail, place[1], key)
    if at == OTHER:
        if slots.shape[0]:
            slots[0] = UNKNOWN
        at = _searched(memory, table, tail, tag, key)
    place[0] = place[1] = NONE
    if at <= UNMAPPED:
        return UNMAPPED - at
    if at == NONE:
        return 0
    if at < 0:
        return -1
    length = (memory[at + 1] & LOW) - 1
    if length < 0:
        place[0] = place[1] = -2
    else:
        place[0] = 8 * (at + HEAD)
        place[1] = place[0] + length
    return 0


@kernel
def find(memory: Ints, table: Ints, tail: int, keys: Ints, places: Ints, slots: Ints) -> int:
    """Write where the values of keys (n, 3) lie as of a tail: first byte and the one after the last, (n, 2), twice -1 for none and -2 for one that was deleted.

    Where `slots` has room (n,), the slot of each key is written there, or the free one where it would be; -1 where it has to be looked for.
    0 when all is told; the number of a segment that has first to be mapped; -1 minus which key's record is damaged.
    """
    memory, table, keys = borrowed(memory), borrowed(table), borrowed(keys)
    places, slots = borrowed(places), borrowed(slots)
    n = keys.shape[0]
    # While one is looked at, the slots and the records of the next are on their way from memory.
    for i in range(n + 2 * AHEAD):
        if i < n:
            tag = mixed(keys[i, 0], keys[i, 1], keys[i, 2])
            places[i, 0] = tag
            first, mask = slots_of(table, tag)
            soon(memory, first + 2 * (tag & mask))
        j = i - AHEAD
        if 0 <= j < n:
            slot = tagged(memory, table, places[j, 0])
            places[j, 1] = memory[slot + 1] if slot >= 0 else 0
            if slots.shape[0]:
                slots[j] = slot
            at = located(table, places[j, 1])
            if at > 0:
                for line in range(_LINES):
                    soon(memory, at + 8 * line)
        j -= AHEAD
        if 0 <= j < n:
            told = _placed(
                memory, table, tail, (keys[j, 0], keys[j, 1], keys[j, 2]), places[j], slots[j:]
            )
            if told:
                return int(told if told > 0 else -1 - j)
    return 0


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
        at = located(table, address)
        memory[at], memory[at + 1] = 0, lengths[i] + 1
        for k in range(3):
            memory[at + 2 + k] = keys[i, k]
        for k in range(n):
            memory[at + HEAD + k] = memory[firsts[i] + k]
        key = (keys[i, 0], keys[i, 1], keys[i, 2])
        tag = mixed(key[0], key[1], key[2])
        slot = slot_of(memory, table, tag, key)
        if memory[slot + 1] == 0:
            memory[slot] = tag
            state[2] += 1
        memory[slot + 1] = address
        state[0] = address + HEAD + n
    return int(keys.shape[0])
