"""Events of several streams in the order in which they became known, cut where the stream changes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from sevenfold.stores.log import arrange
from sevenfold.types import EventBatch, Ints

__all__ = ["Runs", "runs"]

_BEFORE_ALL = -(1 << 62)


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """Events of several streams in one order.

    Event i (n,) is event `place[i]` of part `which[i]` and became known at `known_us[i]`. Run r begins at `starts[r]` and ends
    where the next one begins; its events are of one part. A part is a stream.
    """

    parts: list[EventBatch]
    which: Ints
    place: Ints
    known_us: Ints
    starts: Ints


def runs(batches: Sequence[EventBatch], tables: Collection[str]) -> Runs:
    """The events of all batches in order of `known_us`, as runs of one stream each.

    At one instant streams come in the order given, those in `tables` last: a row of a table is not visible
    to an event that became known with it. Inside a stream the order is that of the log.
    """
    parts = [arrange(batch, _BEFORE_ALL) for batch in batches if len(batch)]
    parts.sort(key=lambda part: part.stream in tables)
    nothing = np.zeros(0, dtype=np.int64)
    which = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    place = np.concatenate([nothing, *(np.arange(len(part)) for part in parts)])
    known_us = np.concatenate([nothing, *(part.known_us for part in parts)])
    order = np.lexsort((place, which, known_us))
    which = which[order]
    starts = np.flatnonzero(np.diff(which, prepend=-1))
    return Runs(parts, which, place[order], known_us[order], starts)
