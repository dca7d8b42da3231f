"""When rows became known, before they are checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sevenfold.sources.flaws import Bools, Flaws
from sevenfold.sources.protocol import row_count
from sevenfold.sources.raw import Raw, RawColumn
from sevenfold.sources.times import LocalTime, parse_times
from sevenfold.spec.stream import Stream
from sevenfold.spec.units import parse_duration
from sevenfold.types import Ints

__all__ = ["known_times"]


def known_times(stream: Stream, rows: Sequence[Any] | Mapping[str, Raw]) -> tuple[Ints, Bools]:
    """When each row (n,) became known by what the stream says, and which rows have a time that can be read."""
    name = stream.known or stream.time
    zone = LocalTime(stream.timezone) if stream.timezone is not None else None
    flaws = Flaws(row_count(rows))
    cells: Raw = (
        rows[name]
        if isinstance(rows, Mapping)
        else [row.get(name) if isinstance(row, Mapping) else None for row in rows]
    )
    known_us = parse_times(RawColumn.of(cells), name, zone, flaws)
    delay_us = 0 if stream.known else parse_duration(stream.delay)
    return known_us + delay_us, flaws.free
