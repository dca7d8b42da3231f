"""Filters that say of nearly every hash that it is not in a run, asked of all runs at once.

A filter is blocks of 512 bits, one for 32 entries; an entry sets seven bits of one block (Putze, Sanders and
Singler 2007): one hash in a thousand that is not there is taken for one that may be.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sevenfold.compiled import borrowed, kernel, soon
from sevenfold.stores.state_files import MEMORY, place_of
from sevenfold.types import Ints

__all__ = ["Filters", "Index"]

Hashes = npt.NDArray[np.uint64]

_SHARE = 32  # entries to a block
_PROBES = 7
_AHEAD = 4  # hashes


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """What is kept of a run beside its entries: the blocks (b, 8) of its filter, and the first hash of each chunk."""

    blocks: Hashes
    firsts: Hashes

    @classmethod
    def of(cls, rows: Hashes, firsts: Hashes) -> Index:
        """That of entries (n, 3), at least one."""
        blocks = np.zeros((_n_blocks(len(rows)), 8), dtype=np.uint64)
        _fill(blocks, rows)
        return cls(blocks, firsts)

    @classmethod
    def decoded(cls, raw: bytes, entries: int) -> Index | None:
        """What was stored for a run of so many entries; None where it cannot be that."""
        words = 8 * _n_blocks(entries)
        if len(raw) % 8 or len(raw) <= 8 * words:
            return None
        found = np.frombuffer(raw, dtype="<u8").astype(np.uint64, copy=False)
        return cls(found[:words].reshape(-1, 8), found[words:])

    def encoded(self) -> bytes:
        """What is stored."""
        return np.concatenate([self.blocks.reshape(-1), self.firsts]).astype("<u8").tobytes()


@dataclass(frozen=True, slots=True, eq=False)
class Filters:
    """The filters of runs, and which of them a hash has to be looked for in.

    The hashes fall into s stretches, each of which is in the same runs: `starts` (s,) are their first hashes, `ends` (s,) where the runs of
    each end in `members`. `places` (r, 2) are where in memory the blocks of each run begin, and how many they are.
    """

    indices: Sequence[Index]
    starts: Hashes
    ends: Ints
    members: Ints
    places: Ints

    @classmethod
    def of(cls, indices: Sequence[Index], spans: Hashes) -> Filters:
        """Those of r runs whose hashes are all in `spans`, (r, 2), the least and the greatest."""
        lasts = spans[:, 1]
        behind = lasts[lasts < np.uint64(2**64 - 1)] + np.uint64(1)
        starts = np.unique(np.concatenate([np.zeros(1, dtype=np.uint64), spans[:, 0], behind]))
        covers = (spans[:, 0] <= starts[:, None]) & (starts[:, None] <= lasts)
        members = np.nonzero(covers)[1]
        ends = np.cumsum(np.count_nonzero(covers, axis=1))
        blocks = [(place_of(one.blocks.view(np.int64)), len(one.blocks)) for one in indices]
        places = np.array(blocks, dtype=np.int64).reshape(-1, 2)
        return cls(indices, starts, ends, members, places)

    def holders(self, hashes: Hashes) -> Iterator[tuple[int, Ints]]:
        """The runs that may hold some of hashes (n, 2), by their place, and which hashes that are."""
        if not len(self.indices):
            return
        hits = np.empty((len(hashes) + 16, 2), dtype=np.int64)
        found = _ask(MEMORY, self.starts, self.ends, self.members, self.places, hashes, hits)
        if found > len(hits):
            hits = np.empty((found, 2), dtype=np.int64)
            _ask(MEMORY, self.starts, self.ends, self.members, self.places, hashes, hits)
        hits = hits[:found]
        hits = hits[np.argsort(hits[:, 0], kind="stable")]
        cuts = np.flatnonzero(np.diff(hits[:, 0])) + 1
        for rows in np.split(hits, cuts) if found else ():
            yield int(rows[0, 0]), rows[:, 1]


def _n_blocks(entries: int) -> int:
    return max(1, -(-entries // _SHARE))


@kernel
def _block_of(high: np.uint64, n_blocks: int) -> int:
    return int(((high >> np.uint64(32)) * np.uint64(n_blocks)) >> np.uint64(32))


@kernel
def _fill(blocks: Hashes, rows: Hashes) -> None:
    for i in range(rows.shape[0]):
        low = rows[i, 0]
        block = _block_of(rows[i, 1], blocks.shape[0])
        for probe in range(_PROBES):
            bit = (low >> np.uint64(9 * probe)) & np.uint64(511)
            blocks[block, bit >> np.uint64(6)] |= np.uint64(1) << (bit & np.uint64(63))


@kernel
def _stretch_of(starts: Hashes, low: np.uint64) -> int:
    """The last stretch that does not begin after a hash; the first begins at 0."""
    begin, end = 0, starts.shape[0]
    while end - begin > 1:
        middle = (begin + end) // 2
        if starts[middle] <= low:
            begin = middle
        else:
            end = middle
    return begin


@kernel
def _ask(
    memory: Ints,
    starts: Hashes,
    ends: Ints,
    members: Ints,
    places: Ints,
    hashes: Hashes,
    hits: Ints,
) -> int:
    """Write runs and hashes (h, 2), of which the first may hold the second, as far as there is room; how many there are."""
    memory, starts, ends = borrowed(memory), borrowed(starts), borrowed(ends)
    members, places = borrowed(members), borrowed(places)
    hashes, hits = borrowed(hashes), borrowed(hits)
    n = 0
    for i in range(-_AHEAD, hashes.shape[0]):
        ahead = i + _AHEAD
        if ahead < hashes.shape[0]:
            stretch = _stretch_of(starts, hashes[ahead, 0])
            for k in range(ends[stretch - 1] if stretch else 0, ends[stretch]):
                run = members[k]
                soon(memory, places[run, 0] + 8 * _block_of(hashes[ahead, 1], places[run, 1]))
        if i < 0:
            continue
        low = hashes[i, 0]
        stretch = _stretch_of(starts, low)
        for k in range(ends[stretch - 1] if stretch else 0, ends[stretch]):
            run = members[k]
            at = places[run, 0] + 8 * _block_of(hashes[i, 1], places[run, 1])
            held = True
            for probe in range(_PROBES):
                bit = (low >> np.uint64(9 * probe)) & np.uint64(511)
                word = np.uint64(memory[at + np.int64(bit >> np.uint64(6))])
                if (word >> (bit & np.uint64(63))) & np.uint64(1) == 0:
                    held = False
                    break
            if held:
                if n < hits.shape[0]:
                    hits[n, 0], hits[n, 1] = run, i
                n += 1
    return n
