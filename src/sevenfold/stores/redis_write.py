"""The write transaction of a store in Redis: kept here until it is committed, then sent in few steps."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import hiredis

from sevenfold.stores.kv import (
    MAX_KEY_BYTES,
    Hashes,
    Words,
    bad_key,
    ended,
    joined,
    kept_by_items,
    spread,
)
from sevenfold.stores.redis_scripts import APPLY
from sevenfold.stores.redis_wire import Wire
from sevenfold.stores.tables import TABLES, unknown_table
from sevenfold.types import Ints

__all__ = ["PLACES", "Keys", "Pages", "Writing", "Written", "commit"]

Written = list[tuple[int, list[tuple[bytes, bytes | None]]]]
"""For each table by its place, keys in order with their new values, None for a deleted one."""

PLACES = {name: place for place, name in enumerate(TABLES)}
"""The number of each table."""

_STEP_BYTES = 4 << 20  # a step of the server of this size takes some milliseconds
_STEP_KEYS = 20_000
_PAGE_BYTES = 1 << 18
_MOST_PAGE = 2_048
_MANY = 4_096


class Keys:
    """The names of a home's keys, all with one hash tag: a cluster keeps them on one server."""

    def __init__(self, home: str) -> None:
        self._tag = b"{sevenfold:%s}:" % home.encode()
        self.lock, self.head = self._tag + b"lock", self._tag + b"head"
        self.undos, self.leases = self._tag + b"undos", self._tag + b"leases"
        self.data = [self._tag + b"table:" + name.encode() for name in TABLES]
        self.index = [self._tag + b"keys:" + name.encode() for name in TABLES]
        pack: Any = hiredis.pack_command  # takes a tuple of any length, whatever its type says
        self.ask_head: bytes = pack((b"HGETALL", self.head))
        self.ask_oldest: bytes = pack((b"HMGET", self.head, b"oldest"))
        self._tables = [key for pair in zip(self.data, self.index, strict=True) for key in pair]

    def undo(self, version: int) -> bytes:
        """The hash of what commit `version` replaced."""
        return self._tag + b"undo:%d" % version

    def all(self, version: int, forgotten: Sequence[int] = ()) -> list[bytes]:
        """The keys of a program, in its order."""
        keys = [self.lock, self.head, self.undos, self.leases]
        keys += [self.undo(version), self._gone(version), *self._tables]
        for old in forgotten:
            keys += [self.undo(old), self._gone(old)]
        return keys

    def pages(
        self, wire: Wire, index: bytes, start: bytes, stop: bytes | None, reverse: bool
    ) -> Pages:
        """The keys of a table from `start` to `stop`, in pages."""
        return Pages(wire, index, start, stop, reverse)

    def _gone(self, version: int) -> bytes:
        return self._tag + b"gone:%d" % version


class Pages:
    """The keys of an index in order, a page at a time; small pages where values are large."""

    def __init__(
        self, wire: Wire, index: bytes, start: bytes, stop: bytes | None, reverse: bool
    ) -> None:
        self._wire = wire
        self._index = index
        self._low = b"[" + start if start else b"-"
        self._high = b"+" if stop is None else b"(" + stop
        self._empty = stop == b""
        self._reverse = reverse
        self._size = 8

    def __iter__(self) -> Iterator[list[bytes]]:
        """Pages of at least one key."""
        while not self._empty:
            size = self._size
            ends = (self._high, self._low) if self._reverse else (self._low, self._high)
            name = "ZREVRANGEBYLEX" if self._reverse else "ZRANGEBYLEX"
            page = self._wire.call((name, self._index, *ends, "LIMIT", 0, size))[0]
            if page:
                if self._reverse:
                    self._high = b"(" + page[-1]
                else:
                    self._low = b"(" + page[-1]
                yield page
            if len(page) < size:
                return

    def weigh(self, values: Sequence[bytes | None]) -> None:
        """Choose the size of the next page by the size of the values on this one."""
        total = sum(len(value) for value in values if value is not None)
        fit = len(values) * _PAGE_BYTES // max(total, 1)
        self._size = max(4, min(fit, 8 * self._size, _MOST_PAGE))


class Writing:
    """The one writer's view: what is committed, and what it has written itself."""

    def __init__(self, wire: Wire, keys: Keys) -> None:
        self._wire = wire
        self._keys = keys
        self._mine: dict[str, dict[bytes, bytes | None]] = {name: {} for name in TABLES}
        self._met: set[tuple[str, bytes]] = set()  # keys that a scan has found there
        self._live = True

    def get(self, table: str, key: bytes) -> bytes | None:
        """The value under `key`, its own or the committed one."""
        return self.get_many(table, (key,))[0]

    def get_many(self, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        """The value under each of `keys`."""
        mine = self._table(table)
        if not mine:
            return self._stored(table, keys)
        ask = [key for key in keys if key not in mine]
        found = dict(zip(ask, self._stored(table, ask), strict=True))
        return [mine[key] if key in mine else found[key] for key in keys]

    def gather(self, table: str, keys: Sequence[bytes]) -> tuple[bytes, Ints]:
        """The values under `keys` one after the other, and their lengths."""
        return joined(self.get_many(table, keys))

    def words(self, table: str, asked: Sequence[tuple[bytes, Hashes]]) -> list[Words]:
        """The values of many hashed keys as words."""
        return spread(self, table, asked)

    def put(self, table: str, key: bytes, value: bytes) -> None:
        """Set the value under `key`."""
        self.put_many(table, ((key, value),))

    def put_many(self, table: str, items: Iterable[tuple[bytes, bytes]]) -> None:
        """Set many values, the last one winning."""
        mine = self._table(table)
        for key, value in items:
            if not 0 < len(key) <= MAX_KEY_BYTES:
                raise bad_key(table, key)
            mine[key] = value

    def keep(self, table: str, prefix: bytes, hashes: Hashes, words: Ints, ends: Ints) -> None:
        """Set the values of many hashed keys."""
        kept_by_items(self, table, prefix, hashes, words, ends)

    def delete(self, table: str, key: bytes) -> bool:
        """Remove `key`; True when it was there."""
        mine = self._table(table)
        known = key not in mine and (table, key) in self._met
        if not known and self.get(table, key) is None:
            return False
        mine[key] = None
        return True

    def scan(
        self, table: str, start: bytes = b"", stop: bytes | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """As in the protocol: the keys that were there or written when the scan began."""
        mine = self._table(table)
        own = [key for key in mine if key >= start and (stop is None or key < stop)]
        own.sort(reverse=reverse)
        pages = self._keys.pages(self._wire, self._keys.index[PLACES[table]], start, stop, reverse)
        for page in pages:
            upto = _first_after(own, page[-1], reverse)
            ahead, own = own[:upto], own[upto:]
            merged = sorted({*page, *ahead}, reverse=reverse) if ahead else page
            values = self.get_many(table, merged)
            pages.weigh(values)
            for key, value in zip(merged, values, strict=True):
                # What was deleted since the page was read is not given any more.
                if value is not None and mine.get(key, value) is not None:
                    self._met.add((table, key))
                    yield key, value
        for key in own:
            value = mine.get(key)
            if value is not None:
                yield key, value

    def count(self, table: str) -> int:
        """The number of keys, with what this transaction has changed."""
        mine = self._table(table)
        place = PLACES[table]
        total = int(self._wire.call(("HGET", self._keys.head, b"n%d" % place))[0] or b"0")
        keys = list(mine)
        before = self._stored(table, keys)
        there = sum(value is not None for value in before)
        return total - there + sum(value is not None for value in mine.values())

    def written(self) -> Written:
        """What is to be committed."""
        return [(PLACES[name], sorted(mine.items())) for name, mine in self._mine.items() if mine]

    def end(self) -> None:
        """Make any further use an error."""
        self._live = False

    def _table(self, name: str) -> dict[bytes, bytes | None]:
        if not self._live:
            raise ended()
        mine = self._mine.get(name)
        if mine is None:
            raise unknown_table(name)
        return mine

    def _stored(self, table: str, keys: Sequence[bytes]) -> list[bytes | None]:
        if not keys:
            return []
        data = self._keys.data[PLACES[table]]
        parts = self._wire.call(
            *(("HMGET", data, *keys[at : at + _MANY]) for at in range(0, len(keys), _MANY))
        )
        stored = parts[0] if len(parts) == 1 else [value for part in parts for value in part]
        return [raw[9:] if raw is not None and len(raw) > 8 else None for raw in stored]


def commit(
    wire: Wire,
    keys: Keys,
    turn: tuple[bytes, int, int, int],
    written: Written,
    forgotten: Sequence[int],
) -> list[int]:
    """Commit what was `written`; the versions of earlier commits that the next one may forget.

    `turn` is the token, the version of this commit, and for how many milliseconds the turn and what is replaced
    are kept. Steps before the last write values that no reader sees yet.
    """
    token, version, lock_ms, keep_ms = turn
    steps = list(_steps(written, version.to_bytes(8, "big")))
    for step in steps[:-1]:
        wire.run(APPLY, keys.all(version), token, lock_ms, version, 0, keep_ms, 0, *step)
    last = steps[-1]
    due: list[int] = wire.run(
        APPLY,
        keys.all(version, forgotten),
        *(token, lock_ms, version, 1, keep_ms, len(forgotten), *forgotten),
        *last,
    )
    return due


def _steps(written: Written, header: bytes) -> Iterator[list[Any]]:
    """The arguments of each step: for each table its place, how many keys, and keys and stored values."""
    there = header + b"\x01"
    step: list[Any] = []
    room = _STEP_BYTES
    for place, items in written:
        at = len(step)
        step += [place, 0]
        n = 0
        for key, value in items:
            step += (key, header if value is None else there + value)
            n += 1
            room -= len(key) + (0 if value is None else len(value))
            if room < 0 or n == _STEP_KEYS:
                step[at + 1] = n
                yield step
                step, room, n, at = [place, 0], _STEP_BYTES, 0, 0
        step[at + 1] = n
    if step:
        yield step


def _first_after(keys: list[bytes], last: bytes, reverse: bool) -> int:
    """How many of the sorted keys do not come after `last`."""
    if not reverse:
        return bisect_left(keys, last + b"\0")
    return bisect_left([key < last for key in keys], True)
