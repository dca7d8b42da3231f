"""Parquet and CSV files as chunks of columns, read by DuckDB."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import duckdb
import numpy as np
import numpy.typing as npt

from sevenfold.errors import InputError
from sevenfold.sources.csv_file import Reject, header_of, load_csv
from sevenfold.sources.lines import JSON_ENDS
from sevenfold.sources.raw import EXACT, Raw
from sevenfold.spec.field import Flag, Integer, Number
from sevenfold.spec.stream import Stream
from sevenfold.types import Texts

__all__ = [
    "Chunk",
    "Piece",
    "Progress",
    "cell_expression",
    "fetched_column",
    "numeric_names",
    "quoted",
    "read_chunks",
    "read_pieces",
    "spoken_cell",
]

Chunk: TypeAlias = dict[str, npt.NDArray[Any] | Texts]
Progress: TypeAlias = Callable[[int, int], None]
"""Called with (rows read so far, rows in all)."""


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Rows of a file from number `begin` of its `total`, and the lines of it that are no rows."""

    rows: Mapping[str, Raw]
    begin: int
    total: int
    rejects: Sequence[Reject] = field(default_factory=list)


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
# One thread keeps the rows in the order of the file; nothing is fetched from elsewhere.
_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "threads": 1,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_WHOLE = re.compile(r"-?[0-9]+")
_SPELLED = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
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
            f"{str(path)!r} cannot be read: its name must end in {', '.join(sorted(_READERS))}; "
            f"`sevenfold ingest` and `features --events` also take {', '.join(JSON_ENDS)}"
        )
    if chunk_rows < 1:
        raise InputError(f"chunks of {chunk_rows} rows: give at least 1")
    with duckdb.connect(config=_SETTINGS) as connection:
        total, names = _load(connection, reader, str(path), columns, order_by)
        for start, chunk in _chunks(connection, names, total, chunk_rows):
            yield chunk
            if progress is not None:
                progress(min(start + chunk_rows, total), total)


def read_pieces(
    path: Path,
    stream: Stream,
    columns: Mapping[str, str] | None = None,
    start: int = 0,
    chunk_rows: int = 100_000,
) -> Iterator[Piece]:
    """The rows of a Parquet or CSV file of `stream`, from row `start` on, in the order they became known.

    `columns` is as in `read_chunks`. The cells of a CSV file are text, but where the stream declares a number
    and the text is one; lines that are no records come with the first piece, which is there though the file
    has no row. Raises InputError for a file that cannot be read and for a column that it does not have.
    """
    order_by = stream.known or stream.time
    with duckdb.connect(config=_SETTINGS) as connection:
        if path.name.endswith(".parquet"):
            total, names = _load(connection, "read_parquet", str(path), columns, order_by)
            rejects, numeric = list[Reject](), set[str]()
        else:
            total, names, rejects = _load_text(connection, path, columns, order_by)
            numeric = numeric_names(stream)
        if start >= total:
            yield Piece({}, start, total, rejects)
        for begin, chunk in _chunks(connection, names, total, chunk_rows, start):
            told = {
                name: _spoken(column) if name in numeric and isinstance(column, Texts) else column
                for name, column in chunk.items()
            }
            yield Piece(told, begin, total, rejects if begin == start else [])


def _chunks(
    connection: duckdb.DuckDBPyConnection,
    names: Sequence[str],
    total: int,
    chunk_rows: int,
    start: int = 0,
) -> Iterator[tuple[int, Chunk]]:
    """The rows of the table `loaded`, with the number of the first of each chunk."""
    select = f"select {', '.join(quoted(name) for name in names)} from loaded"
    for begin in range(start, total, chunk_rows):
        read = connection.execute(
            f"{select} where rowid >= ? and rowid < ? order by rowid",
            [begin, begin + chunk_rows],
        ).fetchnumpy()
        yield begin, {name: fetched_column(values) for name, values in read.items()}


def _load_text(
    connection: duckdb.DuckDBPyConnection,
    path: Path,
    columns: Mapping[str, str] | None,
    order_by: str,
) -> tuple[int, list[str], list[Reject]]:
    """Bring a CSV file into the table `loaded`, in the order of the instants in `order_by`."""
    mark, there = header_of(path)
    wanted = _wanted(columns, there, str(path))
    if order_by not in wanted:
        raise InputError(f"'{path}' has no column {order_by!r}; it has {', '.join(there)}")
    rejects = load_csv(connection, path, mark, there, "read")
    picked = ", ".join(f"{quoted(own)} as {quoted(name)}" for name, own in wanted.items())
    time = quoted(wanted[order_by])
    connection.execute(
        f"create temp table loaded as select {picked} from read order by "
        f"coalesce(try_cast({time} as bigint), epoch_us(try_cast({time} as timestamp))), rowid"
    )
    return _counted(connection), list(wanted), rejects


def numeric_names(stream: Stream) -> set[str]:
    """The fields of a stream that hold numbers, its times too: text that is a whole number is one there."""
    numbers = {
        name for name, field in stream.fields.items() if isinstance(field, Number | Integer | Flag)
    }
    return numbers | {stream.time, *([stream.known] if stream.known else [])}


def _spoken(texts: Texts) -> Sequence[Any] | npt.NDArray[Any]:
    """The cells, as numbers where they are spelled as JSON spells them; an array when all are or are null."""
    cells = texts.to_list()
    try:
        whole = np.array([np.nan if cell is None else float(cell) for cell in cells])
        plain = all(cell is None or _SPELLED.fullmatch(cell) for cell in cells)
    except ValueError:
        plain = False
    if plain and (np.abs(whole[~np.isnan(whole)]) < EXACT).all():
        return whole
    return [spoken_cell(cell) for cell in cells]


def spoken_cell(cell: str | None) -> str | float | int | None:
    """A cell of text as the number that it spells; a date as its first moment; else as it is.

    >>> spoken_cell("12"), spoken_cell("1.5e3"), spoken_cell("2024-02-29"), spoken_cell("twelve")
    (12, 1500.0, '2024-02-29T00:00:00', 'twelve')
    """
    if cell is None or not _SPELLED.fullmatch(cell):
        return f"{cell}T00:00:00" if cell and _DATE.fullmatch(cell) else cell
    if _WHOLE.fullmatch(cell) and len(cell) < 300:
        return int(cell)
    return float(cell)


def _wanted(columns: Mapping[str, str] | None, there: Sequence[str], path: str) -> dict[str, str]:
    """The file's name of each wanted column; InputError for one that the file does not have."""
    wanted = dict(columns) if columns is not None else {name: name for name in there}
    missing = sorted({own for own in wanted.values() if own not in there})
    if missing or not wanted:
        raise InputError(
            f"{path!r} has no column {', '.join(map(repr, missing)) or 'at all'}; it has {', '.join(there)}"
        )
    return wanted


def _counted(connection: duckdb.DuckDBPyConnection) -> int:
    counted = connection.execute("select count(*) from loaded").fetchone()
    return int(counted[0]) if counted else 0


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
        wanted = _wanted(columns, list(types), path)
        if order_by is not None and order_by not in wanted:
            raise InputError(f"order_by={order_by!r} is not one of the columns {', '.join(wanted)}")
        picked = ", ".join(
            f"{cell_expression(own, types[own])} as {quoted(name)}" for name, own in wanted.items()
        )
        connection.execute(f"create temp table read as select {picked} from {reader}(?)", [path])
        order = "" if order_by is None else f" order by {quoted(order_by)}, rowid"
        connection.execute(f"create temp table loaded as select * from read{order}")
        total = _counted(connection)
    except duckdb.Error as error:
        raise InputError(f"{path!r} cannot be read: {error}") from error
    return total, list(wanted)


def cell_expression(name: str, kind: str) -> str:
    """The column as one of the few types that become arrays."""
    own = quoted(name)
    if kind in _INTEGERS or kind in {"DOUBLE", "BOOLEAN", "VARCHAR"}:
        return own
    if kind in {"FLOAT", "HUGEINT", "UHUGEINT"} or kind.startswith("DECIMAL"):
        return f"{own}::double"
    if kind == "TIMESTAMP WITH TIME ZONE":
        return f"epoch_us({own})"
    if kind == "TIMESTAMP_NS":  # cut as text is, where a cast would round into the next microsecond
        ns = f"epoch_ns({own})"
        cut = f"make_timestamp(({ns} - (({ns} % 1000) + 1000) % 1000) // 1000)"
        return f"case when isfinite({own}::timestamp) then {cut} end"
    if kind in _LOCAL:
        return f"{own}::timestamp"
    return f"{own}::varchar"


def fetched_column(values: Any) -> npt.NDArray[Any] | Texts:
    """A column as DuckDB gives it to numpy, with its texts as Texts."""
    array: npt.NDArray[Any] = values
    if array.dtype.kind != "O":
        return array
    missing = np.ma.getmaskarray(array)
    texts = np.ma.getdata(array).tolist()
    if missing.any():
        texts = [None if gone else text for text, gone in zip(texts, missing.tolist(), strict=True)]
    return Texts.of(texts)


def quoted(name: str) -> str:
    """The name of a column as SQL has it."""
    return '"' + name.replace('"', '""') + '"'
