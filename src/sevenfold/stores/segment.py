"""An immutable piece of a stream's history: its events by key, as columns that are mapped, not read.

A segment is a folder that covers a stretch of the log. Its rows are in the order of their key's hash and, for one
key, of the log: what is read of a key lies together, and segments of stretches that follow one another merge
without a sort. The files are raw little-endian columns; `segment.json` names them with their sizes, the log they
are of and its own checksum, `seals` holds the checksums of their pieces. It is written beside its place and
renamed into it when all is on disk. Who has one open holds it: it is not deleted meanwhile, unless it is void.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from sevenfold.algebra.grouping import bucket, group
from sevenfold.compiled import kernel
from sevenfold.errors import StoreError
from sevenfold.hashing import combine128, digest, hash128
from sevenfold.stores.durable import sync_folder, sync_tree
from sevenfold.stores.sealed import DamagedError, Held, Sealed, is_held, pieces, seals
from sevenfold.types import Column, EventBatch, Ints, Texts

__all__ = [
    "LazyColumns",
    "Origin",
    "Segment",
    "SegmentWriter",
    "by_key",
    "delete_segment",
    "write_segment",
]

Hashes = npt.NDArray[np.uint64]
C = TypeVar("C", bound=Column)
_VERSION = 3
_META = "segment.json"
_SEALS = "seals"
_TEXT = -1


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


class Origin(msgspec.Struct, frozen=True):
    """The log that a segment was made of: its generation, and the last event of the stretch and stream.

    `position` is -1 where there was no event.
    """

    generation: str = ""
    position: int = -1
    known_us: int = 0


class _Meta(msgspec.Struct, frozen=True):
    """What `segment.json` says: fields with their width (0 one number, -1 text), which have nulls, and the files."""

    version: int
    stream: str
    entities: tuple[str, ...]
    start: int
    stop: int
    origin: Origin
    events: int
    same_times: bool
    in_order: bool
    keys: tuple[str, ...]
    fields: dict[str, int]
    has_nulls: dict[str, bool]
    files: dict[str, int]
    seals: str


class Segment:
    """The events of one stream from log position `start` up to `stop`, by the keys of its entities.

    What is read of it was compared with its checksums; DamagedError, a StoreError, when it is not what was written.
    """

    __slots__ = ("_files", "_held", "_index", "meta", "path", "start", "stop")

    def __init__(self, path: Path, meta: _Meta, files: Sealed, held: Held) -> None:
        self.path, self.meta = path, meta
        self.start, self.stop = meta.start, meta.stop
        self._files, self._held = files, held
        self._index: tuple[Hashes, Ints] | None = None

    @classmethod
    def open(cls, path: Path) -> Segment:
        """The segment in the folder `path`, held; StoreError when it is not whole or of another version."""
        try:
            held = Held(path / _META)
            meta = _decoded(path)
            raw = (path / _SEALS).read_bytes()
            if digest(raw) != meta.seals:
                raise DamagedError(path, f"{_SEALS} has changed")
            for name, size in meta.files.items():
                if (path / name).stat().st_size != size:
                    raise DamagedError(path, f"{name} has not {size} bytes")
        except (OSError, ValueError, msgspec.DecodeError) as error:
            raise DamagedError(path, str(error)) from error
        ends = np.cumsum([0, *map(pieces, meta.files.values())]).tolist()
        sums = np.frombuffer(raw, dtype=np.uint64)
        if ends[-1] != len(sums):
            raise DamagedError(path, f"{_SEALS} has {len(sums)} checksums, not {ends[-1]}")
        by_file = {
            name: sums[low:high]
            for name, (low, high) in zip(meta.files, pairwise(ends), strict=True)
        }
        return cls(path, meta, Sealed(path, meta.files, by_file), held)

    def __len__(self) -> int:
        """The number of events."""
        return self.meta.events

    @property
    def hashes(self) -> Hashes:
        """The keys in order, uint64 (g, 2)."""
        return self._keys()[0]

    @property
    def size_bytes(self) -> int:
        """What the files take on disk."""
        return sum(self.meta.files.values())

    def verify(self) -> None:
        """Read every file through; DamagedError when one has changed since it was written."""
        self._files.verify()

    def let_go(self) -> None:
        """Do not hold it any longer: it may be deleted."""
        self._held.let_go()

    def find(self, wanted: Hashes) -> tuple[Ints, Ints]:
        """Where the rows of each of `wanted` (m, 2) begin and end; its keys are in order, as `hashes`."""
        begins, ends = np.empty(len(wanted), np.int64), np.empty(len(wanted), np.int64)
        _find(*self._keys(), wanted, begins, ends)
        return begins, ends

    def batch(self, rows: slice | Ints) -> EventBatch:
        """The events at `rows`, in that order; columns are loaded as they are asked for.

        Those of a slice are mapped, and unmapped with the last array that shows them. `event_us` and
        `known_us` are one array where they are equal throughout the segment.
        """
        known_us = self._files.part("known_us", np.int64, rows)
        same = self.meta.same_times
        event_us = known_us if same else self._files.part("event_us", np.int64, rows)
        n = len(known_us)
        nothing = Texts(np.empty(0, np.uint8), np.zeros(n + 1, np.int64), np.ones(n, np.bool_))
        keys = LazyColumns(self.meta.keys, lambda name: self._texts(f"key.{name}", rows))
        fields = LazyColumns(tuple(self.meta.fields), lambda name: self._field(name, rows))
        return EventBatch(self.meta.stream, event_us, known_us, nothing, keys, fields)

    def _keys(self) -> tuple[Hashes, Ints]:
        if self._index is None:
            hashes = self._files.whole("hashes", np.uint64).reshape(-1, 2)
            self._index = hashes, self._files.whole("starts", np.int64)
        return self._index

    def _field(self, name: str, rows: slice | Ints) -> Column:
        width = self.meta.fields[name]
        if width == _TEXT:
            return self._texts(f"field.{name}", rows)
        kind: Any = np.dtype((np.float64, (width,))) if width else np.float64
        return self._files.part(f"field.{name}", kind, rows)

    def _texts(self, name: str, rows: slice | Ints) -> Texts:
        offsets, data, valid = f"{name}.offsets", f"{name}.data", f"{name}.valid"
        files = self._files
        if isinstance(rows, slice):
            some = files.part(offsets, np.int64, slice(rows.start, rows.stop + 1))
            bytes_ = files.part(data, np.uint8, slice(int(some[0]), int(some[-1])))
            return Texts(bytes_, some - some[0], files.part(valid, np.bool_, rows))
        begins = files.part(offsets, np.int64, rows)
        ends = files.part(offsets, np.int64, rows + 1)
        files.check_ranges(data, begins, ends)
        new = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum(ends - begins, out=new[1:])
        at = np.arange(new[-1], dtype=np.int64) - np.repeat(new[:-1] - begins, ends - begins)
        return Texts(files.bytes_unchecked(data)[at], new, files.part(valid, np.bool_, rows))


class SegmentWriter:
    """Writes a segment part by part; the keys of each part come after those of the one before.

    The folder `path` is named `START-STOP`. Used in a `with`, what is not closed leaves nothing behind.
    """

    def __init__(
        self, path: Path, stream: str, entities: tuple[str, ...], origin: Origin | None = None
    ) -> None:
        self._path, self._stream, self._entities = path, stream, entities
        self._origin = origin or Origin()
        self._folder = path.with_name(f".{path.name}.part")
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        self._files: dict[str, Any] = {}
        self._events = 0
        self._bytes: dict[str, int] = {}
        self._same_times = self._in_order = True
        self._keys: tuple[str, ...] = ()
        self._fields: dict[str, int] = {}
        self._has_nulls: dict[str, bool] = {}
        self._append("starts", np.zeros(1, np.int64))
        self._append("hashes", np.empty(0, np.uint64))

    def __enter__(self) -> SegmentWriter:
        """The writer itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the files, and delete what did not become a segment."""
        for file in self._files.values():
            file.close()
        shutil.rmtree(self._folder, ignore_errors=True)

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
                self._fields[name] = _TEXT
                continue
            self._append(f"field.{name}", np.asarray(column, dtype=np.float64))
            has_nulls = bool(np.isnan(column).any())
            self._has_nulls[name] = self._has_nulls.get(name, False) or has_nulls
            self._fields[name] = column.shape[1] if column.ndim > 1 else 0
        self._keys = tuple(batch.keys)
        self._events += len(batch)

    def close(self) -> Segment:
        """The segment, on disk and in its place."""
        for file in self._files.values():
            file.close()
        if self._same_times and "event_us" in self._files:
            (self._folder / "event_us").unlink()
            del self._files["event_us"]
        sums = [seals(self._folder / name) for name in self._files]
        raw = np.concatenate(sums).tobytes()
        (self._folder / _SEALS).write_bytes(raw)
        start, stop = map(int, self._path.name.split("-"))
        meta = _Meta(
            _VERSION,
            self._stream,
            self._entities,
            start,
            stop,
            self._origin,
            self._events,
            self._same_times,
            self._in_order,
            self._keys,
            self._fields,
            self._has_nulls,
            {name: (self._folder / name).stat().st_size for name in self._files},
            digest(raw),
        )
        said = msgspec.json.encode(meta)
        (self._folder / _META).write_bytes(digest(said).encode() + b"\n" + said)
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


def write_segment(
    path: Path,
    stream: str,
    entities: tuple[str, ...],
    batch: EventBatch,
    origin: Origin | None = None,
) -> Segment:
    """The segment of a batch in log order, in the folder `path`, which is named `START-STOP`."""
    with SegmentWriter(path, stream, entities, origin) as writer:
        writer.add(*by_key(entities, batch))
        return writer.close()


def delete_segment(path: Path, force: bool = False) -> bool:
    """Delete the folder of a segment; False, and nothing done, while someone holds it, unless by `force`.

    Who reads a segment that was deleted by force gets a DamagedError.
    """
    if not force and is_held(path / _META):
        return False
    # Without its name it is no segment, however far the deletion comes.
    void = path.with_name(f".{path.name}.void")
    shutil.rmtree(void, ignore_errors=True)
    path.replace(void)
    shutil.rmtree(void)
    return True


def _decoded(path: Path) -> _Meta:
    checksum, _, said = (path / _META).read_bytes().partition(b"\n")
    if digest(said).encode() != checksum:
        raise DamagedError(path, f"{_META} has changed, or is of another version")
    meta = msgspec.json.decode(said, type=_Meta)
    if meta.version != _VERSION:
        raise StoreError(f"the segment {path} is of version {meta.version}, not {_VERSION}")
    if [int(part) for part in path.name.split("-")] != [meta.start, meta.stop]:
        raise DamagedError(path, f"it is of positions {meta.start} to {meta.stop}")
    return meta


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
