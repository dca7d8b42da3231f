"""The past of each stream by key: immutable segments over the log, and the log's newest events as their head.

A history is a folder with one folder a stream and key, such as `views/user` or `views/user+item`. It holds nothing
that the log does not hold: a damaged segment, or one of a log that has since been rewritten, is deleted and
made again. Each segment says itself what it is of, so there is no list of them that could be lost.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from sevenfold.algebra.grouping import bucket
from sevenfold.errors import StoreError
from sevenfold.stores.durable import locked
from sevenfold.stores.kv import Store, Transaction
from sevenfold.stores.log import blocks, departed, generation, levelled, position
from sevenfold.stores.sealed import DamagedError
from sevenfold.stores.segment import (
    Origin,
    Segment,
    SegmentWriter,
    delete_segment,
    write_segment,
)
from sevenfold.stores.trim import trim
from sevenfold.types import EventBatch, Ints, Texts

__all__ = ["HEAD_EVENTS", "HISTORY", "History", "Kept", "StreamHistory", "merge"]

R = TypeVar("R")
Hashes = npt.NDArray[np.uint64]
Entities = tuple[str, ...]
Place = tuple[str, Entities]
Progress = Callable[[int, int], None]

HISTORY = "history"
"""The folder of a home's history, beside its store."""

HEAD_EVENTS = 200_000
"""The events that stay in the log until they are worth a segment."""

_SEGMENT_EVENTS = 2_000_000
_MERGE_EVENTS = 4_000_000
_MANY = 32
_PATIENCE = 5
_TRIES = 3


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


@dataclass(frozen=True, slots=True)
class _Chain:
    """Segments that follow one another from the log's beginning, and where the next sound one behind a gap begins.

    The log of the stream begins at `start`. `overdue` is a segment from before that which goes on beyond the chain.
    """

    segments: list[Segment]
    next_start: int | None = None
    start: int = 0
    overdue: Segment | None = None

    @property
    def stop(self) -> int:
        """Where the log goes on behind them."""
        return self.segments[-1].stop if self.segments else self.start


@dataclass(frozen=True, slots=True)
class Kept:
    """What a history holds: its segments, their events and bytes, and the log's events that are in none.

    `is_void` when there are segments of another log than this, of this one before it was rewritten, or with events
    that have left it.
    """

    segments: int = 0
    events: int = 0
    bytes: int = 0
    behind: int = 0
    is_void: bool = False


class History:
    """The histories in the folder `path`, of the keys that `wanted` names by stream.

    `segment_events` are sorted and `merge_events` merged at a time, in memory. With `alone` the histories
    of other keys are deleted.
    """

    def __init__(
        self,
        path: Path,
        wanted: Mapping[str, Iterable[Entities]],
        *,
        segment_events: int = _SEGMENT_EVENTS,
        merge_events: int = _MERGE_EVENTS,
        alone: bool = False,
    ) -> None:
        self.path = path
        self._wanted = {stream: tuple(dict.fromkeys(keys)) for stream, keys in wanted.items()}
        self._segment_events, self._merge_events = segment_events, merge_events
        self._alone = alone
        self._of_log: set[tuple[Path, str]] = set()

    def extend(
        self, store: Store, head_events: int = HEAD_EVENTS, progress: Progress | None = None
    ) -> None:
        """Make segments of the log's events until fewer than `head_events` are left in the head.

        What is damaged is deleted and made again. `progress` is told how far in the log it is, and how long
        the log is.
        """
        while self.step(store, head_events):
            if progress is not None:
                with store.read() as txn:
                    end = position(txn)
                    progress(end - self.kept(txn).behind, end)

    def step(self, store: Store, head_events: int = HEAD_EVENTS) -> bool:
        """Do one thing that is due, whole on disk when it returns: whether there was any.

        First to delete what is void, damaged, half-written or merged; then to cut off what has left the log; then to write the segments of one
        stretch of the log; then to merge segments of one key. One process works at a time, others wait.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path / "lock"):
            with store.read() as txn:
                chains = {place: self._chain(txn, place) for place in self._places()}
                if self._swept(txn, chains) or self._trimmed(txn, chains):
                    return True
                is_crowded = any(len(chain.segments) > _MANY for chain in chains.values())
                if not is_crowded and self._built(txn, chains, max(head_events, 1)):
                    return True
            # Without a snapshot: held for as long as a merge takes, it would make the store's file grow.
            return any(self._merged(place, chain.segments) for place, chain in chains.items())

    def at(self, store: Store) -> dict[str, StreamHistory]:
        """Every stream's history up to the end of the log; streams without an event are left out.

        Its segments are held until the result is let go of: they stay, though merged meanwhile.
        """
        # Opened before the snapshot is taken: so none goes beyond its end.
        opened = {place: self._opened(place) for place in self._places()}
        found = {}
        with store.read() as txn:
            for stream, keys in self._wanted.items():
                chains = {of: self._chained(txn, stream, opened[stream, of]) for of in keys}
                parts = {
                    stop: _log_from(txn, stream, stop)
                    for stop in {chain.stop for chain in chains.values()}
                }
                heads = {of: parts[chain.stop] for of, chain in chains.items()}
                segments = {of: tuple(chain.segments) for of, chain in chains.items()}
                some = any(
                    one.meta.origin.position >= 0 for kept in segments.values() for one in kept
                )
                if some or any(head is not None for head in heads.values()):
                    found[stream] = StreamHistory(stream, segments, heads)
        return found

    def brought_up(
        self, store: Store, head_events: int = HEAD_EVENTS, progress: Progress | None = None
    ) -> dict[str, StreamHistory]:
        """The histories as of now, extended first.

        Does not wait for another who is at work on them while the head is of a bearable size.
        """
        with store.read() as txn:
            behind = self.kept(txn).behind
        if behind >= max(head_events, 1):
            with suppress(BlockingIOError):
                self.path.mkdir(parents=True, exist_ok=True)
                with locked(self.path / "lock", wait=behind >= _PATIENCE * head_events):
                    pass
                self.extend(store, head_events, progress)
        return self.at(store)

    def mending(self, work: Callable[[], R]) -> R:
        """What `work` returns; begun anew when a segment that it reads proves to be damaged, which is deleted first.

        So it has to ask for the histories itself, and must not keep what it had of them.
        """
        for _ in range(_TRIES - 1):
            try:
                return work()
            except DamagedError as error:
                self._discard(error.path)
        return work()

    def kept(self, txn: Transaction) -> Kept:
        """What is held as of this snapshot, by all keys that are wanted; `behind` is of the one that is furthest."""
        opened = {place: self._opened(place) for place in self._places()}
        chains = [self._chained(txn, place[0], held) for place, held in opened.items()]
        whole = [segment for chain in chains for segment in chain.segments]
        end = position(txn)
        return Kept(
            len(whole),
            sum(map(len, whole)),
            sum(segment.size_bytes for segment in whole),
            end - min((chain.stop for chain in chains), default=end),
            any(
                not self._is_of(txn, one) or one.start < chain.start
                for segments, chain in zip(opened.values(), chains, strict=True)
                for one in segments
            ),
        )

    def drop(self) -> None:
        """Delete every segment: the log holds something else now, or the files are damaged."""
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path / "lock"):
            for folder in self.path.iterdir():
                if folder.is_dir():
                    shutil.rmtree(folder)

    def discard_damaged(self) -> list[str]:
        """Read all segments through and delete the damaged ones; their paths."""
        found = sorted(self.path.glob("*/*/[0-9]*"))
        return [str(path) for path in found if self._discard(path)]

    def _discard(self, path: Path) -> bool:
        """Delete a segment when it is damaged; whether it was."""
        try:
            Segment.open(path).verify()
        except StoreError:
            with locked(self.path / "lock"):
                if path.is_dir():
                    delete_segment(path, force=True)
            return True
        return False

    def _places(self) -> list[Place]:
        return [(stream, entities) for stream, keys in self._wanted.items() for entities in keys]

    def _folder(self, place: Place) -> Path:
        return self.path / place[0] / "+".join(place[1])

    def _opened(self, place: Place) -> list[Segment]:
        """The segments of a key that are whole, held."""
        found = []
        for _ in range(_TRIES):
            paths = sorted(self._folder(place).glob("[0-9]*"))
            found = [segment for path in paths if (segment := _opened(path)) is not None]
            if len(found) == len(paths) or all(path.exists() for path in paths):
                break  # else they were merged between the look and the opening
        return found

    def _chain(self, txn: Transaction, place: Place) -> _Chain:
        return self._chained(txn, place[0], self._opened(place))

    def _chained(self, txn: Transaction, stream: str, segments: Sequence[Segment]) -> _Chain:
        """Those of the segments that follow one another; of two that begin together the longer holds the shorter."""
        chain = _Chain([], start=departed(txn, stream).position)
        held = [one for one in segments if self._is_of(txn, one)]
        for segment in sorted(held, key=lambda one: (one.start, -one.stop)):
            if segment.start == chain.stop:
                chain.segments.append(segment)
            elif segment.start > chain.stop:
                chain = replace(chain, next_start=segment.start)
                break
        before = [one for one in held if one.start < chain.start and one.stop > chain.stop]
        return replace(chain, overdue=max(before, key=lambda one: one.stop, default=None))

    def _is_of(self, txn: Transaction, segment: Segment) -> bool:
        """Whether a segment was made of this log, and nothing of it was changed or taken out since."""
        origin = segment.meta.origin
        if origin.generation != generation(txn) or segment.stop > position(txn):
            return False
        seen = (segment.path, segment.meta.seals)
        if origin.position < 0 or seen in self._of_log:
            return True
        # A log brought back from before has the same name, and other events once it goes on.
        here = next(blocks(txn, segment.meta.stream, origin.position, origin.position + 1), None)
        if here is not None and int(here[1].known_us[0]) != origin.known_us:
            return False
        self._of_log.add(seen)
        return True

    def _swept(self, txn: Transaction, chains: Mapping[Place, _Chain]) -> bool:
        """Delete what is of no use; whether anything was deleted."""
        gone = False
        for folder in [path for path in self.path.glob("*/*") if path.is_dir()]:
            place = (folder.parent.name, tuple(folder.name.split("+")))
            chain = chains.get(place)
            if chain is None and self._alone:
                shutil.rmtree(folder)
                gone = True
                continue
            for path in list(folder.iterdir()):
                gone = self._swept_one(txn, path, chain) or gone
        return gone

    def _swept_one(self, txn: Transaction, path: Path, chain: _Chain | None) -> bool:
        if path.name.startswith("."):  # half-written, or half-deleted
            shutil.rmtree(path)
            return True
        segment = _opened(path)
        if segment is None or not self._is_of(txn, segment):
            return delete_segment(path, force=True)
        segment.let_go()
        if chain is None or any(one.path == path for one in chain.segments):
            return False
        if segment.start < chain.start and segment.stop > chain.stop:
            return False  # not before the rest of it lies in another
        return segment.start < chain.stop and delete_segment(path)  # what it held was merged

    def _trimmed(self, txn: Transaction, chains: Mapping[Place, _Chain]) -> bool:
        """Write a segment anew that holds events which have left the log, without them; whether one was due."""
        for (stream, entities), chain in chains.items():
            old = chain.overdue
            if old is None:
                continue
            path = _place(self._folder((stream, entities)), chain.start, old.stop)
            begins, ends = old.find(old.hashes)
            try:
                parts = cuts(ends - begins, self._merge_events)
                trim(path, old, departed(txn, stream).known_us, parts)
            except DamagedError as error:
                delete_segment(error.path, force=True)
            return True
        return False

    def _built(self, txn: Transaction, chains: Mapping[Place, _Chain], head_events: int) -> bool:
        """Write the segments of one stretch of the log, by all keys of a stream that need it; whether one was due."""
        end = position(txn)
        for stream, keys in self._wanted.items():
            due: dict[Entities, tuple[int, int]] = {}
            for entities in keys:
                chain = chains[stream, entities]
                until = end if chain.next_start is None else chain.next_start
                if chain.next_start is not None or end - chain.stop >= head_events:
                    due[entities] = chain.stop, min(chain.stop + self._segment_events, until)
            if due:
                start, stop = min(due.values())
                batch, origin = _stretch(txn, stream, start, stop)
                for entities in [of for of, stretch in due.items() if stretch == (start, stop)]:
                    folder = self._folder((stream, entities))
                    folder.mkdir(parents=True, exist_ok=True)
                    write_segment(_place(folder, start, stop), stream, entities, batch, origin)
                return True
        return False

    def _merged(self, place: Place, chain: Sequence[Segment]) -> bool:
        """Merge segments of a chain when that is due; whether it was."""
        run = _run([len(segment) for segment in chain])
        if run < 2:
            return False
        segments = chain[-run:]
        path = _place(self._folder(place), segments[0].start, segments[-1].stop)
        try:
            merge(path, segments, self._merge_events)
        except DamagedError as error:
            delete_segment(error.path, force=True)
            return True
        for segment in segments:
            segment.let_go()
            delete_segment(segment.path)
        return True


def merge(path: Path, segments: Sequence[Segment], at_once: int = _MERGE_EVENTS) -> Segment:
    """One segment in place of those that follow one another, written some `at_once` events at a time."""
    first = segments[0]
    origins = [one.meta.origin for one in segments]
    origin = next((one for one in reversed(origins) if one.position >= 0), origins[-1])
    hashes = _union([segment.hashes for segment in segments])
    found = [segment.find(hashes) for segment in segments]
    sizes = np.sum([ends - begins for begins, ends in found], axis=0)
    with SegmentWriter(path, first.meta.stream, first.meta.entities, origin) as writer:
        if not len(hashes):  # the columns are to be there all the same
            writer.add(hashes, np.zeros(1, dtype=np.int64), first.batch(slice(0, 0)))
        for low, high in cuts(sizes, at_once):
            part = [(begins[low:high], ends[low:high]) for begins, ends in found]
            writer.add(hashes[low:high], *_merged(segments, part))
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


def _run(sizes: Sequence[int]) -> int:
    """How many of the newest segments to merge: while the one before is not twice the size of those after it.

    An event comes to lie in a segment half as large again at least, each time that it is written.
    """
    if not sizes:
        return 0
    n, total = 1, sizes[-1] + 1
    while n < len(sizes) and sizes[-n - 1] + 1 < 2 * total:
        total += sizes[-n - 1] + 1
        n += 1
    return n


def _stretch(txn: Transaction, stream: str, start: int, stop: int) -> tuple[EventBatch, Origin]:
    """The events of a stream in a stretch of the log, and where they are from."""
    parts = list(blocks(txn, stream, start, stop))
    if not parts:
        none = np.empty(0, dtype=np.int64)
        return EventBatch(stream, none, none, Texts.of([]), {}, {}), Origin(generation(txn))
    seq, last = parts[-1]
    origin = Origin(generation(txn), seq + len(last) - 1, int(last.known_us[-1]))
    return EventBatch.concat(levelled([batch for _, batch in parts])), origin


def _place(folder: Path, start: int, stop: int) -> Path:
    return folder / f"{start:020d}-{stop:020d}"


def _opened(path: Path) -> Segment | None:
    try:
        return Segment.open(path)
    except StoreError:
        return None


def _log_from(txn: Transaction, stream: str, start: int) -> EventBatch | None:
    parts = [batch for _, batch in blocks(txn, stream, start)]
    return EventBatch.concat(levelled(parts)) if parts else None
