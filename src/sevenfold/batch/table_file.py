"""A file of rows to fill, read and filled a range of rows at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import duckdb
import numpy.typing as npt

from sevenfold.batch.rows import Computed, require_column
from sevenfold.errors import InputError
from sevenfold.sources.files import cell_expression, fetched_column
from sevenfold.sources.raw import Raw
from sevenfold.stores.durable import sync_file, sync_folder

__all__ = ["FileRows", "TableFile", "join_parts", "table_of", "write_columns"]

_TEXTS = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_ROW = "file_row_number"
# One thread keeps the rows in the order of the file; nothing is fetched from elsewhere.
_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "threads": 1,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}


class TableFile:
    """A Parquet file; raises InputError for one that cannot be read."""

    def __init__(self, path: Path, named: Path | None = None) -> None:
        self.path = path
        self.named = named or path
        with _connected(self.named) as connection:
            described = connection.execute("describe select * from read_parquet(?)", [str(path)])
            self.types = {str(row[0]): str(row[1]) for row in described.fetchall()}
            counted = connection.execute("select count(*) from read_parquet(?)", [str(path)])
            (self.total,) = counted.fetchone() or (0,)
        if _ROW in self.types:
            raise InputError(f"$.{_ROW}: a column of this name cannot be read; rename it")

    def rows(self, begin: int, end: int) -> FileRows:
        """The rows from number `begin` up to `end`."""
        return FileRows(self, begin, end)


class FileRows:
    """Some rows of a file that follow one another."""

    def __init__(self, table: TableFile, begin: int, end: int) -> None:
        self._table, self._begin, self._end = table, begin, end

    @property
    def names(self) -> tuple[str, ...]:
        """The columns, in order."""
        return tuple(self._table.types)

    def __len__(self) -> int:
        """The number of rows."""
        return self._end - self._begin

    def column(self, name: str) -> Raw:
        """The cells of a column."""
        require_column(name, self.names)
        cells = cell_expression(name, self._table.types[name])
        with _connected(self._table.named) as connection:
            return fetched_column(
                connection.execute(
                    f"select {cells} as cell from {self._source()}", [str(self._table.path)]
                ).fetchnumpy()["cell"]
            )

    def write(self, computed: Computed, out: Path) -> None:
        """Write the rows with the features behind their own columns to `out`, whole or not at all."""
        part = out.with_name(f".{out.name}.new")
        with _connected(out) as connection:
            connection.register("computed", dict(computed))
            connection.execute(
                f"copy (select * from (select * from {self._source()}) positional join computed) "
                "to ? (format parquet)",
                [str(self._table.path), str(part)],
            )
        _put(part, out)

    def _source(self) -> str:
        """The rows as SQL; whole files are read without a number for each row."""
        if (self._begin, self._end) == (0, self._table.total):
            return "read_parquet(?)"
        return f"read_parquet(?) where {_ROW} >= {self._begin} and {_ROW} < {self._end}"


def table_of(spine: Path, folder: Path) -> TableFile:
    """The file; as Parquet in `folder` if it is text.

    Raises InputError for a file that is not there, or of another kind.
    """
    if not spine.is_file():
        raise InputError(f"there is no file {spine}")
    if spine.suffix == ".parquet":
        return TableFile(spine)
    if not spine.name.endswith(_TEXTS):
        raise InputError(
            f"{str(spine)!r} cannot be read: its name must end in .parquet, {', '.join(_TEXTS)}"
        )
    same = folder / "spine.parquet"
    if not same.exists():
        _to_parquet(spine, same)
    return TableFile(same, spine)


def _to_parquet(path: Path, out: Path) -> None:
    """Write the rows of a CSV file as Parquet, in their order, without holding them all."""
    part = out.with_name(f".{out.name}.new")
    with _connected(path) as connection:
        connection.execute(
            "copy (select * from read_csv(?)) to ? (format parquet)", [str(path), str(part)]
        )
    _put(part, out)


def write_columns(columns: Mapping[str, npt.NDArray[Any]], out: Path) -> None:
    """Write columns of texts and numbers to `out`, a new Parquet file."""
    # Without rows a column of objects says nothing of its type.
    cells = ", ".join(
        f'"{name}"::varchar as "{name}"' if column.dtype == object else f'"{name}"'
        for name, column in columns.items()
    )
    with _connected(out) as connection:
        connection.register("computed", dict(columns))
        connection.execute(f"copy (select {cells} from computed) to ? (format parquet)", [str(out)])


def join_parts(
    parts: Sequence[Path],
    out: Path,
    folder: Path,
    kind: Literal["parquet", "csv"] = "parquet",
) -> None:
    """Put the rows of files one after the other into `out`, whole or not at all, by way of `folder` beside it."""
    if len(parts) == 1 and kind == "parquet":
        _put(parts[0], out)
        return
    whole = folder / f"whole.{kind}"
    with _connected(out) as connection:
        connection.execute(
            f"copy (select * from read_parquet(?)) to ? (format {kind})",
            [[str(one) for one in parts], str(whole)],
        )
    _put(whole, out)


def _put(part: Path, out: Path) -> None:
    try:
        sync_file(part)
        os.replace(part, out)
        sync_folder(out.parent)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise InputError(f"{out} cannot be written: {error}") from error


@contextmanager
def _connected(about: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    try:
        with duckdb.connect(config=_SETTINGS) as connection:
            yield connection
    except duckdb.Error as error:
        raise InputError(f"{str(about)!r} cannot be read or written: {error}") from error
