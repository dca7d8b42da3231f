"""One table in every kind that a spine can be given as, and back to plain values."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

HOUR = 3_600_000_000
Plain = Mapping[str, list[Any]]


def when(values: list[int | None]) -> list[datetime | None]:
    """Instants in microseconds as datetimes with a zone."""
    return [None if us is None else datetime.fromtimestamp(us / 1e6, UTC) for us in values]


def stamped(table: Plain) -> pa.Table:
    """The table with its times as timestamps of UTC."""
    columns = {name: pa.array(values) for name, values in table.items() if name != "t"}
    t = pa.array(table["t"], pa.int64()).cast(pa.timestamp("us", "UTC"))
    return pa.table({"t": t, **columns})


def as_dict(table: Plain) -> dict[str, Any]:
    return {
        "t": np.array(table["t"], dtype=np.int64),
        **{name: np.array(values, dtype=object) for name, values in table.items() if name != "t"},
    }


def as_pandas(table: Plain) -> pd.DataFrame:
    frame = pd.DataFrame({name: pd.Series(values) for name, values in table.items()})
    frame["t"] = pd.to_datetime(frame["t"], unit="us", utc=True)
    frame.index = pd.Index(np.arange(len(frame))[::-1] * 7, name="mine")
    return frame


def as_categories(table: Plain) -> pd.DataFrame:
    frame = as_pandas(table)
    return frame.astype(dict.fromkeys(("user", "item"), "category"))


def as_pandas_of_arrow(table: Plain) -> pd.DataFrame:
    return stamped(table).to_pandas(types_mapper=pd.ArrowDtype)


def as_nullable(table: Plain) -> pd.DataFrame:
    frame = as_pandas(table).convert_dtypes()
    return frame.assign(t=table["t"])


def as_polars(table: Plain) -> pl.DataFrame:
    return pl.from_arrow(stamped(table))


def as_lazy(table: Plain) -> pl.LazyFrame:
    return as_polars(table).lazy()


def as_polars_categories(table: Plain) -> pl.DataFrame:
    return as_polars(table).cast({"user": pl.Categorical, "t": pl.Datetime("ns", "Europe/London")})


def as_arrow(table: Plain) -> pa.Table:
    return stamped(table)


def as_chunked(table: Plain) -> pa.Table:
    """Chunks of any length, one of them a slice, with dictionaries and long strings."""
    whole = stamped(table)
    n = len(whole)
    pieces = [whole.slice(0, n // 3), whole.slice(n // 3, 0), whole.slice(n // 3)]
    chunked = pa.concat_tables(pieces)
    user = chunked.column("user").cast(pa.large_string())
    chunked = chunked.set_column(chunked.schema.get_field_index("user"), "user", user)
    encoded = chunked.column("item").dictionary_encode()
    return chunked.set_column(chunked.schema.get_field_index("item"), "item", encoded)


def as_batch(table: Plain) -> pa.RecordBatch:
    return stamped(table).to_batches()[0]


def as_reader(table: Plain) -> pa.RecordBatchReader:
    whole = stamped(table)
    return pa.RecordBatchReader.from_batches(whole.schema, whole.to_batches(max_chunksize=3))


def as_relation(table: Plain) -> duckdb.DuckDBPyRelation:
    connection = duckdb.connect()
    rows = stamped(table)  # noqa: F841  found by its name
    connection.execute("create table given as select * from rows")
    return connection.sql("select * from given")


KINDS: dict[str, Callable[[Plain], Any]] = {
    "dict": as_dict,
    "pandas": as_pandas,
    "pandas categories": as_categories,
    "pandas of Arrow": as_pandas_of_arrow,
    "pandas nullable": as_nullable,
    "Polars": as_polars,
    "Polars lazy": as_lazy,
    "Polars categories": as_polars_categories,
    "Arrow": as_arrow,
    "Arrow chunks": as_chunked,
    "Arrow batch": as_batch,
    "Arrow reader": as_reader,
    "DuckDB": as_relation,
}


def plain(table: Any) -> dict[str, list[Any]]:
    """The columns as Python values, null as None, times as microseconds."""
    match table:
        case dict():
            columns = {name: np.asarray(column).tolist() for name, column in table.items()}
        case pd.DataFrame():
            columns = {name: table[name].astype(object).tolist() for name in table.columns}
        case pl.LazyFrame():
            return plain(table.collect())
        case pl.DataFrame():
            columns = table.to_dict(as_series=False)
        case pa.RecordBatchReader():
            return plain(table.read_all())
        case pa.Table() | pa.RecordBatch():
            columns = table.to_pydict()
        case _:
            return plain(table.to_arrow_table())
    return {name: [_plain(value) for value in values] for name, values in columns.items()}


def _plain(value: Any) -> Any:
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return None
    if isinstance(value, datetime):
        gap = (value if value.tzinfo else value.replace(tzinfo=UTC)) - datetime(
            1970, 1, 1, tzinfo=UTC
        )
        return (gap.days * 86_400 + gap.seconds) * 1_000_000 + gap.microseconds
    return value
