"""How far each source of each stream has been read, kept with the events themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from sevenfold.errors import StoreError
from sevenfold.hashing import digest
from sevenfold.stores.kv import Transaction
from sevenfold.stores.tables import META

__all__ = ["KeptSource", "move_offset", "read_offset", "read_sources"]

_SOURCE = b"source/"
_PART = b"offset/"
_NAME_BYTES = 32

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


@dataclass(frozen=True, slots=True)
class KeptSource:
    """A source that a stream was read from: its name without secrets, and whether it was caught up with.

    Once it was, its rows are known when they arrive: what is read was not there to be known before.
    """

    stream: str
    name: str
    caught_up: bool = False


def read_offset(txn: Transaction, stream: str, source: str) -> dict[str, Any]:
    """How far each part of the source has been read; empty when none has."""
    head = _PART + _address(stream, source)
    found = {}
    for _, value in txn.scan(META, head, head + b"\xff"):
        part, reached = _read(value)
        found[part] = reached
    return found


def move_offset(txn: Transaction, source: KeptSource, moved: Mapping[str, Any]) -> None:
    """Note how far the parts that moved have been read now."""
    address = _address(source.stream, source.name)
    txn.put(META, _SOURCE + address, _encode([source.stream, source.name, source.caught_up]))
    for part, reached in moved.items():
        key = _PART + address + digest(part.encode(), _NAME_BYTES // 2).encode()
        txn.put(META, key, _encode([part, reached]))


def read_sources(txn: Transaction) -> list[KeptSource]:
    """The sources that were read from, by the streams' names and their own."""
    values = (value for _, value in txn.scan(META, _SOURCE, _SOURCE + b"\xff"))
    found = [KeptSource(*_read(value)) for value in values]
    return sorted(found, key=lambda one: (one.stream, one.name))


def _address(stream: str, source: str) -> bytes:
    return digest(_encode([stream, source]), _NAME_BYTES // 2).encode() + b"/"


def _read(value: bytes) -> Any:
    try:
        return _decode(value)
    except msgspec.MsgspecError as error:
        raise StoreError(f"the offset of a source is damaged: {error}") from error
