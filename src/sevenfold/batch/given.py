"""Which kind of table was given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sevenfold.batch.arrow_rows import ArrowRows
from sevenfold.batch.duckdb_rows import DuckDBRows
from sevenfold.batch.numpy_rows import NumpyRows
from sevenfold.batch.pandas_rows import PandasRows
from sevenfold.batch.polars_rows import PolarsRows
from sevenfold.batch.rows import FillableRows, library_of
from sevenfold.errors import InputError

__all__ = ["is_stream", "rows_of"]

KINDS = (
    "a pandas DataFrame, a Polars DataFrame or LazyFrame, a pyarrow Table, RecordBatch or "
    "RecordBatchReader, a DuckDB relation, or a dict of numpy arrays"
)


def rows_of(table: Any, what: str = "the spine") -> FillableRows:
    """The rows of a table of any kind; raises InputError for what is none."""
    match library_of(table):
        case ("pandas", "DataFrame"):
            return PandasRows(table)
        case ("polars", "DataFrame" | "LazyFrame"):
            return PolarsRows(table)
        case ("pyarrow", "Table" | "RecordBatch"):
            return ArrowRows(table)
        case ("duckdb" | "_duckdb", "DuckDBPyRelation"):
            return DuckDBRows(table)
    if isinstance(table, Mapping):
        return NumpyRows(table)
    library, kind = library_of(table)
    raise InputError(f"{what} is a {library}.{kind}; allowed are {KINDS}")


def is_stream(table: Any) -> bool:
    """Whether it is a stream of rows, which are read as they are asked for."""
    return library_of(table) == ("pyarrow", "RecordBatchReader")
