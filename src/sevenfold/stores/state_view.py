"""The log of states as of a layout, in the memory of this process: what its readers share."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sevenfold.errors import StoreError
from sevenfold.stores.state_files import MEMORY, Mapped, Part, damaged, map_segment
from sevenfold.stores.state_layout import PARTS, Head, Layout
from sevenfold.stores.state_records import (
    BASES,
    BITS,
    COUNT,
    DAMAGED,
    FIRST,
    FULL,
    NO_SLOTS,
    RING,
    SEALED,
    TABLE,
    find,
)
from sevenfold.stores.state_records import PARTS as PART_BITS
from sevenfold.stores.state_upkeep import collect, enter, regrow
from sevenfold.types import Ints

__all__ = ["View", "grown", "made_anew", "new_table", "slots_for"]

_LEAST_SLOTS = 256
_SIGN = 1 << 63


def new_table(bits: int, parts: list[Part], sealed: bool) -> Ints:
    """A table with its parts and no segment."""
    table = np.zeros(TABLE + 2 * len(parts), dtype=np.int64)
    table[BITS], table[PART_BITS], table[SEALED] = bits, len(parts).bit_length() - 1, sealed
    table[BASES] = len(table)
    for i, part in enumerate(parts):
        table[TABLE + 2 * i : TABLE + 2 * i + 2] = part.slots, part.mask
    return table


def slots_for(keys: int) -> int:
    """The slots of a part so that all have room for so many keys."""
    slots = _LEAST_SLOTS
    while slots * PARTS < keys * 5 // 2:
        slots *= 2
    return slots


class View:
    """The segments and parts of a layout. What is mapped stays so for as long as this is held.

    `is_true` is False where the parts that there are cannot be trusted; then they are none.
    """

    def __init__(
        self, folder: Path, layout: Layout, raw: bytes, before: View | None, write: bool
    ) -> None:
        self.folder = folder
        self.layout = layout
        self.raw = raw
        self.is_true = False
        self.is_private = False
        self._turn = threading.Lock()
        # What one that is private has mapped is its own copy.
        is_kept = before is not None and before.folder == folder and not before.is_private
        kept = before if is_kept else None
        self._segments: dict[int, Mapped] = {}
        self.parts: list[Part] = []
        for i, generation in enumerate(layout.generations):
            part = kept.parts[i] if kept is not None and kept.is_true else None
            if part is None or part.generation != generation:
                part = Part.opened(folder, i, generation, write)
            if part is None:
                self.parts = []
                break
            self.parts.append(part)
        self.is_true = bool(self.parts)
        for number in layout.numbers():
            held = None if kept is None else kept._segments.get(number)
            self._segments[number] = held or map_segment(folder, number, layout.bits)
        if self.is_true:
            self.tabulate()

    def tabulate(self) -> None:
        """Make the table of what there is; who has the one before goes on with it."""
        self.table: Ints = self.table_of(self.parts)

    def table_of(self, parts: list[Part]) -> Ints:
        """The table of the segments with other parts."""
        table = new_table(self.layout.bits, parts, sealed=True)
        first = min(self._segments)
        bases = np.zeros(max(self._segments) + 1 - first, dtype=np.int64)
        for number, held in self._segments.items():
            bases[number - first] = held.place
        table[FIRST], table[COUNT] = first, len(bases)
        return np.concatenate([table, bases])

    def map(self, number: int) -> None:
        """Map one segment more, of a commit after this layout."""
        with self._turn:
            if number in self._segments:
                place = number - int(self.table[FIRST])
                if place < self.table[COUNT] and self.table[self.table[BASES] + place]:
                    raise damaged(self.folder, f"a slot points to no record of segment {number}")
                self.tabulate()  # it was held meanwhile
                return
            self._segments[number] = map_segment(self.folder, number, self.layout.bits)
            self.tabulate()

    def has(self, number: int) -> bool:
        """Whether a segment is mapped, though it need not be in the table yet."""
        return number in self._segments

    def hold(self, number: int, held: Mapped) -> None:
        """Have a segment that is mapped already."""
        with self._turn:
            self._segments[number] = held

    def segment(self, number: int) -> Mapped:
        """Where a segment is."""
        return self._segments[number]

    def find(self, tail: int, keys: Ints, slots: Ints = NO_SLOTS) -> Ints:
        """Where the values of keys (n, 3) lie in `MEMORY` as of a tail, (n, 2) bytes, -1 and -1 for none.

        With room for them also their `slots` (n,), which stay those until something is committed.
        """
        places = np.empty((len(keys), 2), dtype=np.int64)
        while told := find(MEMORY, self.table, tail, keys, places, slots):
            if told < 0:
                key = keys[-1 - told].tobytes().hex()
                raise damaged(self.folder, f"the record of key {key} is not what was written")
            self.map(told)
        return places

    def keys(self, tail: int, least: int, greatest: int) -> Iterator[Ints]:
        """The keys (m, 3) that have a value as of a tail, part by part, whose first word is in bounds as numbers of big-endian bytes."""
        bounds = (tail, least - _SIGN, greatest - _SIGN)
        for i, part in enumerate(self.parts):
            out = np.empty((part.mask + 1, 3), dtype=np.int64)
            while (n := collect(MEMORY, self.table, bounds, i, out)) < 0:
                if n <= -(1 << 62):
                    raise damaged(self.folder, f"a record of part {i} is not what was written")
                self.map(-1 - n)
            yield out[:n]


def grown(
    folder: Path | None, table: Ints, i: int, part: Part, generation: int, least: int = 0
) -> tuple[Part, int]:
    """A part of twice the size that says the same, and its slots in use. Raises OSError."""
    wider = Part.made(folder, i, generation, max(2 * (part.mask + 1), least))
    n = regrow(MEMORY, table, part.slots, part.mask, wider.slots, wider.mask)
    return wider, n


def made_anew(
    view: View, head: Head, generations: list[int], folder: Path | None
) -> tuple[Ints, Ints]:
    """Have the view's table made of its records: slots in use, words of each segment that live. Raises OSError.

    Without a folder the table is in the memory of this process alone.
    """
    slots = slots_for(head.keys)
    view.parts = [Part.made(folder, i, g, slots) for i, g in enumerate(generations)]
    view.tabulate()
    used, live = np.zeros(PARTS, dtype=np.int64), np.zeros(RING, dtype=np.int64)
    tally = np.zeros(3, dtype=np.int64)
    for begin, end in _all_stretches(view.layout, head):
        at = begin
        while at != end:
            at = int(enter(MEMORY, view.table, live, used, at, end, tally))
            if tally[1] == FULL:
                i = int(tally[2])
                view.parts[i], used[i] = grown(folder, view.table, i, view.parts[i], generations[i])
                view.tabulate()
            elif tally[1]:
                raise _broken(view, at, int(tally[1]))
    if tally[0] != head.keys:
        raise damaged(
            view.folder, f"records of {tally[0]} keys were found and there were {head.keys}"
        )
    view.is_true, view.is_private = True, folder is None
    return used, live


def _broken(view: View, at: int, why: int) -> StoreError:
    number, place = at >> view.layout.bits, 8 * (at & ((1 << view.layout.bits) - 1))
    what = f"byte {place} of {number}.seg begins no record that was written there"
    return damaged(view.folder, what if why == DAMAGED else f"segment {why} is missing")


def _all_stretches(layout: Layout, head: Head) -> Iterator[tuple[int, int]]:
    for number, used in [*layout.closed, (layout.open, head.tail - (layout.open << layout.bits))]:
        yield from layout.stretches(number, 0, used)
