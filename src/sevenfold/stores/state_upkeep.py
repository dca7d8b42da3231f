"""Kernels that keep the log of states: records are laid out and entered into the table, cleaned, set back, gathered.

What a record, a slot and a table are is told in `state_records`.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from sevenfold.compiled import COMPILES, borrowed, kernel, soon
from sevenfold.stores.lmdb_pages import ordered
from sevenfold.stores.state_records import (
    AHEAD,
    BITS,
    DAMAGED,
    FULL,
    GONE,
    HEAD,
    LOW,
    NOT_HERE,
    OTHER,
    PARTS,
    RING,
    TABLE,
    UNKNOWN,
    UNMAPPED,
    as_of,
    is_whole,
    located,
    mixed,
    seal,
    size_of,
    slot_of,
    slots_of,
    tagged,
)
from sevenfold.types import Ints

__all__ = [
    "collect",
    "difference",
    "enter",
    "lay",
    "lay_kept",
    "move",
    "regrow",
    "retreat",
    "weigh",
]


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
def _ask_ahead(memory: Ints, here: Ints, table: Ints, run: tuple[int, int, int], end: int) -> Any:
    """Have what the records to come need brought from memory; how far that is: of one the slot, of one before it what the slot points to.

    `run` are two addresses of records `here`, and whether the second is to be moved, too.
    """
    far, near, moves = run
    if far < end:
        at = located(here, far)
        tag = mixed(memory[at + 2], memory[at + 3], memory[at + 4])
        slots, mask = slots_of(table, tag)
        soon(memory, slots + 2 * (tag & mask))
        far += size_of(memory, at)
    if moves and near < end:
        at = located(here, near)
        tag = mixed(memory[at + 2], memory[at + 3], memory[at + 4])
        slot = tagged(memory, table, tag)
        if slot >= 0 and memory[slot + 1]:
            soon(memory, max(located(table, memory[slot + 1]), 0))
        near += size_of(memory, at)
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
        while ahead < 2 * AHEAD:
            far, near = _ask_ahead(memory, table, table, (far, near, ahead >= AHEAD), end)
            ahead += 1
        ahead -= 1
        at = located(table, address)
        if not is_whole(memory, table, at, address):
            tally[1] = DAMAGED
            return address
        size, key = size_of(memory, at), (memory[at + 2], memory[at + 3], memory[at + 4])
        tag = mixed(key[0], key[1], key[2])
        slot = slot_of(memory, table, tag, key)
        if slot < 0:
            tally[1] = slot if slot == DAMAGED else UNMAPPED - slot
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
            before = located(table, old) if old else GONE
            if before >= 0 and memory[before + 1] & LOW:
                tally[0] -= 1
                live[(old >> table[BITS]) & (RING - 1)] -= size_of(memory, before)
            if memory[at + 1] & LOW:
                tally[0] += 1
                live[(address >> table[BITS]) & (RING - 1)] += size
        address += size
    tally[1] = 0
    return address


@kernel
def _copied(
    memory: Ints, at: int, size: int, before: int, out: Ints, begin: int, address: int
) -> None:
    """A record as it is at another address, with the one before it."""
    for k in range(1, size):
        out[begin + k] = memory[at + k]
    out[begin] = before
    out[begin + 1] = memory[at + 1] & LOW
    out[begin + 1] |= seal(out, begin, begin + size, address)


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
        while ahead < 2 * AHEAD:
            far, near = _ask_ahead(memory, pending, table, (far, near, ahead >= AHEAD), bounds[1])
            ahead += 1
        ahead -= 1
        at = located(pending, bounds[0])
        size, key = size_of(memory, at), (memory[at + 2], memory[at + 3], memory[at + 4])
        tag = mixed(key[0], key[1], key[2])
        if memory[slot_of(memory, pending, tag, key) + 1] == bounds[0]:
            slot = slot_of(memory, table, tag, key)
            if slot < 0:
                return DAMAGED if slot == DAMAGED else int(UNMAPPED - slot)
            old = memory[slot + 1]
            before = located(table, old) if old else GONE
            # A deletion of what is deleted, too: the record there may lie in what is cleaned, and is not moved.
            if before >= 0 or memory[at + 1] & LOW:
                if bounds[2] + size > bounds[3]:
                    return 0
                _copied(memory, at, size, old, out, bounds[2], bounds[4] + bounds[2])
                bounds[2] += size
        bounds[0] += size
    return 0


@kernel
def lay_kept(
    memory: Ints,
    keys: Ints,
    firsts: Ints,
    lengths: Ints,
    slots: Ints,
    table: Ints,
    out: Ints,
    bounds: Ints,
) -> int:
    """The same for values of different keys (n, 3) that lie in memory, each of `lengths` bytes, -1 for a deletion, from place `firsts` on.

    The first two of `bounds` are the key to begin with and the one to stop at. `slots` are those of the keys as `find` has told
    them in this transaction, or nothing.
    """
    memory, keys, firsts = borrowed(memory), borrowed(keys), borrowed(firsts)
    lengths, slots = borrowed(lengths), borrowed(slots)
    table, out = borrowed(table), borrowed(out)
    while bounds[0] < bounds[1]:
        i = bounds[0]
        key = (keys[i, 0], keys[i, 1], keys[i, 2])
        slot = slots[i] if slots.shape[0] else UNKNOWN
        if i + AHEAD < slots.shape[0]:
            soon(memory, max(slots[i + AHEAD], 0))
        if slot == UNKNOWN:
            slot = slot_of(memory, table, mixed(key[0], key[1], key[2]), key)
        if slot < 0:
            return DAMAGED if slot == DAMAGED else int(UNMAPPED - slot)
        old = memory[slot + 1]
        before = located(table, old) if old else GONE
        if before >= 0 or lengths[i] >= 0:  # as in `lay`
            begin, size = bounds[2], HEAD + ((lengths[i] + 7) >> 3)
            if begin + size > bounds[3]:
                return 0
            out[begin], out[begin + 1] = old, lengths[i] + 1
            out[begin + 2], out[begin + 3], out[begin + 4] = key
            for k in range(size - HEAD):
                out[begin + HEAD + k] = memory[firsts[i] + k]
            out[begin + 1] |= seal(out, begin, begin + size, bounds[4] + begin)
            bounds[2] += size
        bounds[0] += 1
    return 0


@kernel
def move(memory: Ints, table: Ints, out: Ints, bounds: Ints, oldest: bool) -> int:
    """Lay out copies of what slots still point to in a stretch of the log.

    `bounds` as in `lay`, the first two of them addresses of the log. A deletion in the `oldest` segment has nothing to delete any more.
    """
    memory, table, out = borrowed(memory), borrowed(table), borrowed(out)
    while bounds[0] < bounds[1]:
        at = located(table, bounds[0])
        if not is_whole(memory, table, at, bounds[0]):
            return DAMAGED
        size, key = size_of(memory, at), (memory[at + 2], memory[at + 3], memory[at + 4])
        slot = slot_of(memory, table, mixed(key[0], key[1], key[2]), key)
        if slot < 0:
            return DAMAGED if slot == DAMAGED else int(UNMAPPED - slot)
        is_kept = memory[at + 1] & LOW != 0 or not oldest
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
        at = located(pending, address)
        key = (memory[at + 2], memory[at + 3], memory[at + 4])
        tag = mixed(key[0], key[1], key[2])
        if memory[slot_of(memory, pending, tag, key) + 1] == address:
            more += memory[at + 1] & LOW != 0
            slot = slot_of(memory, table, tag, key) if table.shape[0] else DAMAGED
            old = memory[slot + 1] if slot >= 0 else 0
            before = located(table, old) if old else GONE
            more -= before >= 0 and memory[before + 1] & LOW != 0
        address += size_of(memory, at)
    return int(more)


@kernel
def regrow(memory: Ints, table: Ints, old: int, mask: int, new: int, wider: int) -> int:
    """Have slots of a part, `wider` + 1 at place `new`, point to what those at `old` do; how many are in use."""
    memory, table = borrowed(memory), borrowed(table)
    n = 0
    for i in range(mask + 1):
        tag, address = memory[old + 2 * i], memory[old + 2 * i + 1]
        if address == 0 or located(table, address) == GONE:
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
            at = located(table, address)
            if at < 0:
                return int(UNMAPPED - (address >> table[BITS]))
            if not is_whole(memory, table, at, address) or memory[at] >= address:
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
        at = located(table, address) if address else GONE
        if at >= 0 and memory[at + 1] & LOW:
            live[(address >> table[BITS]) & (RING - 1)] += size_of(memory, at)


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
        ahead = memory[slots + 2 * ((i + AHEAD) & mask) + 1]
        soon(memory, max(located(table, ahead), 0))
        address = memory[slots + 2 * i + 1]
        at = located(table, address) if address else GONE
        if at == GONE:
            continue
        if at == NOT_HERE:
            return int(-1 - (address >> table[BITS]))
        key = (memory[at + 2], memory[at + 3], memory[at + 4])
        first = ordered(key[0])
        if first < least or first > greatest:
            continue
        at = as_of(memory, table, tail, address, key)
        if at <= UNMAPPED:
            return int(-1 - (UNMAPPED - at))
        if at in (DAMAGED, OTHER):
            return -(1 << 62)
        if at >= 0 and memory[at + 1] & LOW:
            out[n, 0], out[n, 1], out[n, 2] = key
            n += 1
    return n
