"""Tables of databases: all rows in one snapshot, then what has come since, by a column that grows.

Rows come in the order of the cursor column. A transaction that began early may commit late, with a smaller
cursor than what has been read; so each read begins an `overlap` before the end of the last one, and the rows
of that stretch that were taken before are known by their cursor and key, however long ago it was.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, Protocol
from uuid import UUID

import msgspec

from sevenfold.errors import InputError, TimeError
from sevenfold.hashing import digest
from sevenfold.sources.protocol import Address, Batch, Offset
from sevenfold.spec.stream import Stream
from sevenfold.spec.units import parse_duration

__all__ = ["Dialect", "Snapshot", "Table", "TableSource", "quoted", "table_of"]

_PART = "table"
_ROWS = 20_000
_HASH_BYTES = 8
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_encode = msgspec.msgpack.Encoder().encode


class Snapshot(Protocol):
    """One unmoved view of a database."""

    def columns(self, table: str) -> list[str]:
        """The names of the columns of a table; empty when there is no such table."""
        ...

    def key(self, table: str) -> list[str]:
        """The columns that name a row, if the table says so."""
        ...

    def rows(self, sql: str, values: Sequence[Any], size: int) -> Iterator[Sequence[Sequence[Any]]]:
        """What a query answers, at most `size` rows at a time."""
        ...


class Dialect(Protocol):
    """A database as this module speaks to it; what it raises is an InputError."""

    @property
    def place_holder(self) -> str:
        """What stands for a value in a query."""
        ...

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """A snapshot for the time of a read."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


@dataclass(frozen=True, slots=True)
class Table:
    """Which table is read, by which column that grows, and by which key; `overlap` as it was written."""

    name: str
    cursor: str | None = None
    key: Sequence[str] = ()
    overlap: str | None = None


@dataclass(slots=True)
class _Window:
    """The rows of the last stretch: `before` as the offset has them, and those met in this read."""

    before: frozenset[bytes]
    high: Any = None
    met: deque[tuple[Any, bytes]] = field(default_factory=deque)

    def kept(self) -> bytes:
        """The hashes to go on with."""
        return b"".join(sorted(self.before.union(one for _, one in self.met)))


class TableSource:
    """The rows of one table, new ones by its cursor column, or without one by its key."""

    def __init__(
        self,
        name: str,
        dialect: Dialect,
        table: Table,
        stream: Stream,
        columns: Mapping[str, str] | None = None,
    ) -> None:
        self.name = f"{name}?table={table.name}"
        self.waiting = 0
        self._dialect, self._table, self._stream = dialect, table, stream
        self._columns = columns

    def read(self, offset: Offset) -> Generator[Batch, None, None]:
        """What has come since `offset`, in one snapshot."""
        kept = offset.get(_PART)
        with self._dialect.snapshot() as snapshot:
            names, key = self._shape(snapshot)
            if self._table.cursor is None:
                yield from self._by_key(snapshot, names, key, kept)
            else:
                if kept is None:
                    self._require_cursors(snapshot)
                yield from self._by_cursor(snapshot, names, key, kept)

    def close(self) -> None:
        """Let go of the connection."""
        self._dialect.close()

    def _shape(self, snapshot: Snapshot) -> tuple[dict[str, str], list[str]]:
        """The table's column of every name that is read, and the columns of its key."""
        table = self._table
        there = snapshot.columns(table.name)
        if not there:
            raise InputError(f"{self.name}: there is no such table, or it has no column")
        names = dict(self._columns) if self._columns is not None else {name: name for name in there}
        wanted = [names.get(name, name) for name in self._stream.names()]
        wanted += [table.cursor] if table.cursor is not None else []
        missing = [own for own in (*wanted, *table.key) if own not in there]
        if missing:
            raise InputError(
                f"{self.name}: no column {', '.join(map(repr, missing))}; there are {', '.join(there)}"
            )
        key = list(table.key) or snapshot.key(table.name)
        if not key and table.cursor is None:
            raise InputError(
                f"{self.name}: the table has no primary key: name columns that tell its rows apart, key=a,b, "
                "or one that grows, cursor=updated_at"
            )
        return names, key

    def _require_cursors(self, snapshot: Snapshot) -> None:
        query = (
            f"select count(*) from {quoted(self._table.name)} "
            f"where {quoted(self._table.cursor or '')} is null"
        )
        ((count,),) = next(snapshot.rows(query, [], 1))
        if count:
            raise InputError(
                f"{self.name}: {count:,} rows have no {self._table.cursor!r}: they would never be read; name a "
                "cursor column that every row has"
            )

    def _by_key(
        self, snapshot: Snapshot, names: dict[str, str], key: list[str], kept: Any
    ) -> Iterator[Batch]:
        where, values = "", []
        if kept is not None:
            values = [_unpacked(value) for value in kept["after"]]
            marks = ", ".join([self._dialect.place_holder] * len(key))
            where = f"({_listed(key)}) > ({marks})"
        for rows in self._select(snapshot, names, key, where, values):
            after = [_packed(value) for value in rows[-1][len(names) :]]
            yield Batch(_columns(names, rows), {_PART: {"after": after}})

    def _by_cursor(
        self, snapshot: Snapshot, names: dict[str, str], key: list[str], kept: Any
    ) -> Iterator[Batch]:
        window, where, values = _Window(frozenset()), "", []
        if kept is not None:
            seen = kept["seen"]
            every = range(0, len(seen), _HASH_BYTES)
            window = _Window(frozenset(seen[at : at + _HASH_BYTES] for at in every))
            window.high = _unpacked(kept["high"])
            where = f"{quoted(self._table.cursor or '')} >= {self._dialect.place_holder}"
            values = [self._low(window.high)]
        order = [self._table.cursor or "", *key]
        for rows in self._select(snapshot, names, order, where, values):
            fresh = [row for row in rows if self._is_new(row, len(names), bool(key), window)]
            if fresh:
                yield Batch(_columns(names, fresh), self._moved(window))
        if window.before - {one for _, one in window.met}:
            window.before = frozenset()
            yield Batch([], self._moved(window))

    def _moved(self, window: _Window) -> Offset:
        return {_PART: {"high": _packed(window.high), "seen": window.kept()}}

    def _is_new(self, row: Sequence[Any], width: int, keyed: bool, window: _Window) -> bool:
        """Whether a row was not taken before; it is from now on."""
        named = row[width:] if keyed else row
        one = bytes.fromhex(digest(_encode([_packed(v) for v in named]), _HASH_BYTES))
        cursor = row[width]
        try:
            window.high = cursor if window.high is None else max(window.high, cursor)
            window.met.append((cursor, one))
            low = self._low(window.high)
            while window.met and window.met[0][0] < low:
                window.met.popleft()
        except TypeError as error:
            raise InputError(
                f"{self.name}: {self._table.cursor!r} holds values of several kinds: {error}"
            ) from error
        return one not in window.before

    def _low(self, high: Any) -> Any:
        """Where to begin to read again: the overlap before `high`."""
        overlap = self._table.overlap
        try:
            match high:
                case datetime():
                    return high - timedelta(microseconds=parse_duration(overlap or "10 min"))
                case date():
                    days = -(-parse_duration(overlap or "1 d") // 86_400_000_000)
                    return high - timedelta(days=days)
                case int():
                    return high - int(overlap or 1_000)
                case float():
                    return high - float(overlap or 0)
                case Decimal():
                    return high - Decimal(overlap or 0)
                case str() if overlap != "0":
                    return _earlier(high, parse_duration(overlap or "10 min"))
        except (TimeError, ValueError, ArithmeticError) as error:
            raise InputError(
                f"{self.name}: an overlap of {overlap or '10 min'!r} before {high!r} cannot be found: {error}; "
                "give a duration for times, a number for numbers, or overlap=0 for another text"
            ) from error
        return high

    def _select(
        self,
        snapshot: Snapshot,
        names: dict[str, str],
        order: list[str],
        where: str,
        values: Sequence[Any],
    ) -> Iterator[Sequence[Sequence[Any]]]:
        query = f"select {_listed([*names.values(), *order])} from {quoted(self._table.name)}"
        query += f" where {where}" if where else ""
        query += f" order by {_listed(order)}"
        yield from (rows for rows in snapshot.rows(query, values, _ROWS) if rows)


def table_of(address: Address) -> Table:
    """The table that an address names, with its options `cursor`, `key` and `overlap`."""
    options = address.options
    key = [name for name in options.get("key", "").split(",") if name]
    return Table(
        address.required("table"), options.get("cursor") or None, key, options.get("overlap")
    )


def quoted(name: str) -> str:
    """A name, with the names of schemas before it, as SQL has it.

    >>> quoted("shop.sales")
    '"shop"."sales"'
    """
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split("."))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(quoted(name) for name in names)


def _earlier(text: str, by_us: int) -> str:
    """A time as text, some time earlier, in a spelling that is not greater than its own would be."""
    at = datetime.fromisoformat(text)
    before = (at - timedelta(microseconds=by_us)).replace(tzinfo=None)
    return before.isoformat(sep="T" if "T" in text else " ", timespec="seconds")


def _columns(names: dict[str, str], rows: Sequence[Sequence[Any]]) -> dict[str, list[Any]]:
    return {name: [_plain(row[at]) for row in rows] for at, name in enumerate(names)}


def _plain(value: Any) -> Any:
    """A value of a database as one that the checks know."""
    match value:
        case Decimal():
            if value.is_nan():
                return None
            whole = value.is_finite() and value == value.to_integral_value()
            return int(value) if whole else float(value)
        case datetime():
            return value
        case date():
            return datetime(value.year, value.month, value.day)  # noqa: DTZ001  local, as it is there
        case UUID():
            return str(value)
        case _:
            return value


def _packed(value: Any) -> Any:
    """A value that MessagePack can hold, from which `_unpacked` makes the same again."""
    match value:
        case datetime():
            aware = value.tzinfo is not None
            gap = (value if aware else value.replace(tzinfo=UTC)) - _EPOCH
            return ["aware" if aware else "naive", gap // timedelta(microseconds=1)]
        case date():
            return ["date", value.isoformat()]
        case Decimal():
            return ["decimal", str(value)]
        case UUID():
            return ["uuid", str(value)]
        case int() if not -(1 << 63) <= value < 1 << 63:
            return ["decimal", str(value)]
        case None | bool() | int() | float() | str() | bytes():
            return value
        case _:
            return ["other", repr(value)]


def _unpacked(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    kind, held = value
    match kind:
        case "aware":
            return _EPOCH + timedelta(microseconds=held)
        case "naive":
            return (_EPOCH + timedelta(microseconds=held)).replace(tzinfo=None)
        case "date":
            return date.fromisoformat(held)
        case "decimal":
            return Decimal(held)
        case "uuid":
            return UUID(held)
        case _:
            return held
