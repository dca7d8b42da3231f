"""Rows of several files in the order in which they became known, as many at a time as the files are read in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from sevenfold.sources.known import known_times
from sevenfold.sources.raw import Raw, taken
from sevenfold.spec.stream import Stream
from sevenfold.types import Instant, Ints, Texts

__all__ = ["Chunks", "in_order"]

Chunks = Iterator[Mapping[str, Raw]]

_BEFORE_ALL, _AFTER_ALL = -(1 << 62), 1 << 62


def in_order(files: Mapping[str, tuple[Stream, Chunks]]) -> Iterator[dict[str, Mapping[str, Raw]]]:
    """Parts of the rows of all streams: what became known in one part did so before all of the next.

    `files` are the chunks of each stream, which follow one another in the order in which they became known. Rows of
    one instant are in one part, so that a part can be put in order by itself. Rows whose time cannot be read come
    with the first part after they were read.
    """
    waiting = {name: _Waiting(stream, chunks) for name, (stream, chunks) in files.items()}
    while True:
        for one in waiting.values():
            if not len(one.known_us):
                one.read()
        until_us = min(one.until_us for one in waiting.values())
        parts = {name: one.take(until_us) for name, one in waiting.items()}
        found = {name: rows for name, rows in parts.items() if rows}
        if found:
            yield found
        elif until_us == _AFTER_ALL:
            return
        else:  # all that is held of a stream became known at one instant, and there may be more of it
            for one in waiting.values():
                if one.until_us == until_us:
                    one.read()


@dataclass(slots=True, eq=False)
class _Waiting:
    """The rows of a stream that were read and not yet given: `known_us` (n,) is when they became known."""

    stream: Stream
    chunks: Chunks
    rows: Mapping[str, Raw] = field(default_factory=dict)
    known_us: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    is_over: bool = False

    @property
    def until_us(self) -> Instant:
        """All rows that became known before it are held."""
        return _AFTER_ALL if self.is_over else int(self.known_us.max(initial=_BEFORE_ALL))

    def read(self) -> None:
        """Hold the next chunk too."""
        chunk = next(self.chunks, None)
        if chunk is None:
            self.is_over = True
            return
        known_us, readable = known_times(self.stream, chunk)
        known_us = np.where(readable, known_us, _BEFORE_ALL)
        held = len(self.known_us) > 0
        self.rows = _joined(self.rows, chunk) if held else chunk
        self.known_us = np.concatenate([self.known_us, known_us])

    def take(self, until_us: Instant) -> Mapping[str, Raw]:
        """The rows that became known before `until_us`, which are then held no more; empty when there are none."""
        before = self.known_us < until_us
        if not before.any():
            return {}
        rows, self.rows = (
            {name: taken(column, np.flatnonzero(where)) for name, column in self.rows.items()}
            for where in (before, ~before)
        )
        self.known_us = self.known_us[~before]
        return rows


def _joined(before: Mapping[str, Raw], after: Mapping[str, Raw]) -> Mapping[str, Raw]:
    return {name: _one(column, after[name]) for name, column in before.items()}


def _one(before: Raw, after: Raw) -> Raw:
    if isinstance(before, Texts) and isinstance(after, Texts):
        return Texts.concat([before, after])
    if isinstance(before, np.ndarray) and isinstance(after, np.ndarray):
        data = np.concatenate([np.ma.getdata(before), np.ma.getdata(after)])
        null = np.concatenate([np.ma.getmaskarray(before), np.ma.getmaskarray(after)])
        return np.ma.MaskedArray(data, null)
    return [*_listed(before), *_listed(after)]


def _listed(column: Raw) -> list[object]:
    if isinstance(column, Texts):
        return [*column.to_list()]
    return [*(column.tolist() if isinstance(column, np.ndarray) else column)]
