"""A pyarrow Table or RecordBatch."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from sevenfold.batch.rows import Computed, library_of, refuse_type, require_column
from sevenfold.sources.raw import Raw
from sevenfold.types import Texts

__all__ = ["ArrowRows", "arrow_cells", "arrow_schema", "arrow_table"]


class ArrowRows:
    """A table, or a batch of one: chunked, encoded and sliced in any way."""

    def __init__(self, table: Any) -> None:
        self._table = table

    @property
    def names(self) -> tuple[str, ...]:
        """The columns, in order."""
        return tuple(self._table.schema.names)

    def __len__(self) -> int:
        """The number of rows."""
        return int(self._table.num_rows)

    def column(self, name: str) -> Raw:
        """The cells of a column."""
        require_column(name, self.names)
        return arrow_cells(name, self._table.column(name))

    def filled(self, computed: Computed) -> Any:
        """A table, or a batch, of the same columns and features, null where there is no value."""
        arrow = _arrow()
        columns = [
            *self._table.columns,
            *(arrow.array(values, mask=np.isnan(values)) for values in computed.values()),
        ]
        schema = arrow_schema(self._table.schema, computed)
        kind = arrow.RecordBatch if library_of(self._table)[1] == "RecordBatch" else arrow.Table
        return kind.from_arrays(columns, schema=schema)


def arrow_schema(schema: Any, computed: Computed) -> Any:
    """A schema with a field for each feature behind its own."""
    arrow = _arrow()
    for name, values in computed.items():
        schema = schema.append(arrow.field(name, arrow.from_numpy_dtype(values.dtype)))
    return schema


def arrow_table(batches: Sequence[Any]) -> Any:
    """The batches one after the other."""
    return _arrow().Table.from_batches(batches)


def arrow_cells(name: str, column: Any) -> Raw:
    """The cells of an array, chunked or not."""
    arrow = _arrow()
    types, kind = arrow.types, column.type
    if types.is_dictionary(kind):
        return arrow_cells(name, column.cast(kind.value_type))
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return _texts(column.cast(arrow.large_string()))
    if types.is_null(kind):
        return np.full(len(column), np.nan)
    if types.is_decimal(kind):
        column = column.cast(arrow.float64())
    elif types.is_date(kind):
        column = column.cast(arrow.timestamp("ms" if types.is_date64(kind) else "s"))
    elif not (
        types.is_integer(kind)
        or types.is_floating(kind)
        or types.is_boolean(kind)
        or types.is_timestamp(kind)
    ):
        raise refuse_type(name, kind, "Arrow")
    missing = column.is_null().to_numpy(zero_copy_only=False) if column.null_count else False
    if not types.is_timestamp(column.type):
        whole = column.fill_null(False if types.is_boolean(kind) else 0)
        return np.ma.array(_numpy(whole), mask=missing)
    # Cut and not rounded; a time with a zone is an instant, one without a local time.
    micros = _numpy(column).astype("datetime64[us]")
    if column.type.tz is None:
        return np.ma.array(micros, mask=missing)
    return np.ma.array(micros.astype(np.int64), mask=missing)


def _texts(column: Any) -> Texts:
    arrow = _arrow()
    if isinstance(column, arrow.ChunkedArray):
        return Texts.concat([_texts(chunk) for chunk in column.chunks])
    n, begin = len(column), column.offset
    valid = column.is_valid().to_numpy(zero_copy_only=False).astype(np.bool_)
    if column.null_count:  # a null has no bytes here; there it may have
        column = column.fill_null("")
        begin = column.offset
    _, raw_offsets, raw = column.buffers()
    if not n or raw_offsets is None:
        return Texts.of([None] * n)
    offsets = np.frombuffer(raw_offsets, dtype=np.int64)[begin : begin + n + 1]
    data = np.frombuffer(raw if raw is not None else b"", dtype=np.uint8)
    return Texts(data[offsets[0] : offsets[-1]], offsets - offsets[0], valid)


def _numpy(column: Any) -> Any:
    arrow = _arrow()
    return (
        column.to_numpy()
        if isinstance(column, arrow.ChunkedArray)
        else column.to_numpy(zero_copy_only=False)
    )


def _arrow() -> Any:
    """The library, loaded by whoever made the table."""
    return sys.modules["pyarrow"]
