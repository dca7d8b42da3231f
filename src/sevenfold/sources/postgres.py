"""PostgreSQL as a source, by psycopg 3."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

import psycopg
from psycopg.types.datetime import DateLoader, TimestampLoader, TimestamptzLoader

from sevenfold.clock import Clock
from sevenfold.errors import InputError
from sevenfold.sources.database import TableSource, table_of
from sevenfold.sources.protocol import Address, Source
from sevenfold.spec.stream import Stream

__all__ = ["Postgres", "open_address"]

_CURSOR = "sevenfold"
_OF_TABLES = ("table", "cursor", "key", "overlap")


class Postgres:
    """A database, read and never written; what the server refuses is an InputError."""

    place_holder = "%s"

    def __init__(self, address: str, shown: str) -> None:
        self._address, self._shown = address, shown
        self._connection: psycopg.Connection[Any] | None = None

    @contextmanager
    def snapshot(self) -> Iterator[_Reading]:
        """One read-only transaction in which every query sees the same."""
        try:
            if self._connection is None:
                self._connection = _connected(self._address)
            with self._connection.transaction(force_rollback=True):
                yield _Reading(self._connection)
        except psycopg.Error as error:
            self.close()
            first = str(error).strip().partition("\n")[0]
            raise InputError(f"{self._shown} cannot be read: {first}") from error

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None


class _Reading:
    """A transaction."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def columns(self, table: str) -> list[str]:
        """The names of the columns of a table."""
        return [str(name) for (name,) in self._about(table, _COLUMNS)]

    def key(self, table: str) -> list[str]:
        """Its primary key."""
        return [str(name) for (name,) in self._about(table, _KEY)]

    def rows(self, sql: str, values: Sequence[Any], size: int) -> Iterator[list[Any]]:
        """What a query answers, at most `size` rows at a time, held by the server until they are fetched."""
        with self._connection.cursor(name=_CURSOR) as cursor:
            cursor.itersize = size
            cursor.execute(sql.encode(), values or None)
            while found := cursor.fetchmany(size):
                yield found

    def _about(self, table: str, sql: bytes) -> list[Any]:
        schema, _, name = table.rpartition(".")
        return self._connection.execute(sql, [name, schema or None, schema or None]).fetchall()


_COLUMNS = b"""
    select a.attname from pg_attribute a join pg_class c on c.oid = a.attrelid
    where c.relname = %s and a.attnum > 0 and not a.attisdropped
      and (c.relnamespace = to_regnamespace(quote_ident(%s::text))
           or %s::text is null and pg_table_is_visible(c.oid))
    order by a.attnum
"""
_KEY = b"""
    select a.attname from pg_index i join pg_class c on c.oid = i.indrelid
    join pg_attribute a on a.attrelid = c.oid and a.attnum = any(i.indkey)
    where c.relname = %s and i.indisprimary
      and (c.relnamespace = to_regnamespace(quote_ident(%s::text))
           or %s::text is null and pg_table_is_visible(c.oid))
    order by array_position(i.indkey::int2[], a.attnum)
"""


def open_address(address: Address, stream: Stream, _clock: Clock) -> Source:
    """The source at `postgresql://USER@HOST/NAME?table=NAME&cursor=COLUMN&overlap=10 min&key=a,b`."""
    ours = {n: v for n, v in address.options.items() if n not in _OF_TABLES}
    head = address.url.partition("?")[0]
    database = Postgres(f"{head}?{urlencode(ours)}" if ours else head, address.shown)
    return TableSource(address.shown, database, table_of(address), stream, address.columns)


def _connected(address: str) -> psycopg.Connection[Any]:
    connection = psycopg.connect(address)
    connection.read_only = True
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    for name, loader in _LOADERS:
        connection.adapters.register_loader(name, loader)
    connection.commit()
    return connection


class _Timestamptz(TimestamptzLoader):
    """A time, or its text where Python has no such time: one row of that kind spoils no other."""

    def load(self, data: Any) -> Any:
        """The time, or its text."""
        try:
            return super().load(data)
        except psycopg.DataError:
            return bytes(data).decode()


class _Timestamp(TimestampLoader):
    """The same for a time without a zone."""

    def load(self, data: Any) -> Any:
        """The time, or its text."""
        try:
            return super().load(data)
        except psycopg.DataError:
            return bytes(data).decode()


class _Date(DateLoader):
    """The same for a date."""

    def load(self, data: Any) -> Any:
        """The date, or its text."""
        try:
            return super().load(data)
        except psycopg.DataError:
            return bytes(data).decode()


_LOADERS = (("timestamptz", _Timestamptz), ("timestamp", _Timestamp), ("date", _Date))
