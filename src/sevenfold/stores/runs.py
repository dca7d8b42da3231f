"""Sorted runs of the ids that were accepted: written once, merged now and then, searched through filters.

A run is the entries of a stretch of time, sorted by hash and cut into chunks of neighbours. Eight runs of one
size are merged into one of the next, up to a largest size, so an entry is written a few times, however many
there are. Beside its chunks a run has a filter, which says of nearly every hash that it is not in the run, and
the first hash of each chunk. Filters are read once a process. The newest entries lie in a run of their own, the
tail, that is small enough to be written again with every single event.

    ids   PREFIX RUN CHUNK      entries of 24 bytes: two halves of the hash, known_us
    ids   PREFIX RUN ffffffff   filter and first hashes
    meta  runs/PREFIX           of each run: its number, entries, newest known_us, and the sum of its hashes

The arrangement is that of a log-structured merge tree (O'Neil and others 1996) with the blocked filters of
Putze, Sanders and Singler (2007).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from struct import Struct
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sevenfold.compiled import borrowed, kernel
from sevenfold.errors import StoreError
from sevenfold.stores.kv import Transaction
from sevenfold.stores.state_files import MEMORY, place_of
from sevenfold.stores.tables import IDS, META
from sevenfold.types import Ints

__all__ = ["NEVER", "Hashes", "Runs"]

Hashes = npt.NDArray[np.uint64]
NEVER = -(1 << 62)

_TAIL = 512  # entries that are written again with every event: 12 KiB
_MERGED = 8  # runs of one size that become one of the next
_LARGEST = 1 << 19  # entries of a run that is not merged any more: 12 MiB, some ten milliseconds
_CHUNK = 1_024
_ENTRY = 24
_ROW = Struct(">QQqQ")
_INDEX = b"\xff" * 4
_FILTER_SHARE = 32  # entries to a block of 512 bits: one in a thousand is asked for in vain
_CACHED = 512
_TOGETHER = 16


class _Run(NamedTuple):
    row: bytes  # what of it is in `meta`
    number: int
    entries: int
    newest_us: int
    total: int  # the sum of the first halves of its hashes: with the number, what a cached filter is known by

    @property
    def level(self) -> int:
        """Runs of one level are merged, each level eight times as large: 0 is the tail."""
        return 0 if self.entries <= _TAIL else 1 + (self.entries // _TAIL).bit_length() // 3


@dataclass(frozen=True, slots=True, eq=False)
class _Index:
    blocks: Hashes
    firsts: Hashes


@dataclass(frozen=True, slots=True, eq=False)
class _Filters:
    """The runs that have one, and what a kernel has to know of their filters."""

    runs: list[_Run]
    indices: list[_Index]
    places: Ints


# By prefix and run: a run is never changed, so what is known of it stays true in every store.
_cache: OrderedDict[tuple[bytes, bytes], _Index] = OrderedDict()
_together: OrderedDict[tuple[bytes, bytes], _Filters] = OrderedDict()


class Runs:
    """The runs under one prefix, inside one write transaction."""

    def __init__(self, txn: Transaction, prefix: bytes) -> None:
        self._txn = txn
        self._prefix = prefix
        self._name = b"runs/" + prefix.hex().encode()
        self._runs = _decoded(txn.get(META, self._name) or b"")
        self._tails: dict[_Run, Hashes] = {}

    def latest(self, hashes: Hashes) -> Ints:
        """When each of `hashes` (n, 2) was newest among the entries (n,); NEVER when it is not there."""
        latest = np.full(len(hashes), NEVER, dtype=np.int64)
        for run in self._runs:
            if run.level == 0:
                _look_up(self._entries(run), hashes, np.arange(len(hashes)), latest)
        filters = self._filters()
        held, n_held = _may_hold(filters.places, hashes)
        if not n_held:
            return latest
        for run, index, among in zip(filters.runs, filters.indices, held, strict=True):
            rows = np.flatnonzero(among)
            if not len(rows):
                continue
            chunks = np.searchsorted(index.firsts, hashes[rows, 0], side="right") - 1
            wanted = np.unique(chunks[chunks >= 0])
            _look_up(self._entries(run, wanted.tolist()), hashes, rows, latest)
        return latest

    def add(self, hashes: Hashes, known_us: Ints, oldest_us: int) -> None:
        """Add entries; those before `oldest_us` may be forgotten."""
        if len(hashes):
            rows = np.empty((len(hashes), 3), dtype=np.uint64)
            rows[:, :2] = hashes
            rows[:, 2] = known_us.view(np.uint64)
            tail = [run for run in self._runs if run.level == 0]
            self._merge(tail, rows, oldest_us)
        for run in [run for run in self._runs if run.newest_us < oldest_us]:
            self._drop(run)
        self._compact(oldest_us)
        self._txn.put(META, self._name, b"".join([run.row for run in self._runs]))

    def _compact(self, oldest_us: int) -> None:
        """Merge runs until fewer than eight of each size are left."""
        while True:
            by_level: dict[int, list[_Run]] = {}
            for run in self._runs:
                if run.level > 0 and run.entries < _LARGEST:
                    by_level.setdefault(run.level, []).append(run)
            full = [runs for runs in by_level.values() if len(runs) >= _MERGED]
            if not full:
                return
            self._merge(full[0], np.zeros((0, 3), dtype=np.uint64), oldest_us)

    def _merge(self, runs: Sequence[_Run], rows: Hashes, oldest_us: int) -> None:
        """Put the entries of `runs` and `rows` into one run, without what is too old."""
        merged = np.concatenate([*(self._entries(run) for run in runs), rows])
        is_young = merged[:, 2].view(np.int64) >= oldest_us
        if np.count_nonzero(is_young) < len(merged):
            merged = merged[is_young]
        for run in runs:
            self._drop(run)
        if len(merged):
            # Stable: entries of one hash stay in the order of their acceptance, which nothing relies on.
            self._write(merged[np.argsort(merged[:, 0], kind="stable")])

    def _write(self, rows: Hashes) -> None:
        number = 1 + max((run.number for run in self._runs), default=0)
        newest = int(rows[:, 2].view(np.int64).max())
        total = int(rows[:, 0].sum(dtype=np.uint64))
        run = _run_of(_ROW.pack(number, len(rows), newest, total))
        cuts = _cuts(rows)
        items = [
            (self._key(run, chunk), rows[begin:end].astype("<u8").tobytes())
            for chunk, (begin, end) in enumerate(pairwise(cuts))
        ]
        if run.level:
            blocks = np.zeros((max(1, -(-len(rows) // _FILTER_SHARE)), 8), dtype=np.uint64)
            _fill(blocks, rows)
            firsts = rows[np.array(cuts[:-1]), 0]
            words = np.concatenate([blocks.reshape(-1), firsts]).astype("<u8")
            items.append((self._base(run) + _INDEX, words.tobytes()))
        self._txn.put_many(IDS, items)
        self._runs.append(run)

    def _drop(self, run: _Run) -> None:
        base = self._base(run)
        if run.level == 0:  # one chunk and no filter
            self._txn.delete(IDS, self._key(run, 0))
        else:
            for key in [key for key, _ in self._txn.scan(IDS, base, base + _INDEX + b"\0")]:
                self._txn.delete(IDS, key)
        self._runs.remove(run)

    def _entries(self, run: _Run, chunks: Sequence[int] | None = None) -> Hashes:
        if run.level == 0:
            return self._tail(run)
        if chunks is None:
            base = self._base(run)
            raw = b"".join(value for _, value in self._txn.scan(IDS, base, base + _INDEX))
            if len(raw) != run.entries * _ENTRY:
                raise _damaged()
        else:
            raw, lengths = self._txn.gather(IDS, [self._key(run, chunk) for chunk in chunks])
            if (lengths == 0).any():
                raise _damaged()
        if len(raw) % _ENTRY:
            raise _damaged()
        return _rows_of(raw)

    def _tail(self, run: _Run) -> Hashes:
        """The entries of a run of one chunk, which are looked through first and then written again with new ones."""
        found = self._tails.get(run)
        if found is None:
            raw = self._txn.get(IDS, self._key(run, 0)) or b""
            if len(raw) != run.entries * _ENTRY:
                raise _damaged()
            found = self._tails[run] = _rows_of(raw)
        return found

    def _filters(self) -> _Filters:
        """The filters of all runs, told to a kernel in one go."""
        runs = [run for run in self._runs if run.level]
        name = (self._prefix, b"".join([run.row for run in runs]))
        found = _together.get(name)
        if found is None:
            indices = [self._index(run) for run in runs]
            found = _Filters(runs, indices, _places_of([index.blocks for index in indices]))
            _together[name] = found
            while len(_together) > _TOGETHER:
                _together.popitem(last=False)
        return found

    def _index(self, run: _Run) -> _Index:
        name = (self._prefix, run.row)
        found = _cache.get(name)
        if found is None:
            raw = self._txn.get(IDS, self._base(run) + _INDEX) or b""
            n_blocks = max(1, -(-run.entries // _FILTER_SHARE))
            if len(raw) % 8 or len(raw) <= n_blocks * 64:
                raise _damaged()
            words = np.frombuffer(raw, dtype="<u8").astype(np.uint64, copy=False)
            found = _Index(words[: 8 * n_blocks].reshape(-1, 8), words[8 * n_blocks :])
            _cache[name] = found
            while len(_cache) > _CACHED:
                _cache.popitem(last=False)
        return found

    def _base(self, run: _Run) -> bytes:
        return self._prefix + run.number.to_bytes(8, "big")

    def _key(self, run: _Run, chunk: int) -> bytes:
        return self._base(run) + chunk.to_bytes(4, "big")


def _decoded(raw: bytes) -> list[_Run]:
    if len(raw) % _ROW.size:
        raise _damaged()
    return [_run_of(raw[at : at + _ROW.size]) for at in range(0, len(raw), _ROW.size)]


@lru_cache(4_096)
def _run_of(row: bytes) -> _Run:
    return _Run(row, *_ROW.unpack(row))


def _rows_of(raw: bytes) -> Hashes:
    rows: Hashes = np.frombuffer(raw, dtype="<u8").astype(np.uint64, copy=False).reshape(-1, 3)
    return rows


def _cuts(rows: Hashes) -> list[int]:
    """Where the chunks of sorted rows begin, and the end; rows of one hash are never cut apart."""
    cuts = [0]
    while cuts[-1] < len(rows):
        end = min(cuts[-1] + _CHUNK, len(rows))
        while end < len(rows) and rows[end, 0] == rows[end - 1, 0]:
            end += 1
        cuts.append(end)
    return cuts


def _damaged() -> StoreError:
    return StoreError(
        "the table of event ids is damaged: a run does not hold what it should; restore the store"
    )


def _places_of(filters: Sequence[Hashes]) -> Ints:
    """Where the blocks of each of r filters begin in `MEMORY`, and how many they are, (r, 2)."""
    places = [(place_of(blocks.view(np.int64)), len(blocks)) for blocks in filters]
    return np.array(places, dtype=np.int64).reshape(-1, 2)


def _may_hold(places: Ints, hashes: Hashes) -> tuple[npt.NDArray[np.bool_], int]:
    """Which of r filters may hold which of n hashes, (r, n), and how many times one may."""
    out = np.empty((len(places), len(hashes)), dtype=np.bool_)
    return out, _ask(MEMORY, places, hashes, out)


@kernel
def _block_of(high: np.uint64, n_blocks: int) -> int:
    return int(((high >> np.uint64(32)) * np.uint64(n_blocks)) >> np.uint64(32))


@kernel
def _fill(blocks: Hashes, rows: Hashes) -> None:
    for i in range(rows.shape[0]):
        low = rows[i, 0]
        block = _block_of(rows[i, 1], blocks.shape[0])
        for probe in range(7):
            bit = (low >> np.uint64(9 * probe)) & np.uint64(511)
            blocks[block, bit >> np.uint64(6)] |= np.uint64(1) << (bit & np.uint64(63))


@kernel
def _ask(memory: Ints, places: Ints, hashes: Hashes, out: npt.NDArray[np.bool_]) -> int:
    """Write what `_may_hold` says; how many there are."""
    memory, places, hashes, out = (
        borrowed(memory),
        borrowed(places),
        borrowed(hashes),
        borrowed(out),
    )
    n = 0
    for run in range(places.shape[0]):
        begin = places[run, 0]
        for i in range(hashes.shape[0]):
            low = hashes[i, 0]
            at = begin + 8 * _block_of(hashes[i, 1], places[run, 1])
            held = True
            for probe in range(7):
                bit = (low >> np.uint64(9 * probe)) & np.uint64(511)
                word = np.uint64(memory[at + np.int64(bit >> np.uint64(6))])
                if (word >> (bit & np.uint64(63))) & np.uint64(1) == 0:
                    held = False
                    break
            out[run, i] = held
            n += held
    return n


@kernel
def _look_up(entries: Hashes, hashes: Hashes, rows: Ints, latest: Ints) -> None:
    """Raise `latest` at `rows` to the newest of the sorted entries that has the row's hash."""
    n = entries.shape[0]
    for i in range(len(rows)):
        row = rows[i]
        low, high = hashes[row, 0], hashes[row, 1]
        begin, end = 0, n
        while begin < end:
            middle = (begin + end) // 2
            if entries[middle, 0] < low:
                begin = middle + 1
            else:
                end = middle
        while begin < n and entries[begin, 0] == low:
            if entries[begin, 1] == high:
                latest[row] = max(latest[row], np.int64(entries[begin, 2]))
            begin += 1
