"""Sorted runs of the ids that were accepted: written once, merged now and then, searched through filters.

A run is the entries of a stretch of time, sorted by hash and cut into chunks of neighbours. Eight runs of one
size are merged into one of the next, up to a largest size. Eight of those are divided: an eighth of the hashes is taken
out of all of them and becomes a run of these hashes only, one eighth a commit, until nothing is left of the eight; eight runs of an
eighth are divided in their turn. So no merge is longer than another, an entry is written a few times, however many
there are, and a hash may be in no more than some eight runs a depth, of which there are as many as there are digits in their number, to the base of
eight. Beside its chunks a run has a filter, which says of nearly every hash that it is not in the run, and
the first hash of each chunk. Filters are read once a process. The newest entries lie in a run of their own, the
tail, that is small enough to be written again with every single event.

    ids   PREFIX RUN CHUNK      entries of 24 bytes: two halves of the hash, known_us
    ids   PREFIX RUN ffffffff   filter and first hashes
    meta  runs/PREFIX           of each run: its number, entries when it was written, newest known_us, sum of its hashes, the least
                                hash that has not been taken out of it, its depth; then a byte, the version of this

The arrangement is that of a log-structured merge tree (O'Neil and others 1996), whose levels are divided by key as LevelDB's are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from struct import Struct
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sevenfold.compiled import kernel
from sevenfold.errors import StoreError
from sevenfold.stores.kv import Transaction
from sevenfold.stores.run_filters import Filters, Index
from sevenfold.stores.tables import IDS, META
from sevenfold.types import Ints

__all__ = ["NEVER", "Hashes", "Runs"]

Hashes = npt.NDArray[np.uint64]
NEVER = -(1 << 62)

_TAIL = 512  # entries that are written again with every event: 12 KiB
_MERGED = 8  # runs of one size that become one of the next
_LARGEST = 1 << 19  # entries of a run that is not merged any more: 12 MiB, some ten milliseconds
_STEPS = 8  # eighths that are taken for as many new entries as a largest run has, beside the one of each commit
_DEEPEST = 20  # there are 64 bits in a hash
_CHUNK = 1_024
_ENTRY = 24
_ROW = Struct(">QQqQQH")
_OLD_ROW = Struct(">QQqQ")
_IDENTITY = _OLD_ROW.size  # bytes of a row that say which run it is, what is left of it may be
_VERSION = (
    b"\x01"  # makes the length odd: a version of before finds the table damaged, and does not guess
)
_INDEX = b"\xff" * 4
_CACHED = 512
_TOGETHER = 16


class _Run(NamedTuple):
    row: bytes  # what of it is in `meta`
    number: int
    entries: int
    newest_us: int
    total: int  # the sum of the first halves of its hashes: with the number, what a cached filter is known by
    first: int  # what is less was taken out of it
    depth: int  # its hashes have the 3 * depth upper bits of `first`

    @property
    def level(self) -> int:
        """Runs of one level are merged, each level eight times as large: 0 is the tail."""
        is_tail = self.entries <= _TAIL and not self.depth
        return 0 if is_tail else 1 + (self.entries // _TAIL).bit_length() // 3

    @property
    def identity(self) -> bytes:
        """What stays the same when some of it is taken out."""
        return self.row[:_IDENTITY]

    @property
    def last(self) -> int:
        """The greatest hash that may be in it."""
        return self.first | ((1 << 64 - 3 * self.depth) - 1)

    def without(self, bound: int) -> _Run:
        """What is left when the hashes up to `bound` are taken out."""
        return _run_of(self.identity + _ROW.pack(0, 0, 0, 0, bound + 1, self.depth)[_IDENTITY:])


# By prefix and run: a run is never changed, so what is known of it stays true in every store.
_cache: OrderedDict[tuple[bytes, bytes], Index] = OrderedDict()
_together: OrderedDict[bytes, tuple[bytes, Filters]] = (
    OrderedDict()
)  # by prefix, of the runs there were last


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
        runs = [run for run in self._runs if run.level]
        for at, rows in self._filters(runs).holders(hashes):
            index = self._index(runs[at])
            chunks = np.searchsorted(index.firsts, hashes[rows, 0], side="right") - 1
            wanted = np.unique(chunks[chunks >= 0])
            _look_up(self._entries(runs[at], wanted.tolist()), hashes, rows, latest)
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
        for _ in range(1 + _STEPS * len(hashes) // _LARGEST):
            self._divide(oldest_us)
        self._txn.put(META, self._name, b"".join([run.row for run in self._runs]) + _VERSION)

    def _compact(self, oldest_us: int) -> None:
        """Merge runs until fewer than eight of each size are left."""
        while True:
            by_level: dict[int, list[_Run]] = {}
            for run in self._runs:
                if run.level > 0 and run.entries < _LARGEST and not run.depth:
                    by_level.setdefault(run.level, []).append(run)
            full = [runs for runs in by_level.values() if len(runs) >= _MERGED]
            if not full:
                return
            self._merge(full[0], np.zeros((0, 3), dtype=np.uint64), oldest_us)

    def _merge(self, runs: Sequence[_Run], rows: Hashes, oldest_us: int) -> None:
        """Put the entries of `runs` and `rows` into one run, without what is too old."""
        merged = _joined([*(self._entries(run) for run in runs), rows], oldest_us)
        for run in runs:
            self._drop(run)
        if len(merged):
            self._write(merged, 0, 0)

    def _divide(self, oldest_us: int) -> None:
        """Take an eighth of the hashes out of eight of the largest runs."""
        runs = self._to_divide()
        if not runs:
            return
        first, depth = runs[0].first, runs[0].depth + 1
        bound = first | ((1 << 64 - 3 * depth) - 1)
        rows = _joined([self._between(run, bound) for run in runs], oldest_us)
        for run in runs:
            self._take_out(run, bound)
        if len(rows):
            self._write(rows, first, depth)

    def _to_divide(self) -> list[_Run]:
        """Eight runs of the same hashes: those of which an eighth is taken out go on to be that."""
        same: dict[tuple[int, int], list[_Run]] = {}
        for run in self._runs:
            if (run.depth or run.entries >= _LARGEST) and run.depth < _DEEPEST:
                same.setdefault((run.depth, run.first), []).append(run)
        full = (runs[:_MERGED] for runs in same.values() if len(runs) >= _MERGED)
        return next(full, [])

    def _between(self, run: _Run, bound: int) -> Hashes:
        """The entries that are left of a run, up to a hash."""
        firsts = self._index(run).firsts
        begin = _chunk_of(firsts, run.first)
        end = max(begin, int(np.searchsorted(firsts, np.uint64(bound), side="right")))
        rows = self._entries(run, range(begin, end))
        hashes = rows[:, 0]
        low = np.searchsorted(hashes, np.uint64(run.first))
        high = np.searchsorted(hashes, np.uint64(bound), side="right")
        return rows[low:high]

    def _take_out(self, run: _Run, bound: int) -> None:
        """Delete the entries up to a hash, as far as they fill chunks."""
        if bound == run.last:
            self._drop(run)
            return
        left, firsts = run.without(bound), self._index(run).firsts
        for chunk in range(_chunk_of(firsts, run.first), _chunk_of(firsts, left.first)):
            self._txn.delete(IDS, self._key(run, chunk))
        self._runs[self._runs.index(run)] = left

    def _write(self, rows: Hashes, first: int, depth: int) -> None:
        number = 1 + max((run.number for run in self._runs), default=0)
        newest = int(rows[:, 2].view(np.int64).max())
        total = int(rows[:, 0].sum(dtype=np.uint64))
        run = _run_of(_ROW.pack(number, len(rows), newest, total, first, depth))
        cuts = _cuts(rows)
        # One by one, and `_joined` without what it was given: a merge has half the memory in use at once.
        pieces = enumerate(pairwise(cuts))
        key = self._key
        items = (
            (key(run, i), rows[begin:end].astype("<u8").tobytes()) for i, (begin, end) in pieces
        )
        self._txn.put_many(IDS, items)
        if run.level:
            index = Index.of(rows, rows[np.array(cuts[:-1]), 0])
            self._txn.put(IDS, self._base(run) + _INDEX, index.encoded())
        self._runs.append(run)

    def _drop(self, run: _Run) -> None:
        base = self._base(run)
        if run.level == 0:  # one chunk and no filter
            self._txn.delete(IDS, self._key(run, 0))
        else:
            for key in [key for key, _ in self._txn.scan(IDS, base, base + _INDEX + b"\0")]:
                self._txn.delete(IDS, key)
        self._runs.remove(run)
        # It may be there again when this is rolled back: it is read again then.
        _cache.pop((self._prefix, run.identity), None)

    def _entries(self, run: _Run, chunks: Sequence[int] | None = None) -> Hashes:
        if run.level == 0:
            return self._tail(run)
        if chunks is not None and not chunks:
            return np.empty((0, 3), dtype=np.uint64)
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

    def _filters(self, runs: Sequence[_Run]) -> Filters:
        """The filters of runs, told to a kernel in one go."""
        name = b"".join([run.row for run in runs])
        known, found = _together.get(self._prefix, (None, None))
        if found is None or known != name:
            spans = np.array([(run.first, run.last) for run in runs], dtype=np.uint64)
            found = Filters.of([self._index(run) for run in runs], spans.reshape(-1, 2))
            _together[self._prefix] = name, found
            while len(_together) > _TOGETHER:
                _together.popitem(last=False)
        return found

    def _index(self, run: _Run) -> Index:
        name = (self._prefix, run.identity)
        found = _cache.get(name)
        if found is None:
            raw = self._txn.get(IDS, self._base(run) + _INDEX) or b""
            found = Index.decoded(raw, run.entries)
            if found is None:
                raise _damaged()
            _cache[name] = found
            while len(_cache) > _CACHED:
                _cache.popitem(last=False)
        return found

    def _base(self, run: _Run) -> bytes:
        return self._prefix + run.number.to_bytes(8, "big")

    def _key(self, run: _Run, chunk: int) -> bytes:
        return self._base(run) + chunk.to_bytes(4, "big")


def _decoded(raw: bytes) -> list[_Run]:
    if not len(raw) % _OLD_ROW.size:  # of 0.1.0, when no run was divided
        rows = [raw[at : at + _OLD_ROW.size] for at in range(0, len(raw), _OLD_ROW.size)]
        return [_run_of(row + _ROW.pack(*[0] * 6)[_IDENTITY:]) for row in rows]
    if raw[-1:] != _VERSION or (len(raw) - 1) % _ROW.size:
        raise _damaged()
    runs = [_run_of(raw[at : at + _ROW.size]) for at in range(0, len(raw) - 1, _ROW.size)]
    if any(run.depth > _DEEPEST for run in runs):
        raise _damaged()
    return runs


@lru_cache(1_024)
def _run_of(row: bytes) -> _Run:
    return _Run(row, *_ROW.unpack(row))


def _chunk_of(firsts: Hashes, value: int) -> int:
    """The chunk where a hash would be."""
    return max(0, int(np.searchsorted(firsts, np.uint64(value), side="right")) - 1)


def _joined(parts: Sequence[Hashes], oldest_us: int) -> Hashes:
    """The entries of all in the order of their hashes, without what is too old."""
    merged = np.concatenate(parts)
    del parts
    is_young = merged[:, 2].view(np.int64) >= oldest_us
    if np.count_nonzero(is_young) < len(merged):
        merged = merged[is_young]
    # Stable: entries of one hash stay in the order of their acceptance, which nothing relies on.
    return merged[np.argsort(merged[:, 0], kind="stable")]


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
