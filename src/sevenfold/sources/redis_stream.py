"""Redis Streams as a source: entries in order, the last id kept by us."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

import redis

from sevenfold.clock import Clock
from sevenfold.errors import InputError
from sevenfold.sources.files import numeric_names, spoken_cell
from sevenfold.sources.lines import parse_object
from sevenfold.sources.protocol import Address, Batch, Offset, Origin, Poison, Source
from sevenfold.spec.stream import Stream

__all__ = ["RedisStreamSource", "open_address"]

_PART = "stream"
_ROWS = 5_000


class RedisStreamSource:
    """The entries of one stream.

    An entry is the JSON object in its field `json` (or in `?field=`); without that field, its fields are the row,
    numbers where the stream declares numbers. Read without a group: nothing is changed at the server.
    Entries that were trimmed away before they were read are told of.
    """

    def __init__(self, address: Address, stream: Stream) -> None:
        self._key = address.required("stream")
        self.name = f"{address.shown}?stream={self._key}"
        self.waiting = 0
        self._field = address.options.get("field", "json").encode()
        self._numeric, self._columns = numeric_names(stream), address.columns
        secure = {"redis+stream": "redis", "rediss+stream": "rediss"}[address.scheme]
        try:
            self._server: Any = redis.Redis.from_url(
                f"{secure}:{address.place}", socket_timeout=20, socket_connect_timeout=10
            )
        except (ValueError, redis.RedisError) as error:
            raise InputError(f"{self.name}: {error}") from error

    def read(self, offset: Offset) -> Generator[Batch, None, None]:
        """The entries up to the end that the stream has now."""
        kept = offset.get(_PART, {"id": "0-0", "count": None})
        last = str(kept["id"])
        try:
            count, lost = self._begin(last, kept["count"])
            if lost:
                note = f"{self.name}: {lost:,} entries were deleted before they were read"
                yield Batch([], {_PART: {"id": last, "count": count}}, notes=[note])
            while found := self._server.xrange(self._key, min=f"({last}", count=_ROWS):
                last, count = found[-1][0].decode(), count + len(found)
                yield self._batch(found, {_PART: {"id": last, "count": count}})
        except redis.RedisError as error:
            raise InputError(f"{self.name} cannot be read: {error}") from error

    def close(self) -> None:
        """Let go of the connection."""
        self._server.close()

    def _begin(self, last: str, count: int | None) -> tuple[int, int]:
        """How many entries were ever added up to where the read begins, and how many of them were never read.

        `count` is the number as it was at `last`. A server before Redis 7 does not count: then none are missed.
        """
        if not self._server.exists(self._key):
            return count or 0, 0
        about = self._server.xinfo_stream(self._key)
        gone = int(about.get("entries-added", about["length"])) - int(about["length"])
        first = about["first-entry"]
        if count is not None and first and _order(first[0].decode()) <= _order(last):
            return count, 0
        return max(gone, count or 0), 0 if count is None else max(gone - count, 0)

    def _batch(self, found: list[tuple[bytes, dict[bytes, bytes]]], moved: Offset) -> Batch:
        rows, ids, poison = [], [], []
        for raw_id, fields in found:
            one = raw_id.decode()
            row = self._parsed(one, fields)
            if isinstance(row, Poison):
                poison.append(replace(row, origin={"stream": self._key, "id": one}))
            else:
                rows.append(row)
                ids.append(one)
        return Batch(rows, moved, poison, self._origin_of(ids))

    def _parsed(self, one: str, fields: dict[bytes, bytes]) -> dict[str, Any] | Poison:
        if self._field in fields:
            row = parse_object(fields[self._field], f"stream {self._key}, entry {one}")
            if isinstance(row, Poison):
                return row
        else:
            texts = {_text(name): _text(value) for name, value in fields.items()}
            row = {n: spoken_cell(v) if n in self._numeric else v for n, v in texts.items()}
        if self._columns is not None:
            return {name: row.get(own) for name, own in self._columns.items()}
        return row

    def _origin_of(self, ids: list[str]) -> Origin:
        return lambda row: {"stream": self._key, "id": ids[row]}


def open_address(address: Address, stream: Stream, _clock: Clock) -> Source:
    """The source at `redis+stream://HOST:PORT/DB?stream=KEY&field=json`."""
    return RedisStreamSource(address, stream)


def _order(entry: str) -> tuple[int, int]:
    """An entry's id as what it is ordered by.

    >>> _order("1700000000000-2") < _order("1700000000000-10")
    True
    """
    ms, _, count = entry.partition("-")
    return int(ms), int(count or 0)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")
