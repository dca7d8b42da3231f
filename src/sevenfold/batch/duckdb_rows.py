"""A DuckDB relation."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from sevenfold.batch.rows import Computed, require_column
from sevenfold.sources.files import cell_expression, fetched_column, quoted
from sevenfold.sources.raw import Raw

__all__ = ["DuckDBRows"]

_GIVEN = "sevenfold_given"
_NUMBERS = itertools.count()


class DuckDBRows:
    """A relation: a query, whose rows may come in another order each time that it is asked.

    So it is asked once: its rows, and later those that are filled, lie in a temporary table of its own
    connection.
    """

    def __init__(self, relation: Any) -> None:
        self._relation = relation
        self._types = dict(zip(relation.columns, map(str, relation.types), strict=True))
        self._table = f"sevenfold_rows_{next(_NUMBERS)}"
        self._run(f"create temp table {self._table} as select * from {_GIVEN}")
        ((self._n,),) = self._run(f"select count(*) from {self._table}").fetchall()

    @property
    def names(self) -> tuple[str, ...]:
        """The columns, in order."""
        return tuple(self._types)

    def __len__(self) -> int:
        """The number of rows."""
        return int(self._n)

    def column(self, name: str) -> Raw:
        """The cells of a column."""
        require_column(name, self.names)
        cells = cell_expression(name, self._types[name])
        return fetched_column(
            self._run(f"select {cells} as cell from {self._table} order by rowid").fetchnumpy()[
                "cell"
            ]
        )

    def filled(self, computed: Computed) -> Any:
        """A relation of the same columns and features, null where there is no value."""
        table = f"sevenfold_rows_{next(_NUMBERS)}"
        own = ", ".join(f"g.{quoted(name)}" for name in self.names)
        more = ", ".join(f"f.{quoted(name)}" for name in computed)
        features = {**computed, "sevenfold_row": np.arange(self._n)}
        self._run(
            f"create temp table {table} as select {own}, {more} from {self._table} g join sevenfold_features f "
            "on g.rowid = f.sevenfold_row order by g.rowid",
            features,
        )
        self._run(f"drop table {self._table}")
        return self._run(f"select * from {table}")

    def _run(self, query: str, sevenfold_features: Any = None) -> Any:
        """What the relation's connection answers; it finds the features by the name they have here."""
        return self._relation.query(_GIVEN, query)
