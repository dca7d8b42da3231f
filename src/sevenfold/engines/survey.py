"""What a read as of then will do, without doing it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sevenfold.algebra.grouping import match
from sevenfold.algebra.lookup import is_lookup
from sevenfold.engines.histories import KeyedHistory, event_bytes
from sevenfold.engines.spine_keys import SpineKeys
from sevenfold.features.columns import event_hashes
from sevenfold.features.frame import Spine
from sevenfold.features.plan import Plan, Reading
from sevenfold.stores.history import StreamHistory
from sevenfold.types import EventBatch

__all__ = ["Survey", "survey"]


@dataclass(frozen=True, slots=True)
class Survey:
    """The read of one view.

    `entities` are those whose keys the spine gives, `links` lead to the others; `is_search` tells a search for
    newest events from a walk over all. The stream has `segments` with `in_segments` events by key, `in_head`
    events in the log after them, and `given` by hand. `keys`, `events` (of these keys, before any filter), `parts`
    and `events_at_once` are None for keys that are known only when a link has been read.
    """

    name: str
    view: str
    stream: str
    features: tuple[str, ...]
    entities: tuple[str, ...]
    links: tuple[str, ...]
    is_search: bool
    segments: int = 0
    in_segments: int = 0
    in_head: int = 0
    given: int = 0
    keys: int | None = None
    events: int | None = None
    parts: int | None = None
    events_at_once: int | None = None
    event_bytes: int = 0

    @property
    def bytes_at_once(self) -> int | None:
        """About what is held of its events at a time."""
        return None if self.events_at_once is None else self.events_at_once * self.event_bytes

    def and_then(self, other: Survey) -> Survey:
        """The same view read for further rows, after these."""
        if self.keys is None or other.keys is None:
            return self
        return replace(
            self,
            keys=self.keys + other.keys,
            events=(self.events or 0) + (other.events or 0),
            parts=(self.parts or 0) + (other.parts or 0),
            events_at_once=max(self.events_at_once or 0, other.events_at_once or 0),
        )


def survey(
    plan: Plan,
    names: Sequence[str],
    spine: Spine,
    events: Mapping[str, EventBatch | StreamHistory],
    bounds: tuple[int, int],
) -> list[Survey]:
    """What `read_at` will read, view by view, in its order; `bounds` are its memory and its threads."""
    keys = SpineKeys(spine)
    return [
        _survey(reading, keys, events[reading.view.stream], bounds)
        for reading in plan.readings_for(names)
        if reading.view.stream in events
    ]


def _survey(
    reading: Reading,
    keys: SpineKeys,
    source: EventBatch | StreamHistory,
    bounds: tuple[int, int],
) -> Survey:
    view = reading.view
    found = Survey(
        reading.name,
        view.name,
        view.stream,
        reading.names,
        reading.entities,
        tuple(link.name for link in reading.links.values()),
        is_lookup(view.layout),
        event_bytes=event_bytes(view),
    )
    memory_bytes, threads = bounds
    if isinstance(source, EventBatch):
        found = replace(found, given=len(source))
        if reading.links:
            return found
        hashes, _ = keys.of(reading, {}, in_order=False)
        ids = match(hashes, np.ascontiguousarray(event_hashes(view, source)))
        n = int((ids >= 0).sum())
        return replace(found, keys=len(hashes), events=n, parts=threads, events_at_once=n)
    segments, head = source.of(view.entities)
    found = replace(
        found,
        segments=len(segments),
        in_segments=sum(map(len, segments)),
        in_head=0 if head is None else len(head),
    )
    if reading.links:
        return found
    hashes, _ = keys.of(reading, {}, in_order=True)
    kept = KeyedHistory.of(view, source, hashes)
    parts = kept.cuts(memory_bytes, threads)
    sizes = sorted((int(kept.sizes[low:high].sum()) for low, high in parts), reverse=True)
    return replace(
        found,
        keys=len(hashes),
        events=sum(sizes),
        parts=len(parts),
        events_at_once=sum(sizes[:threads]),
    )
