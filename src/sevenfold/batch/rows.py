"""A table as it was given, of whatever library: its columns one by one, and the same kind back, filled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy.typing as npt

from sevenfold.errors import InputError
from sevenfold.sources.raw import Raw

__all__ = ["Computed", "FillableRows", "Rows", "library_of", "refuse_type", "require_column"]

Computed: TypeAlias = Mapping[str, npt.NDArray[Any]]
"""Columns of features by name, float32 or float64 (n,), null as NaN."""


class Rows(Protocol):
    """Rows that were given; nothing of them is ever changed."""

    @property
    def names(self) -> tuple[str, ...]:
        """The columns, in order."""
        ...

    def __len__(self) -> int:
        """The number of rows."""
        ...

    def column(self, name: str) -> Raw:
        """One column as cells that can be checked; InputError for a type that holds none."""
        ...


class FillableRows(Rows, Protocol):
    """Rows that can be given back with more columns."""

    def filled(self, computed: Computed) -> Any:
        """The rows with the features behind their own columns, of the kind that was given."""
        ...


def library_of(value: Any) -> tuple[str, str]:
    """The library that a value's type is of, and the type's name there, without importing any library.

    A type that somebody derived is that which it was derived from.

    >>> library_of({})
    ('builtins', 'dict')
    """
    for kind in type(value).__mro__:
        library = kind.__module__.partition(".")[0]
        if library in _LIBRARIES and kind.__name__ in _LIBRARIES[library]:
            return library, kind.__name__
    return type(value).__module__.partition(".")[0], type(value).__name__


def require_column(name: str, names: Sequence[str]) -> None:
    """Raise InputError unless `name` is one of `names`, once."""
    found = list(names).count(name)
    if found == 1:
        return
    if found:
        raise InputError(
            f"$.{name}: {found} columns have this name; rename them, so that one has it"
        )
    given = ", ".join(map(str, names)) or "none"
    raise InputError(f"$.{name}: there is no column {name!r}; there are {given}")


def refuse_type(name: str, kind: Any, library: str) -> InputError:
    """The error for a column of a type that is neither time nor key nor number."""
    return InputError(
        f"$.{name}: a column of {library} type {kind} is neither times, texts nor numbers; allowed are "
        "timestamps, dates, texts, categories, whole numbers, floats, decimals and booleans: convert it"
    )


_LIBRARIES = {
    "numpy": ("ndarray",),
    "pandas": ("DataFrame", "Series"),
    "polars": ("DataFrame", "LazyFrame", "Series"),
    "pyarrow": ("Table", "RecordBatch", "RecordBatchReader"),
    "duckdb": ("DuckDBPyRelation",),
    "_duckdb": ("DuckDBPyRelation",),
}
