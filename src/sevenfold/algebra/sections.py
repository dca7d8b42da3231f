"""Sections of a state that grow: a count of entries, then the entries, each of a few words.

recent      event_us, value                 the newest k values of a column, newest first
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sevenfold.algebra.reads import LAST_K, Read

__all__ = ["Section", "section_of", "sections_of"]


class Section(NamedTuple):
    """A section: what it keeps of which column, for how many entries of how many words it has room."""

    kind: int
    column: int
    capacity: int
    record: int


def sections_of(reads: Sequence[Read]) -> list[Section]:
    """The sections that `reads` need, each once."""
    columns = sorted({read.column for read in reads if read.kind == LAST_K})
    return [
        Section(
            LAST_K, column, max(r.k for r in reads if r.kind == LAST_K and r.column == column), 2
        )
        for column in columns
    ]


def section_of(read: Read, sections: Sequence[Section]) -> int:
    """The place of the section that `read` is answered from."""
    return next(i for i, s in enumerate(sections) if (s.kind, s.column) == (read.kind, read.column))
