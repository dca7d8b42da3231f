"""What every source of events is: read from an offset, in batches that say how far they reach.

An offset says of each part of a source (a file, a partition, a table) how far it has been read. It is kept in
the store, in the transaction of the rows it stands for, never in the source: after a kill nothing is lost and
nothing comes twice, whatever the source itself remembers.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from sevenfold.errors import InputError, TimeError
from sevenfold.sources.raw import Raw
from sevenfold.spec.units import parse_duration

__all__ = ["Address", "Batch", "Offset", "Origin", "Poison", "Source", "row_count"]

Offset: TypeAlias = Mapping[str, Any]
"""How far each part has been read: values that MessagePack can hold, by the name of the part."""

Origin: TypeAlias = Callable[[int], Mapping[str, Any]]
"""Where row i of a batch came from, as a dead letter shows it: a file and a line, a topic and an offset."""


@dataclass(frozen=True, slots=True)
class Poison:
    """Something that cannot even be read as a row: why, in a word and a sentence, and what it was."""

    reason: str
    detail: str
    row: Mapping[str, Any]
    origin: Mapping[str, Any] = field(default_factory=dict)


def _nowhere(_row: int) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Rows, or columns, of a source, and the parts of its offset that have moved once they are taken.

    `poison` is what came between the rows and cannot be read; `notes` are sentences for whoever runs it.
    """

    rows: Sequence[Any] | Mapping[str, Raw]
    offset: Offset
    poison: Sequence[Poison] = ()
    origin: Origin = _nowhere
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Address:
    """An address apart: `scheme:place?option=value`, with the names of the fields that go by others there."""

    url: str
    scheme: str
    place: str
    options: Mapping[str, str]
    columns: Mapping[str, str] | None

    def required(self, name: str) -> str:
        """An option that must be there."""
        if not self.options.get(name):
            raise InputError(f"{self.shown}: give {name}, as ?{name}=...")
        return self.options[name]

    def duration_us(self, name: str, usual: str) -> int:
        """An option that is a duration."""
        try:
            return parse_duration(self.options.get(name, usual))
        except TimeError as error:
            raise InputError(f"{self.shown}: {name}: {error}") from error

    @property
    def shown(self) -> str:
        """The address without its options, and without what stands before an @ in it."""
        head, slashes, rest = self.place.partition("//")
        rest = rest.rpartition("@")[2] if slashes else rest
        return f"{self.scheme}:{head}{slashes}{rest}"


class Source(Protocol):
    """A place where rows of one stream come from."""

    @property
    def name(self) -> str:
        """The address of the source without its secrets: what its offset is kept under."""
        ...

    @property
    def waiting(self) -> int:
        """How many parts were there at the last read, and not ready to be read."""
        ...

    def read(self, offset: Offset) -> Generator[Batch, None, None]:
        """What has come since `offset`, in order; ends when there is nothing more for now.

        Every batch moves the offset, and reading on from it gives what the batches after it would have.
        Raises InputError when the source cannot be read at all.
        """
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


def row_count(rows: Sequence[Any] | Mapping[str, Raw]) -> int:
    """How many rows there are, as a list or as columns.

    >>> row_count([{"price": 1}]), row_count({"price": [1, 2]}), row_count({})
    (1, 2, 0)
    """
    if isinstance(rows, Mapping):
        return len(next(iter(rows.values()))) if rows else 0
    return len(rows)
