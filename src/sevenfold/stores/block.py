"""A block of events as bytes that know when they are damaged.

    byte 0       version of the format, 1
    bytes 1-4    CRC-32 of all the rest and of the block's position, little-endian
    bytes 5-     MessagePack: stream, count, columns as little-endian bytes

A checksum that includes the position also finds a whole block under another one's key.
"""

from __future__ import annotations

import zlib
from math import prod
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from sevenfold.errors import StoreError
from sevenfold.types import Column, EventBatch, Texts

__all__ = ["MAX_EVENTS", "Encoder", "decode_block", "encode_block", "key_of", "position_of"]

MAX_EVENTS = 8_192
"""Events in a block: large enough to read fast, small enough to skip."""

_VERSION = 1
_FIRST = bytes([_VERSION])
_HEAD = 5


class _Text(msgspec.Struct, array_like=True):
    """A column of text: its bytes, the length of each, and which are not null (nothing: all)."""

    data: bytes
    lengths: bytes
    valid: bytes


class _Block(msgspec.Struct, array_like=True):
    """The columns of a block."""

    stream: str
    count: int
    event_us: bytes
    known_us: bytes
    event_ids: _Text
    keys: dict[str, _Text]
    numbers: dict[str, bytes]
    texts: dict[str, _Text]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Block).decode
_stream_of = msgspec.msgpack.Decoder(
    tuple[
        str,
        msgspec.Raw,
        msgspec.Raw,
        msgspec.Raw,
        msgspec.Raw,
        msgspec.Raw,
        msgspec.Raw,
        msgspec.Raw,
    ]
).decode


def key_of(position: int) -> bytes:
    """The key of the block that begins at `position`."""
    return position.to_bytes(8, "big")


def position_of(key: bytes) -> int:
    """The position that a block's key names; StoreError when it is no such key."""
    if len(key) != 8:
        raise StoreError(
            f"the log holds a key of {len(key)} bytes ({key.hex()}); the store is damaged"
        )
    return int.from_bytes(key, "big")


class Encoder:
    """A batch that is cut into blocks: its columns are laid out once, a block is pieces of them."""

    def __init__(self, batch: EventBatch) -> None:
        self._stream = batch.stream
        self._event_us = _Numbers(batch.event_us, "<i8")
        self._known_us = _Numbers(batch.known_us, "<i8")
        self._event_ids = _Strings(batch.event_ids)
        self._keys = [(name, _Strings(column)) for name, column in batch.keys.items()]
        self._numbers: list[tuple[str, _Numbers]] = []
        self._texts: list[tuple[str, _Strings]] = []
        for name, column in batch.fields.items():
            if isinstance(column, Texts):
                self._texts.append((name, _Strings(column)))
            else:
                self._numbers.append((name, _Numbers(column, "<f8")))

    def block(self, first: int, last: int, position: int) -> bytes:
        """Events `first` up to `last` of the batch as the block at `position`."""
        payload = _encode(
            _Block(
                self._stream,
                last - first,
                self._event_us.cut(first, last),
                self._known_us.cut(first, last),
                self._event_ids.cut(first, last),
                {name: column.cut(first, last) for name, column in self._keys},
                {name: column.cut(first, last) for name, column in self._numbers},
                {name: column.cut(first, last) for name, column in self._texts},
            )
        )
        return _FIRST + _checksum(payload, position) + payload


def encode_block(batch: EventBatch, first: int, last: int, position: int) -> bytes:
    """Events `first` up to `last` of the batch as the block at `position`."""
    return Encoder(batch).block(first, last, position)


def decode_block(value: bytes, position: int, stream: str | None = None) -> EventBatch | None:
    """The events of the block at `position`; None when `stream` is given and is another one.

    Raises StoreError when a byte of it is not what was written.
    """
    if not value or value[0] != _VERSION:
        found = f"version {value[0]}" if value else "nothing"
        raise StoreError(
            f"the block at position {position} has {found}, this release reads version {_VERSION}: "
            "the store is damaged or was written by a later release"
        )
    payload = memoryview(value)[_HEAD:]
    if value[1:_HEAD] != _checksum(payload, position):
        raise _damaged(position, "its checksum does not match")
    try:
        if stream is not None and _stream_of(payload)[0] != stream:
            return None
        return _batch(_decode(payload))
    except (msgspec.MsgspecError, ValueError) as error:  # the checksum holds: written by other code
        raise _damaged(position, str(error)) from error


def _checksum(payload: bytes | memoryview, position: int) -> bytes:
    return zlib.crc32(payload, zlib.crc32(key_of(position))).to_bytes(4, "little")


def _damaged(position: int, why: str) -> StoreError:
    return StoreError(
        f"the block at position {position} of the log is damaged ({why}): restore the store from a copy"
    )


class _Numbers:
    """A column of numbers, or of vectors, as little-endian bytes."""

    __slots__ = ("_bytes", "_size")

    def __init__(self, column: npt.NDArray[Any], kind: str) -> None:
        self._bytes = _bytes_of(column.astype(kind, copy=False))
        self._size = 8 * prod(column.shape[1:])

    def cut(self, first: int, last: int) -> Any:
        return self._bytes[first * self._size : last * self._size]


class _Strings:
    """A column of text as its bytes, where each ends, and their lengths."""

    __slots__ = ("_bytes", "_lengths", "_offset", "_valid")

    def __init__(self, column: Texts) -> None:
        self._bytes = _bytes_of(column.data)
        self._offset = column.offsets.item
        self._lengths = _bytes_of(column.lengths().astype("<u4"))
        is_whole = np.count_nonzero(column.valid) == len(column)
        self._valid = None if is_whole else column.valid

    def cut(self, first: int, last: int) -> _Text:
        bits = b""
        if self._valid is not None and not (valid := self._valid[first:last]).all():
            bits = np.packbits(valid).tobytes()
        return _Text(
            self._bytes[self._offset(first) : self._offset(last)],
            self._lengths[4 * first : 4 * last],
            bits,
        )


def _bytes_of(array: npt.NDArray[Any]) -> Any:
    """The bytes of an array where they lie: a piece is copied once, by the encoder."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data


def _batch(block: _Block) -> EventBatch:
    n = block.count
    fields: dict[str, Column] = {name: _numbers(raw, n) for name, raw in block.numbers.items()}
    fields.update((name, _texts(text, n)) for name, text in block.texts.items())
    return EventBatch(
        block.stream,
        _array(block.event_us, "<i8", n),
        _array(block.known_us, "<i8", n),
        _texts(block.event_ids, n),
        {name: _texts(text, n) for name, text in block.keys.items()},
        fields,
    )


def _numbers(raw: bytes, n: int) -> Any:
    """A column of n numbers, or of n vectors of as many numbers each as there are."""
    width, rest = divmod(len(raw), 8 * n) if n else (1, 0)
    if rest or width <= 1:
        return _array(raw, "<f8", n)
    return _array(raw, "<f8", n * width).reshape(n, width)


def _array(raw: bytes, kind: str, n: int) -> Any:
    values = np.frombuffer(raw, dtype=kind)
    if len(values) != n:
        raise ValueError(f"a column has {len(values)} values, the block {n} events")
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _texts(text: _Text, n: int) -> Texts:
    offsets = np.zeros(n + 1, dtype=np.int64)
    np.cumsum(_array(text.lengths, "<u4", n), out=offsets[1:])
    data = np.frombuffer(text.data, dtype=np.uint8)
    if len(data) != offsets[-1]:
        raise ValueError(
            f"a column of text has {len(data)} bytes, its lengths add up to {offsets[-1]}"
        )
    bits = np.frombuffer(text.valid, dtype=np.uint8)
    valid = (
        np.unpackbits(bits, count=n).astype(np.bool_) if text.valid else np.ones(n, dtype=np.bool_)
    )
    return Texts(data, offsets, valid)
