"""A block of events as bytes that know when they are damaged.

    byte 0       version of the format, 1
    bytes 1-4    CRC-32 of all the rest and of the block's position, little-endian
    bytes 5-     MessagePack: stream, count, columns as little-endian bytes

A checksum that includes the position also finds a whole block under another one's key.
"""

from __future__ import annotations

import zlib
from typing import Any

import msgspec
import numpy as np

from sevenfold.errors import StoreError
from sevenfold.types import Column, EventBatch, Texts

__all__ = ["MAX_EVENTS", "decode_block", "encode_block", "key_of", "position_of"]

MAX_EVENTS = 8_192
"""Events in a block: large enough to read fast, small enough to skip."""

_VERSION = 1
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


def encode_block(batch: EventBatch, first: int, last: int, position: int) -> bytes:
    """Events `first` up to `last` of the batch as the block at `position`."""
    numbers: dict[str, bytes] = {}
    texts: dict[str, _Text] = {}
    for name, column in batch.fields.items():
        if isinstance(column, Texts):
            texts[name] = _text(column, first, last)
        else:
            numbers[name] = column[first:last].astype("<f8", copy=False).tobytes()
    payload = _encode(
        _Block(
            batch.stream,
            last - first,
            batch.event_us[first:last].astype("<i8", copy=False).tobytes(),
            batch.known_us[first:last].astype("<i8", copy=False).tobytes(),
            _text(batch.event_ids, first, last),
            {name: _text(column, first, last) for name, column in batch.keys.items()},
            numbers,
            texts,
        )
    )
    return bytes([_VERSION]) + _checksum(payload, position) + payload


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


def _text(column: Texts, first: int, last: int) -> _Text:
    offsets = column.offsets[first : last + 1]
    valid = column.valid[first:last]
    return _Text(
        column.data[offsets[0] : offsets[-1]].tobytes(),
        np.diff(offsets).astype("<u4").tobytes(),
        b"" if valid.all() else np.packbits(valid).tobytes(),
    )


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
