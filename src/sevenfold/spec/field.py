"""What a field of an event may hold.

Of each kind `pii` names the class of personal data that it is, such as "contact" or "location"; '' is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from sevenfold.spec.quantity import Count, Width

__all__ = ["CONTENT", "Category", "Field", "Flag", "Id", "Integer", "Number", "Text", "Vector"]

CONTENT = "<content>"
"""As `Stream(id=...)`: an event is named by the hash of its whole row, so equal rows are one event."""


@dataclass(frozen=True, slots=True)
class Number:
    """A float64; NaN is null, infinities are refused. `low` and `high` are inclusive bounds."""

    unit: str = ""
    low: float | None = None
    high: float | None = None
    pii: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Integer:
    """A whole number within +-2^53, held exactly. `low` and `high` are inclusive bounds."""

    unit: str = ""
    low: int | None = None
    high: int | None = None
    pii: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Category:
    """One of the declared values, held as its index; with `other`, any further value has index len(values)."""

    values: tuple[str, ...]
    other: bool = False
    pii: str = ""
    description: str = ""

    def __init__(
        self,
        values: tuple[str, ...] | list[str],
        other: bool = False,
        pii: str = "",
        description: str = "",
    ) -> None:
        # What is no list is left as it is, for the checks to refuse.
        listed = tuple(values) if isinstance(values, list) else values
        object.__setattr__(self, "values", listed)
        object.__setattr__(self, "other", other)
        object.__setattr__(self, "pii", pii)
        object.__setattr__(self, "description", description)


@dataclass(frozen=True, slots=True)
class Flag:
    """True or false, held as 1 and 0; the numbers 1 and 0 and the texts `true` and `false` are read too."""

    pii: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Id:
    """A short text that names something: counted and compared, never computed with."""

    max_bytes: Count = 256
    pii: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Text:
    """Free text, kept in the log."""

    max_bytes: Count = 10_000
    pii: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Vector:
    """`width` numbers that belong together, such as an embedding, each held as a float32; null as a whole.

    An attribute reads its newest value as that many features.
    """

    width: Width
    pii: str = ""
    description: str = ""


Field: TypeAlias = Number | Integer | Category | Flag | Id | Text | Vector
