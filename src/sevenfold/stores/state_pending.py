"""What a transaction has put into the table of states, until it is committed.

Values of many keys that are put together are left where they lie, and laid out from there by the commit: most transactions put
each view's states once, and read none of them again. With anything else they become records with slots of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from sevenfold.stores.state_files import MEMORY, Mapped, Part, place_of
from sevenfold.stores.state_records import BASES, COUNT, HEAD, NO_SLOTS, TABLE, find, note
from sevenfold.stores.state_upkeep import collect
from sevenfold.stores.state_view import grown, new_table
from sevenfold.types import Ints

__all__ = ["Kept", "Pending"]

_BITS = 29  # a piece of records has at most 4 GiB
_FIRST_WORDS = 1 << 12
_MOST_WORDS = 1 << 23
_SLOTS = 512
_KEPT_SLOTS = 1 << 19
_KEPT_WORDS = 1 << 22
_END = (1 << 62) - 1


class Kept(NamedTuple):
    """Values of different keys (n, 3): each has `lengths` bytes, -1 for a deletion, from place `firsts` of memory on; `words` are they.

    `slots` are those of the keys in the table of the log, where they are known.
    """

    keys: Ints
    firsts: Ints
    lengths: Ints
    slots: Ints
    words: Ints


class Pending:
    """Values by key, the last one put, and deletions. Used again when it was cleared."""

    def __init__(self) -> None:
        self._part = Part.made(None, 0, 0, _SLOTS)
        self._pieces: list[tuple[Mapped, int]] = []
        self._state = np.zeros(3, dtype=np.int64)
        self.table: Ints = new_table(_BITS, [self._part], sealed=False)
        self._ends: list[int] = []
        self._kept: dict[bytes, Kept] = {}

    @property
    def is_empty(self) -> bool:
        """Whether nothing was put."""
        return not self._ends and not self._kept

    @property
    def kept(self) -> list[Kept]:
        """All that was put, if it is left where it lies; nothing where there are records."""
        return list(self._kept.values())

    def clear(self) -> None:
        """Forget all; memory is kept as far as it was of use."""
        self._kept = {}
        if not self._ends:
            return
        slots, used = self._part.mask + 1, int(self._state[2])
        if slots > _SLOTS and (slots > _KEPT_SLOTS or used < slots >> 6):
            self._part = Part.made(None, 0, 0, _SLOTS)
            self.table[TABLE : TABLE + 2] = self._part.slots, self._part.mask
        else:
            MEMORY[self._part.slots : self._part.slots + 2 * slots] = 0
        if sum(size for _, size in self._pieces) > _KEPT_WORDS:
            self._pieces = []
        self._state[:] = 0
        self._ends = []

    def note(self, keys: Ints, words: Ints, firsts: Ints, lengths: Ints) -> None:
        """Put values under keys (n, 3): value i has `lengths[i]` bytes, -1 for a deletion, from word `firsts[i]` of `words` on."""
        self._join()
        # Words that may not be written to are of another type to the compiler: told is where they are.
        self._note(keys, firsts + place_of(words), lengths)

    def keep(
        self, prefix: bytes, asked: tuple[Ints, Ints], words: Ints, firsts: Ints, lengths: Ints
    ) -> None:
        """Put values as `note` does, under keys that are all different and of one prefix; the arrays are not to be changed.

        `asked` are the keys, and their slots if they are known.
        """
        keys, slots = asked
        if self._ends or prefix in self._kept:
            self.note(keys, words, firsts, lengths)
        else:
            self._kept[prefix] = Kept(keys, firsts + place_of(words), lengths, slots, words)

    def _join(self) -> None:
        """Have records of what was left where it lies."""
        kept, self._kept = self._kept, {}
        for one in kept.values():
            self._note(one.keys, one.firsts, one.lengths)

    def _note(self, keys: Ints, firsts: Ints, lengths: Ints) -> None:
        at = 0
        while at < len(keys):
            at = note(MEMORY, self.table, keys, firsts, lengths, at, self._state)
            if self._ends:
                self._ends[-1] = int(self._state[0])
            if at < len(keys):
                self._widen(HEAD + (int(lengths[at]) + 7 >> 3), len(keys) - at)

    def find(self, keys: Ints) -> Ints:
        """Where the values of keys (n, 3) lie in `MEMORY`; -1 for none, -2 for one that was deleted."""
        self._join()
        places = np.empty((len(keys), 2), dtype=np.int64)
        find(MEMORY, self.table, _END, keys, places, NO_SLOTS)
        return places

    def keys(self) -> Ints:
        """The keys (m, 3) that have a value."""
        self._join()
        out = np.empty((self._part.mask + 1, 3), dtype=np.int64)
        bounds = (_END, -(1 << 63), (1 << 63) - 1)
        return out[: collect(MEMORY, self.table, bounds, 0, out)]

    def stretches(self) -> Iterator[tuple[int, int]]:
        """The addresses of all records, in the order in which they were put."""
        self._join()
        for piece, end in enumerate(self._ends):
            yield (piece << _BITS) + (piece == 0), end

    @property
    def n_keys(self) -> int:
        """How many keys were put or deleted."""
        return int(self._state[2]) + sum(len(one.keys) for one in self._kept.values())

    @property
    def n_words(self) -> int:
        """No fewer words than its records have."""
        if self._kept:
            kept = self._kept.values()
            return sum(HEAD * len(one.keys) + int((one.lengths + 7 >> 3).sum()) for one in kept)
        return sum(end - begin for begin, end in self.stretches())

    def _widen(self, words: int, keys: int) -> None:
        """Make room for one record more, and slots for so many keys."""
        if 2 * int(self._state[2]) > self._part.mask:
            least = 1 << (4 * min(keys, _KEPT_SLOTS)).bit_length()
            self._part, used = grown(None, self.table, 0, self._part, 0, least)
            self._state[2] = used
            self.table[TABLE : TABLE + 2] = self._part.slots, self._part.mask
        if int(self._state[0]) + words > int(self._state[1]):
            piece = len(self._ends)
            if piece == len(self._pieces):
                size = max(min(_FIRST_WORDS << 2 * piece, _MOST_WORDS), words + 1)
                self._pieces.append((Mapped.of_nothing(size), size))
                self._tabulate()
            size = self._pieces[piece][1]
            # The address 0 is no record's.
            begin = (piece << _BITS) + (1 if piece == 0 else 0)
            self._state[0], self._state[1] = begin, (piece << _BITS) + size
            self._ends.append(begin)

    def _tabulate(self) -> None:
        table = new_table(_BITS, [self._part], sealed=False)
        bases = np.array([held.place for held, _ in self._pieces], dtype=np.int64)
        table[COUNT] = len(bases)
        assert table[BASES] == len(table)
        self.table = np.concatenate([table, bases])
