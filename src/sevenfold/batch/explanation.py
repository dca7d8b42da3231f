"""What a read of a table will do, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from typing import Any

from sevenfold.engines.survey import Survey
from sevenfold.features.frame import Spine
from sevenfold.types import Instant

__all__ = ["Explanation", "Look"]

_MIB = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What a read of one part of a spine will do: its rows, its instants, and the views that are read."""

    rows: int
    instants: tuple[Instant, ...]
    views: tuple[Survey, ...]

    @classmethod
    def at(cls, spine: Spine, views: Sequence[Survey]) -> Look:
        """The look at the rows of `spine`."""
        t_us = spine.t_us
        return cls(len(t_us), (int(t_us.min()), int(t_us.max())) if len(t_us) else (), tuple(views))


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """What a read will do: rows by parts, views with their events and keys, bytes, and what each feature means.

    `looks` are the parts of the spine, `features` what each feature means, `left_out` those that are not read,
    with the column that is missing. `str()` is for people, `as_dict()` for programs.
    """

    source: str
    looks: tuple[Look, ...]
    rows_at_once: int
    row_bytes: int
    memory_bytes: int
    threads: int
    features: Mapping[str, str]
    left_out: Mapping[str, str]

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(look.rows for look in self.looks)

    @property
    def views(self) -> tuple[Survey, ...]:
        """What is read, over all parts of the spine."""
        return tuple(
            reduce(Survey.and_then, parts)
            for parts in zip(*(look.views for look in self.looks), strict=True)
        )

    @property
    def estimated_bytes(self) -> int:
        """About what is held at a time, beside the library itself and the table that was given."""
        most = max((look.rows for look in self.looks), default=0)
        return (
            max((one.bytes_at_once or 0 for one in self.views), default=0) + most * self.row_bytes
        )

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON has it; instants are microseconds, null for no rows."""
        instants = [t_us for look in self.looks for t_us in look.instants]
        return {
            "rows": self.rows,
            "spine_parts": len(self.looks),
            "rows_at_once": self.rows_at_once,
            "first_us": min(instants, default=None),
            "last_us": max(instants, default=None),
            "events": self.source,
            "memory_bytes": self.memory_bytes,
            "estimated_bytes": self.estimated_bytes,
            "threads": self.threads,
            "views": [{**asdict(one), "bytes_at_once": one.bytes_at_once} for one in self.views],
            "features": dict(self.features),
            "left_out": dict(self.left_out),
        }

    def __str__(self) -> str:
        """All of it as text."""
        lines = [
            f"rows      {self.rows:,} in {_some(len(self.looks), 'part')}",
            f"events    {self.source}",
            f"memory    {self.memory_bytes // _MIB:,} MiB for events at a time; about "
            f"{self.estimated_bytes / _MIB:,.1f} MiB will be held",
            f"threads   {self.threads}",
            "",
            *_table([_HEADS, *map(_row, self.views)]),
            "",
        ]
        for name, meaning in self.features.items():
            lines += [name, f"    {meaning}"]
        if self.left_out:
            lines += ["", "left out, for want of a column in the spine:"]
            lines += [f"    {name}: {column}" for name, column in self.left_out.items()]
        return "\n".join(lines)


_HEADS = ("view", "keys of", "stream", "how", "from", "keys", "events", "parts", "MiB at once")


def _row(one: Survey) -> tuple[str, ...]:
    by = [*one.entities, *(f"through {link}" for link in one.links)]
    kept = [
        f"{one.in_segments:,} in {_some(one.segments, 'segment')}" if one.segments else "",
        f"{one.in_head:,} in the log" if one.in_head else "",
        f"{one.given:,} given" if one.given else "",
    ]
    held = one.bytes_at_once
    return (
        one.name,
        " + ".join(by),
        one.stream,
        "search" if one.is_search else "walk",
        " + ".join(part for part in kept if part) or "none",
        *(_number(value) for value in (one.keys, one.events, one.parts)),
        "?" if held is None else f"{held / _MIB:,.1f}",
    )


def _number(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


def _some(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
