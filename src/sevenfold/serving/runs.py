"""Events of several streams in the order in which they became known, cut where the stream changes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np

from sevenfold.stores.log import arrange
from sevenfold.types import EventBatch

__all__ = ["runs"]

_BEFORE_ALL = -(1 << 62)


def runs(batches: Sequence[EventBatch], tables: Collection[str]) -> Iterator[EventBatch]:
    """The events of all batches in order of `known_us`, as runs of one stream each.

    At one instant streams come in the order given, those in `tables` last: a row of a table is not visible
    to an event that became known with it. Inside a stream the order is that of the log.
    """
    parts = [arrange(batch, _BEFORE_ALL) for batch in batches if len(batch)]
    if not parts:
        return
    parts.sort(key=lambda part: part.stream in tables)
    lengths = [len(part) for part in parts]
    which = np.repeat(np.arange(len(parts)), lengths)
    place = np.concatenate([np.arange(n) for n in lengths])
    known_us = np.concatenate([part.known_us for part in parts])
    order = np.lexsort((place, which, known_us))
    which, place = which[order], place[order]
    ends = [*(np.flatnonzero(np.diff(which)) + 1).tolist(), len(which)]
    for begin, end in zip([0, *ends[:-1]], ends, strict=True):
        yield parts[which[begin]].take(place[begin:end])
