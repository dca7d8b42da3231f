"""The past of each stream by key: immutable segments over the log, and the log's newest events as their head.

A history is a folder with one folder a stream and key, such as `views/user` or `views/user+item`. It holds nothing
that the log does not hold: a damaged segment, or one of events that the log has since forgotten, is deleted and
made again.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sevenfold.algebra.grouping import bucket
from sevenfold.errors import StoreError
from sevenfold.stores.durable import locked, replace_file
from sevenfold.stores.kv import Transaction
from sevenfold.stores.log import blocks, levelled, position, rewrites
from sevenfold.stores.segment import Segment, SegmentWriter, write_segment
from sevenfold.types import EventBatch, Ints

__all__ = ["HEAD_EVENTS", "HISTORY", "History", "StreamHistory", "merge"]

Hashes = npt.NDArray[np.uint64]
Entities = tuple[str, ...]
Progress = Callable[[int, int], None]

HISTORY = "history"
"""The folder of a home's history, beside its store."""

HEAD_EVENTS = 200_000
"""The events that stay in the log until they are worth a segment."""

_REWRITES = "rewrites"
_SEGMENT_EVENTS = 2_000_000
_MERGE_EVENTS = 4_000_000


@dataclass(frozen=True, slots=True, eq=False)
class StreamHistory:
    """The events of one stream up to a log position: segments by key, and `head`, the events after them.

    `head` is in log order; an event is in the segments of a key or in the head, never in both.
    """

    stream: str
    segments: Mapping[Entities, tuple[Segment, ...]]
    heads: Mapping[Entities, EventBatch | None]

    def of(self, entities: Entities) -> tuple[tuple[Segment, ...], EventBatch | None]:
        """The segments by the keys of `entities`, oldest first, and the head after them.

        Raises StoreError when the history is not kept by that key.
        """
        if entities not in self.segments:
            kept = ", ".join("+".join(one) for one in self.segments)
            raise StoreError(
                f"the history of stream {self.stream!r} is not kept by {'+'.join(entities)}; it is kept by "
                f"{kept}: bring it up to date with that key first"
            )
        return self.segments[entities], self.heads[entities]


class History:
    """The histories in the folder `path`, of the keys that `wanted` names by stream."""

    def __init__(self, path: Path, wanted: Mapping[str, Iterable[Entities]]) -> None:
        self.path = path
        self._wanted = {stream: tuple(dict.fromkeys(keys)) for stream, keys in wanted.items()}

    def extend(
        self, txn: Transaction, head_events: int = HEAD_EVENTS, progress: Progress | None = None
    ) -> None:
        """Make segments of the log's events until fewer than `head_events` are left in the head.

        One process extends at a time, others wait; what is damaged is deleted and made again. `progress` is
        told how far in the log it is, and how long the log is.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path / "lock"):
            if not self._is_of(txn):
                self._delete_all()
                replace_file(self.path / _REWRITES, b"%d" % rewrites(txn))
            end = position(txn)
            for stream, keys in self._wanted.items():
                for entities in keys:
                    self._extend(txn, stream, entities, (end, head_events), progress)

    def at(self, txn: Transaction) -> dict[str, StreamHistory]:
        """Every stream's history up to the end of the log; streams without an event are left out."""
        found = {}
        is_current = self._is_of(txn)
        for stream, keys in self._wanted.items():
            segments = {
                entities: tuple(self._sound(stream, entities)) if is_current else ()
                for entities in keys
            }
            heads = {
                entities: _log_from(txn, stream, kept[-1].stop if kept else 0)
                for entities, kept in segments.items()
            }
            if any(segments.values()) or any(head is not None for head in heads.values()):
                found[stream] = StreamHistory(stream, segments, heads)
        return found

    def drop(self) -> None:
        """Delete every segment: the log holds something else now, or the files are damaged."""
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path / "lock"):
            self._delete_all()

    def _delete_all(self) -> None:
        for folder in self.path.iterdir():
            if folder.is_dir():
                shutil.rmtree(folder)

    def _is_of(self, txn: Transaction) -> bool:
        """Whether the segments are of the log as it is: none of their events was changed or taken out since."""
        try:
            return int((self.path / _REWRITES).read_bytes()) == rewrites(txn)
        except (OSError, ValueError):
            return False

    def discard_damaged(self) -> list[str]:
        """Read all segments through and delete the damaged ones; their paths."""
        damaged = []
        for path in sorted(self.path.glob("*/*/[0-9]*")):
            try:
                Segment.open(path).verify()
            except StoreError:
                shutil.rmtree(path)
                damaged.append(str(path))
        return damaged

    def _extend(
        self,
        txn: Transaction,
        stream: str,
        entities: Entities,
        until: tuple[int, int],
        progress: Progress | None,
    ) -> None:
        end, head_events = until
        folder = self._folder(stream, entities)
        folder.mkdir(parents=True, exist_ok=True)
        kept = list(self._sound(stream, entities, repair=True))
        at = kept[-1].stop if kept else 0
        while end - at >= max(head_events, 1):
            stop = min(at + _SEGMENT_EVENTS, end)
            parts = [batch for _, batch in blocks(txn, stream, at, stop)]
            if not parts and stop == end:
                return
            if parts:
                begin = kept[-1].stop if kept else 0
                name = f"{begin:020d}-{stop:020d}"
                kept.append(
                    write_segment(
                        folder / name, stream, entities, EventBatch.concat(levelled(parts))
                    )
                )
                kept = _settled(kept)
            at = stop
            if progress is not None:
                progress(at, end)

    def _sound(self, stream: str, entities: Entities, repair: bool = False) -> Iterator[Segment]:
        """The segments that follow one another from the log's beginning; `repair` deletes the others."""
        folder = self._folder(stream, entities)
        if not folder.is_dir():
            return
        names = [path for path in folder.iterdir() if not path.name.startswith(".")]
        # Of two that begin at one position the longer holds what the shorter holds.
        at = 0
        for path in sorted(names, key=lambda path: (path.name[:20], -int(path.name[21:]))):
            start, stop = int(path.name[:20]), int(path.name[21:])
            segment = _opened(path) if start == at and stop > at else None
            if segment is not None:
                at = stop
                yield segment
            elif repair:
                shutil.rmtree(path)

    def _folder(self, stream: str, entities: Entities) -> Path:
        return self.path / stream / "+".join(entities)


def merge(path: Path, segments: Sequence[Segment], at_once: int = _MERGE_EVENTS) -> Segment:
    """One segment in place of those that follow one another, written some `at_once` events at a time."""
    first = segments[0]
    writer = SegmentWriter(path, first.meta.stream, first.meta.entities)
    hashes = _union([segment.hashes for segment in segments])
    found = [segment.find(hashes) for segment in segments]
    sizes = np.sum([ends - begins for begins, ends in found], axis=0)
    if not len(hashes):  # the columns are to be there all the same
        writer.add(hashes, np.zeros(1, dtype=np.int64), first.batch(slice(0, 0)))
    for low, high in cuts(sizes, at_once):
        writer.add(
            hashes[low:high], *_merged(segments, [(b[low:high], e[low:high]) for b, e in found])
        )
    return writer.close()


def cuts(sizes: Ints, at_once: int) -> Iterator[tuple[int, int]]:
    """Ranges that cover `sizes` in order, each with a sum of at most `at_once` or of one member."""
    ends = np.cumsum(sizes)
    low = 0
    while low < len(sizes):
        before = ends[low - 1] if low else 0
        high = max(int(np.searchsorted(ends, before + at_once, side="right")), low + 1)
        yield low, high
        low = high


def _merged(
    segments: Sequence[Segment], found: Sequence[tuple[Ints, Ints]]
) -> tuple[Ints, EventBatch]:
    """The starts and the events of a range of keys, of each key those of older segments first."""
    parts, ids = [], []
    for segment, (begins, ends) in zip(segments, found, strict=True):
        inside = ends > begins
        low = int(begins[inside].min()) if inside.any() else 0
        parts.append(segment.batch(slice(low, low + int((ends - begins).sum()))))
        ids.append(np.repeat(np.arange(len(begins)), ends - begins))
    groups = bucket(np.concatenate(ids), len(found[0][0]))
    return groups.starts, EventBatch.concat(levelled(parts)).take(groups.rows)


def _union(parts: Sequence[Hashes]) -> Hashes:
    both = np.concatenate(parts)
    both = both[np.lexsort((both[:, 1], both[:, 0]))]
    again = (both[1:] == both[:-1]).all(axis=1)
    return both[np.concatenate([[True], ~again])] if len(both) else both


def _settled(kept: list[Segment]) -> list[Segment]:
    """Merge the newest while the one before is not twice as large: each event moves a few times in all."""
    while len(kept) > 1 and len(kept[-2]) < 2 * len(kept[-1]):
        older, newer = kept[-2:]
        whole = merge(older.path.with_name(f"{older.start:020d}-{newer.stop:020d}"), (older, newer))
        for segment in (older, newer):
            shutil.rmtree(segment.path)  # whoever has it mapped keeps it until it lets go
        kept = [*kept[:-2], whole]
    return kept


def _opened(path: Path) -> Segment | None:
    try:
        return Segment.open(path)
    except StoreError:
        return None


def _log_from(txn: Transaction, stream: str, start: int) -> EventBatch | None:
    parts = [batch for _, batch in blocks(txn, stream, start)]
    return EventBatch.concat(levelled(parts)) if parts else None
