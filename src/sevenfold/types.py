"""What a value, a column of text and a batch of events are.

An instant is an int64 count of microseconds since 1970-01-01 UTC and is named `*_us`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from sevenfold.errors import InputError

__all__ = [
    "US_PER_DAY",
    "US_PER_S",
    "Column",
    "DeadLetter",
    "EventBatch",
    "Floats",
    "Instant",
    "Ints",
    "Texts",
    "VectorState",
]

Instant: TypeAlias = int
Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

US_PER_S = 1_000_000
US_PER_DAY = 86_400 * US_PER_S


class VectorState:
    """Why a value is what it is: the states of a read.

    An estimate is a value with a declared error, as a distinct count is beyond its cap.
    """

    VALUE = 0
    NULL = 1
    MISSING = 2
    STALE = 3
    ESTIMATE = 4


@dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """A column of strings as one buffer of UTF-8.

    `data` is uint8 (total bytes,), `offsets` int64 (n + 1,), `valid` bool (n,); a null has no bytes.

    >>> Texts.of(["tea", None, "pot"]).to_list()
    ['tea', None, 'pot']
    """

    data: npt.NDArray[np.uint8]
    offsets: Ints
    valid: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, values: Sequence[str | None]) -> Texts:
        """The column of the given strings, None for null."""
        if len(values) == 1 and type(values[0]) is str:  # the keys of one request, each time
            raw = values[0].encode()
            ends = np.array([0, len(raw)], dtype=np.int64)
            return cls(np.frombuffer(raw, dtype=np.uint8), ends, np.array([True]))
        try:
            joined = "".join(values)  # type: ignore[arg-type]  # raises where one is None
            present: Sequence[str] = values  # type: ignore[assignment]
            valid = np.empty(len(values), dtype=np.bool_)
            valid.fill(True)
        except TypeError:
            present = ["" if value is None else value for value in values]
            joined = "".join(present)
            valid = np.array([value is not None for value in values], dtype=np.bool_)
        raw = joined.encode()
        lengths = (
            map(len, present)
            if len(raw) == len(joined)
            else [len(text.encode()) for text in present]
        )
        offsets = np.fromiter(accumulate(lengths, initial=0), np.int64, len(present) + 1)
        return cls(np.frombuffer(raw, dtype=np.uint8), offsets, valid)

    @classmethod
    def concat(cls, parts: Sequence[Texts]) -> Texts:
        """The columns one after the other."""
        if not parts:
            return cls.of([])
        starts = np.cumsum([0, *(int(part.offsets[-1]) for part in parts)])
        offsets = [part.offsets[:-1] + start for part, start in zip(parts, starts, strict=False)]
        return cls(
            np.concatenate([part.data[: part.offsets[-1]] for part in parts]),
            np.concatenate([*offsets, starts[-1:]]).astype(np.int64),
            np.concatenate([part.valid for part in parts]),
        )

    def __len__(self) -> int:
        """The number of strings, nulls included."""
        return len(self.valid)

    def __iter__(self) -> Iterator[str | None]:
        """The strings in order, None for null."""
        return iter(self.to_list())

    def to_list(self) -> list[str | None]:
        """The strings as a list, None for null."""
        raw = self.data.tobytes()
        ends = self.offsets.tolist()
        return [
            raw[start:end].decode() if ok else None
            for start, end, ok in zip(ends[:-1], ends[1:], self.valid.tolist(), strict=True)
        ]

    def lengths(self) -> Ints:
        """The bytes of each string (n,), 0 for null."""
        # Not by `diff`, which takes three times as long for a few.
        return self.offsets[1:] - self.offsets[:-1]

    def take(self, index: npt.NDArray[Any]) -> Texts:
        """The strings at `index` (m,), in that order; a boolean mask (n,) works too."""
        chosen = np.flatnonzero(index) if index.dtype == np.bool_ else index
        starts = self.offsets[:-1][chosen]
        lengths = self.offsets[1:][chosen] - starts
        offsets = np.zeros(len(chosen) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        width = int(lengths[0]) if len(chosen) else 0
        if width and (lengths == width).all() and (starts % width == 0).all():
            # Ids are often of one length: then a row of bytes is a row of a matrix.
            whole = len(self.data) // width * width
            data = self.data[:whole].reshape(-1, width)[starts // width].reshape(-1)
            return Texts(data, offsets, self.valid[chosen])
        within = np.arange(offsets[-1], dtype=np.int64) - np.repeat(offsets[:-1], lengths)
        return Texts(self.data[np.repeat(starts, lengths) + within], offsets, self.valid[chosen])


Column: TypeAlias = Floats | Texts


@dataclass(frozen=True, slots=True, eq=False)
class EventBatch:
    """Events of one stream, as columns, in log order.

    `event_us` and `known_us` are int64 (n,). `keys` maps an entity's name to its keys; a null key means
    the event does not touch that entity. `fields` maps a field's name to float64 (n,) or, for a vector,
    (n, width), with NaN for null
    (a category is the index into its declared values) or to Texts for ids and text.
    """

    stream: str
    event_us: Ints
    known_us: Ints
    event_ids: Texts
    keys: Mapping[str, Texts]
    fields: Mapping[str, Column]

    def __len__(self) -> int:
        """The number of events."""
        return len(self.event_us)

    def take(self, index: npt.NDArray[Any]) -> EventBatch:
        """The events at `index` (positions or a boolean mask), in that order."""
        return EventBatch(
            self.stream,
            self.event_us[index],
            self.known_us[index],
            self.event_ids.take(index),
            {name: keys.take(index) for name, keys in self.keys.items()},
            {name: _take(column, index) for name, column in self.fields.items()},
        )

    @classmethod
    def concat(cls, batches: Sequence[EventBatch]) -> EventBatch:
        """The batches one after the other; all must be of one stream with the same columns."""
        if not batches:
            raise InputError("no batches to put together: give at least one")
        first = batches[0]
        for batch in batches[1:]:
            if batch.stream != first.stream or batch.fields.keys() != first.fields.keys():
                raise InputError(
                    f"batches of stream {first.stream!r} and {batch.stream!r} cannot be put together: "
                    "stream and fields must be the same"
                )
        return cls(
            first.stream,
            np.concatenate([batch.event_us for batch in batches]),
            np.concatenate([batch.known_us for batch in batches]),
            Texts.concat([batch.event_ids for batch in batches]),
            {name: Texts.concat([batch.keys[name] for batch in batches]) for name in first.keys},
            {name: _concat([batch.fields[name] for batch in batches]) for name in first.fields},
        )


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A row that could not become an event, with why.

    `reason` is a short class (`missing_customer`), `detail` the sentence for a person, `row` the row as
    it came, `origin` where it came from (a file, a topic and an offset) if its source says, `buried_us` when.
    """

    stream: str
    reason: str
    detail: str
    row: Mapping[str, Any]
    origin: Mapping[str, Any] = field(default_factory=dict)
    buried_us: Instant = 0


def _take(column: Column, index: npt.NDArray[Any]) -> Column:
    return column.take(index) if isinstance(column, Texts) else column[index]


def _concat(parts: Sequence[Column]) -> Column:
    texts = [part for part in parts if isinstance(part, Texts)]
    if texts:
        return Texts.concat(texts)
    return np.concatenate([part for part in parts if not isinstance(part, Texts)])
