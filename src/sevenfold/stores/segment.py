"""An immutable piece of a stream's history: its events by key, as columns that are mapped, not read.

A segment is a folder that covers a stretch of the log. Its rows are in the order of their key's hash and, for one
key, of the log: what is read of a key lies together, and segments of stretches that follow one another merge
without a sort. The files are raw little-endian columns; `segment.json` names them, their sizes and their
checksums. It is written beside its place and renamed into it when all is on disk.
"""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from sevenfold.algebra.grouping import bucket, group
from sevenfold.compiled import kernel
from sevenfold.errors import StoreError
from sevenfold.hashing import combine128, hash128
from sevenfold.stores.durable import sync_folder, sync_tree
from sevenfold.types import Column, EventBatch, Ints, Texts

__all__ = ["LazyColumns", "Segment", "SegmentWriter", "by_key", "write_segment"]

Hashes = npt.NDArray[np.uint64]
C = TypeVar("C", bound=Column)
_VERSION = 2
_META = "segment.json"


class LazyColumns(Mapping[str, C]):
    """Columns by name, each loaded when it is asked for."""

    def __init__(self, names: Sequence[str], load: Callable[[str], C]) -> None:
        self._names = tuple(names)
        self._load = load

    def __getitem__(self, name: str) -> C:
        """The column `name`."""
        if name not in self._names:
            raise KeyError(name)
        return self._load(name)

    def __iter__(self) -> Iterator[str]:
        """The names in order."""
        return iter(self._names)

    def __len__(self) -> int:
        """The number of columns."""
        return len(self._names)


class _Meta(msgspec.Struct, frozen=True):
    """What `segment.json` says: the columns with whether they are text, may have nulls, how wide vectors are."""

    version: int
    stream: str
    entities: tuple[str, ...]
    events: int
    same_times: bool
    in_order: bool
    keys: tuple[str, ...]
    fields: dict[str, bool]
    has_nulls: dict[str, bool]
    widths: dict[str, int]
    files: dict[str, tuple[int, int]]


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """The events of one stream from log position `start` up to `stop`, by the keys of `entities`.

    `hashes` are its keys in order, uint64 (g, 2); the rows of key i are `starts[i]` to `starts[i + 1]`.
    """

    path: Path
    start: int
    stop: int
    meta: _Meta
    hashes: Hashes
    starts: Ints

    @classmethod
    def open(cls, path: Path) -> Segment:
        """The segment in the folder `path`; StoreError when a file of it is missing or of another size."""
        try:
            start, _, stop = path.name.partition("-")
            meta = msgspec.json.decode((path / _META).read_bytes(), type=_Meta)
            if meta.version != _VERSION:
                raise StoreError(f"the segment {path} is of version {meta.version}, not {_VERSION}")
            for name, (size, _) in meta.files.items():
                if (path / name).stat().st_size != size:
                    raise StoreError(f"the segment {path} is damaged: {name} has not {size} bytes")
            hashes = _mapped(path / "hashes", np.uint64).reshape(-1, 2)
            starts = _mapped(path / "starts", np.int64)
            return cls(path, int(start), int(stop), meta, hashes, starts)
        except (OSError, ValueError, msgspec.DecodeError) as error:
            raise StoreError(f"the segment {path} cannot be read: {error}") from error

    def __len__(self) -> int:
        """The number of events."""
        return self.meta.events

    def verify(self) -> None:
        """Read every file through; StoreError when one has changed since it was written."""
        for name, (_, checksum) in self.meta.files.items():
            if _checksum(self.path / name) != checksum:
                raise StoreError(f"the segment {self.path} is damaged: {name} has changed")

    def find(self, wanted: Hashes) -> tuple[Ints, Ints]:
        """Where the rows of each of `wanted` (m, 2) begin and end; its keys are in order, as `hashes`."""
        begins, ends = np.empty(len(wanted), np.int64), np.empty(len(wanted), np.int64)
        _find(self.hashes, self.starts, wanted, begins, ends)
        return begins, ends

    def batch(self, rows: slice | Ints) -> EventBatch:
        """The events at `rows`, in that order; columns are loaded as they are asked for.

        Those of a slice are mapped, and unmapped with the last array that shows them. `event_us` and
        `known_us` are one array where they are equal throughout the segment.
        """
        known_us = _part(self.path / "known_us", np.int64, rows)
        same = self.meta.same_times
        event_us = known_us if same else _part(self.path / "event_us", np.int64, rows)
        n = len(known_us)
        nothing = Texts(np.empty(0, np.uint8), np.zeros(n + 1, np.int64), np.ones(n, np.bool_))
        keys = LazyColumns(self.meta.keys, lambda name: self._texts(f"key.{name}", rows))
        fields = LazyColumns(tuple(self.meta.fields), lambda name: self._field(name, rows))
        return EventBatch(self.meta.stream, event_us, known_us, nothing, keys, fields)

    def _field(self, name: str, rows: slice | Ints) -> Column:
        if self.meta.fields[name]:
            return self._texts(f"field.{name}", rows)
        width = self.meta.widths.get(name)
        kind: Any = np.float64 if width is None else np.dtype((np.float64, (width,)))
        return _part(self.path / f"field.{name}", kind, rows)

    def _texts(self, name: str, rows: slice | Ints) -> Texts:
        offsets, data = self.path / f"{name}.offsets", self.path / f"{name}.data"
        valid = self.path / f"{name}.valid"
        if not isinstance(rows, slice):
            whole = slice(0, len(self))
            every = _part(offsets, np.int64, slice(0, len(self) + 1))
            texts = slice(0, int(every[-1]))
            return Texts(_part(data, np.uint8, texts), every, _part(valid, np.bool_, whole)).take(
                rows
            )
        some = _part(offsets, np.int64, slice(rows.start, rows.stop + 1))
        bytes_ = _part(data, np.uint8, slice(int(some[0]), int(some[-1])))
        return Texts(bytes_, some - some[0], _part(valid, np.bool_, rows))


class SegmentWriter:
    """Writes a segment part by part; the keys of each part come after those of the one before."""

    def __init__(self, path: Path, stream: str, entities: tuple[str, ...]) -> None:
        self._path, self._stream, self._entities = path, stream, entities
        self._folder = path.with_name(f".{path.name}.part")
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        self._files: dict[str, Any] = {}
        self._events = 0
        self._bytes: dict[str, int] = {}
        self._same_times = self._in_order = True
        self._keys: tuple[str, ...] = ()
        self._fields: dict[str, bool] = {}
        self._has_nulls: dict[str, bool] = {}
        self._widths: dict[str, int] = {}
        self._append("starts", np.zeros(1, np.int64))
        self._append("hashes", np.empty(0, np.uint64))

    def add(self, hashes: Hashes, starts: Ints, batch: EventBatch) -> None:
        """Append events by key: those of `hashes[i]` are `starts[i]` to `starts[i + 1]` of `batch`."""
        self._append("hashes", hashes)
        self._append("starts", starts[1:] + self._events)
        self._append("event_us", batch.event_us)
        self._append("known_us", batch.known_us)
        same = batch.event_us is batch.known_us or np.array_equal(batch.event_us, batch.known_us)
        self._same_times &= same
        self._in_order &= same or _in_order(starts, batch.event_us)
        for name, texts in batch.keys.items():
            self._append_texts(f"key.{name}", texts)
        for name, column in batch.fields.items():
            if isinstance(column, Texts):
                self._append_texts(f"field.{name}", column)
            else:
                self._append(f"field.{name}", np.asarray(column, dtype=np.float64))
                if column.ndim == 2:
                    self._widths[name] = column.shape[1]
                has_nulls = bool(np.isnan(column).any())
                self._has_nulls[name] = self._has_nulls.get(name, False) or has_nulls
            self._fields[name] = isinstance(column, Texts)
        self._keys = tuple(batch.keys)
        self._events += len(batch)

    def close(self) -> Segment:
        """The segment, on disk and in its place."""
        for file in self._files.values():
            file.close()
        if self._same_times and "event_us" in self._files:
            (self._folder / "event_us").unlink()
            del self._files["event_us"]
        sizes = {
            name: ((self._folder / name).stat().st_size, _checksum(self._folder / name))
            for name in self._files
        }
        meta = _Meta(
            _VERSION,
            self._stream,
            self._entities,
            self._events,
            self._same_times,
            self._in_order,
            self._keys,
            self._fields,
            self._has_nulls,
            self._widths,
            sizes,
        )
        (self._folder / _META).write_bytes(msgspec.json.encode(meta))
        sync_tree(self._folder)
        self._folder.replace(self._path)
        sync_folder(self._path.parent)
        return Segment.open(self._path)

    def _append_texts(self, name: str, texts: Texts) -> None:
        first = 0 if f"{name}.offsets" in self._files else 1
        if first:
            self._append(f"{name}.offsets", np.zeros(1, np.int64))
        begun = self._bytes.get(name, 0)
        size = int(texts.offsets[-1])
        self._append(f"{name}.offsets", texts.offsets[1:] + begun)
        self._append(f"{name}.valid", texts.valid)
        self._append(f"{name}.data", texts.data[:size])
        self._bytes[name] = begun + size

    def _append(self, name: str, column: npt.NDArray[Any]) -> None:
        if name not in self._files:
            self._files[name] = (self._folder / name).open("wb")
        np.ascontiguousarray(column).tofile(self._files[name])


def by_key(entities: tuple[str, ...], batch: EventBatch) -> tuple[Hashes, Ints, EventBatch]:
    """The keys of a batch in log order, the starts of their rows, and its events by key.

    Events that do not touch the key are left out.
    """
    # Events from before the stream had a key touch none.
    none = np.zeros((len(batch), 2), dtype=np.uint64)
    hashes = combine128([hash128(batch.keys[e]) if e in batch.keys else none for e in entities])
    touches = np.asarray(hashes.any(axis=1))
    if not touches.all():
        batch, hashes = batch.take(touches), hashes[touches]
    ids, firsts = group(np.ascontiguousarray(hashes))
    different = hashes[firsts]
    order = np.lexsort((different[:, 1], different[:, 0]))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    groups = bucket(rank[ids], len(order))
    return different[order], groups.starts, batch.take(groups.rows)


def write_segment(path: Path, stream: str, entities: tuple[str, ...], batch: EventBatch) -> Segment:
    """The segment of a batch in log order, in the folder `path`, which is named `START-STOP`."""
    writer = SegmentWriter(path, stream, entities)
    writer.add(*by_key(entities, batch))
    return writer.close()


@kernel
def _find(hashes: Hashes, starts: Ints, wanted: Hashes, begins: Ints, ends: Ints) -> None:
    """Both lists are in order: step over the keys in strides that double, then halve the last."""
    at, n = 0, len(hashes)
    for i in range(len(wanted)):
        first, second = wanted[i, 0], wanted[i, 1]
        step = 1
        while at + step <= n and _before(hashes, at + step - 1, first, second):
            at += step
            step *= 2
        last = min(at + step - 1, n)
        while at < last:
            middle = (at + last) // 2
            if _before(hashes, middle, first, second):
                at = middle + 1
            else:
                last = middle
        found = at < n and hashes[at, 0] == first and hashes[at, 1] == second
        begins[i] = starts[at] if found else 0
        ends[i] = starts[at + 1] if found else 0


@kernel
def _before(hashes: Hashes, at: int, first: np.uint64, second: np.uint64) -> bool:
    return bool(hashes[at, 0] < first or (hashes[at, 0] == first and hashes[at, 1] < second))


@kernel
def _in_order(starts: Ints, event_us: Ints) -> bool:
    for key in range(len(starts) - 1):
        for i in range(starts[key] + 1, starts[key + 1]):
            if event_us[i] < event_us[i - 1]:
                return False
    return True


def _mapped(path: Path, kind: Any) -> npt.NDArray[Any]:
    n = path.stat().st_size // np.dtype(kind).itemsize
    return _part(path, kind, slice(0, n))


def _part(path: Path, kind: Any, rows: slice | Ints) -> npt.NDArray[Any]:
    """The values at `rows` of a file: mapped for a slice, else copied."""
    if not isinstance(rows, slice):
        return _mapped(path, kind)[rows]
    n = rows.stop - rows.start
    if n <= 0:
        return np.empty(0, dtype=kind)
    begin = rows.start * np.dtype(kind).itemsize
    # A plain view: every operation on a memmap of its own class pays for keeping that class.
    return np.memmap(path, dtype=kind, mode="r", offset=begin, shape=(n,)).view(np.ndarray)


def _checksum(path: Path) -> int:
    checksum = 0
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            checksum = zlib.crc32(piece, checksum)
    return checksum
