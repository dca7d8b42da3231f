"""SQLite as a source, by the driver of the standard library."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sevenfold.clock import Clock
from sevenfold.errors import InputError
from sevenfold.sources.database import TableSource, quoted, table_of
from sevenfold.sources.protocol import Address, Source
from sevenfold.spec.stream import Stream

__all__ = ["Sqlite", "open_address"]


class Sqlite:
    """A database file, read and never written; InputError for one that is none."""

    place_holder = "?"

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise InputError(f"there is no database {path}; give a file, sqlite:PATH?table=NAME")
        self._path = path.resolve()
        self._connection: sqlite3.Connection | None = None

    @contextmanager
    def snapshot(self) -> Iterator[_Reading]:
        """One read transaction."""
        try:
            if self._connection is None:
                address = f"file:{quote(str(self._path))}?mode=ro"
                # Made for one thread at a time; a server reads in another than it was opened in.
                self._connection = sqlite3.connect(
                    address, uri=True, isolation_level=None, check_same_thread=False
                )
                self._connection.text_factory = _text
            connection = self._connection
            connection.execute("begin")
            try:
                yield _Reading(connection)
            finally:
                if self._connection is connection:
                    connection.rollback()
        except sqlite3.Error as error:
            self.close()
            raise InputError(f"sqlite:{self._path} cannot be read: {error}") from error

    def close(self) -> None:
        """Let go of the file."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None


class _Reading:
    """A read transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def columns(self, table: str) -> list[str]:
        """The names of the columns of a table."""
        return [name for name, _ in self._described(table)]

    def key(self, table: str) -> list[str]:
        """Its primary key, or the number that SQLite gives every row."""
        ranked = sorted((rank, name) for name, rank in self._described(table) if rank)
        if ranked:
            return [name for _, name in ranked]
        kind = self._connection.execute(
            "select type from sqlite_master where name = ?", [table.rpartition(".")[2]]
        ).fetchone()
        return ["rowid"] if kind == ("table",) else []

    def rows(self, sql: str, values: Sequence[Any], size: int) -> Iterator[list[Any]]:
        """What a query answers, at most `size` rows at a time."""
        cursor = self._connection.execute(sql, values)
        while found := cursor.fetchmany(size):
            yield found

    def _described(self, table: str) -> list[tuple[str, int]]:
        schema, _, name = table.rpartition(".")
        head = f"{quoted(schema)}." if schema else ""
        found = self._connection.execute(f"pragma {head}table_info({quoted(name)})").fetchall()
        return [(str(row[1]), int(row[5])) for row in found]


def open_address(address: Address, stream: Stream, _clock: Clock) -> Source:
    """The source at `sqlite:PATH?table=NAME&cursor=COLUMN&overlap=10 min&key=a,b`."""
    path = Path(address.place)
    database = Sqlite(path)
    return TableSource(
        f"sqlite:{path.resolve()}", database, table_of(address), stream, address.columns
    )


def _text(raw: bytes) -> str:
    """Text as it was stored; what is no UTF-8 keeps its bytes as halves of pairs, which no check lets through."""
    return raw.decode("utf-8", "surrogateescape")
