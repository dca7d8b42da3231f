"""A segment without its oldest events."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from sevenfold.stores.segment import Segment, SegmentWriter
from sevenfold.types import Instant

__all__ = ["trim"]


def trim(
    path: Path, segment: Segment, from_us: Instant, parts: Iterable[tuple[int, int]]
) -> Segment:
    """A segment at `path` of the events that became known at `from_us` or later; the given one stays.

    It is written some keys at a time: `parts` are ranges of the numbers of its keys that cover each once, in order. A
    key that has no event left is none of the new one's.
    """
    meta, hashes = segment.meta, segment.hashes
    begins, ends = segment.find(hashes)
    with SegmentWriter(path, meta.stream, meta.entities, meta.origin) as writer:
        if not len(hashes):  # the columns are to be there all the same
            writer.add(hashes, np.zeros(1, dtype=np.int64), segment.batch(slice(0, 0)))
        for low, high in parts:
            first = int(begins[low])
            batch = segment.batch(slice(first, int(ends[high - 1])))
            stays = batch.known_us >= from_us
            before = np.concatenate([[0], np.cumsum(stays)])
            counts = before[ends[low:high] - first] - before[begins[low:high] - first]
            starts = np.concatenate([[0], np.cumsum(counts[counts > 0])])
            writer.add(hashes[low:high][counts > 0], starts, batch.take(np.flatnonzero(stays)))
        return writer.close()
