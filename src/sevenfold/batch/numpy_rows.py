"""A dict of numpy arrays, lists or Texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sevenfold.batch.rows import Computed, refuse_type, require_column
from sevenfold.errors import InputError
from sevenfold.sources.raw import Raw
from sevenfold.types import Texts

__all__ = ["NumpyRows"]


class NumpyRows:
    """Columns by name, each of n cells: arrays, masked arrays, lists or Texts."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self._table = table
        lengths = {name: _length(name, column) for name, column in table.items()}
        self._n = next(iter(lengths.values()), 0)
        for name, length in lengths.items():
            if length != self._n:
                first = next(iter(lengths))
                raise InputError(
                    f"$.{name}: the column has {length} rows and {first!r} has {self._n}; "
                    "give columns of one length"
                )

    @property
    def names(self) -> tuple[str, ...]:
        """The columns, in order."""
        return tuple(self._table)

    def __len__(self) -> int:
        """The number of rows."""
        return self._n

    def column(self, name: str) -> Raw:
        """The cells of a column, as they are."""
        require_column(name, self.names)
        column: Any = self._table[name]
        if isinstance(column, np.ndarray) and column.dtype.kind in "SVcm":
            raise refuse_type(name, column.dtype, "numpy")
        return column if isinstance(column, Texts | np.ndarray) else list(column)

    def filled(self, computed: Computed) -> dict[str, Any]:
        """A dict of the same columns and the features, null as NaN."""
        return {**self._table, **computed}


def _length(name: str, column: Any) -> int:
    if isinstance(column, np.ndarray) and column.ndim != 1:
        raise InputError(
            f"$.{name}: an array of shape {column.shape} is no column; give one of shape (n,)"
        )
    if isinstance(column, np.ndarray | list | tuple | Texts):
        return len(column)
    raise InputError(
        f"$.{name}: a {type(column).__name__} is no column; give an array or a list of n values"
    )
