"""Parquet and CSV files as chunks of columns, read by DuckDB."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import duckdb
import numpy as np
import numpy.typing as npt

from sevenfold.errors import InputError
from sevenfold.types import Texts

__all__ = ["Chunk", "Progress", "read_chunks"]

Chunk: TypeAlias = dict[str, npt.NDArray[Any] | Texts]
Progress: TypeAlias = Callable[[int, int], None]
"""Called with (rows read so far, rows in all)."""

_READERS = {".parquet": "read_parquet", ".csv": "read_csv", ".tsv": "read_csv", ".gz": "read_csv"}
_INTEGERS = {
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
}
_LOCAL = {"DATE", "TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS"}


def read_chunks(
    path: Path | str,
    columns: Mapping[str, str] | None = None,
    order_by: str | None = None,
    chunk_rows: int = 100_000,
    progress: Progress | None = None,
) -> Iterator[Chunk]:
    """The rows of a `.parquet`, `.csv`, `.tsv` or `.csv.gz` file, at most `chunk_rows` at a time.

    `columns` maps the names wanted to the file's own; without it, all come under their own. `order_by` is a
    wanted name; ties, and all rows without it, keep the order of the file. Numbers and booleans are arrays,
    masked where null; text is Texts; a time with a zone is int64 microseconds, one without is datetime64
    in microseconds, NaT where null. Every other type comes as its text. Raises InputError for a file
    that cannot be read and for a column that it does not have.
    """
    reader = next((name for end, name in _READERS.items() if str(path).endswith(end)), None)
    if reader is None:
        raise InputError(
            f"{str(path)!r} cannot be read: its name must end in {', '.join(sorted(_READERS))}"
        )
    if chunk_rows < 1:
        raise InputError(f"chunks of {chunk_rows} rows: give at least 1")
    # One thread keeps the rows in the order of the file; nothing is fetched from elsewhere.
    settings: dict[str, str | bool | int | float | list[str]] = {
        "threads": 1,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    with duckdb.connect(config=settings) as connection:
        total, names = _load(connection, reader, str(path), columns, order_by)
        select = f"select {', '.join(_quoted(name) for name in names)} from loaded"
        for start in range(0, total, chunk_rows):
            read = connection.execute(
                f"{select} where rowid >= ? and rowid < ? order by rowid",
                [start, start + chunk_rows],
            ).fetchnumpy()
            yield {name: _column(values) for name, values in read.items()}
            if progress is not None:
                progress(min(start + chunk_rows, total), total)


def _load(
    connection: duckdb.DuckDBPyConnection,
    reader: str,
    path: str,
    columns: Mapping[str, str] | None,
    order_by: str | None,
) -> tuple[int, list[str]]:
    """Bring the file into the temporary table `loaded`; how many rows, and the names of its columns."""
    try:
        described = connection.execute(f"describe select * from {reader}(?)", [path]).fetchall()
        types = {str(row[0]): str(row[1]) for row in described}
        wanted = dict(columns) if columns is not None else {name: name for name in types}
        missing = sorted({own for own in wanted.values() if own not in types})
        if missing or not wanted:
            raise InputError(
                f"{path!r} has no column {', '.join(map(repr, missing)) or 'at all'}; it has {', '.join(types)}"
            )
        if order_by is not None and order_by not in wanted:
            raise InputError(f"order_by={order_by!r} is not one of the columns {', '.join(wanted)}")
        picked = ", ".join(
            f"{_expression(own, types[own])} as {_quoted(name)}" for name, own in wanted.items()
        )
        connection.execute(f"create temp table read as select {picked} from {reader}(?)", [path])
        order = "" if order_by is None else f" order by {_quoted(order_by)}, rowid"
        connection.execute(f"create temp table loaded as select * from read{order}")
        counted = connection.execute("select count(*) from loaded").fetchone()
    except duckdb.Error as error:
        raise InputError(f"{path!r} cannot be read: {error}") from error
    return (int(counted[0]) if counted else 0), list(wanted)


def _expression(name: str, kind: str) -> str:
    """The column as one of the few types that become arrays."""
    own = _quoted(name)
    if kind in _INTEGERS or kind in {"DOUBLE", "BOOLEAN", "VARCHAR"}:
        return own
    if kind in {"FLOAT", "HUGEINT", "UHUGEINT"} or kind.startswith("DECIMAL"):
        return f"{own}::double"
    if kind == "TIMESTAMP WITH TIME ZONE":
        return f"epoch_us({own})"
    if kind in _LOCAL:
        return f"{own}::timestamp"
    return f"{own}::varchar"


def _column(values: Any) -> npt.NDArray[Any] | Texts:
    array: npt.NDArray[Any] = values
    if array.dtype.kind != "O":
        return array
    missing = np.ma.getmaskarray(array)
    texts = np.ma.getdata(array).tolist()
    if missing.any():
        texts = [None if gone else text for text, gone in zip(texts, missing.tolist(), strict=True)]
    return Texts.of(texts)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
