"""Rows that could not become events: kept with the reason, so that nothing is lost without a trace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from itertools import islice
from typing import Any

import msgspec

from sevenfold.errors import StoreError
from sevenfold.stores.kv import Transaction
from sevenfold.stores.tables import DEAD, META
from sevenfold.types import DeadLetter

__all__ = ["bury", "count_by_reason", "exhume", "letter_stream", "letters", "next_letter", "remove"]

_NEXT = b"dead_letters"
_COUNT = b"dead_letters/"
_DEPTH = 16  # how deep a row is kept; what lies deeper is kept as its text
_INT64 = 1 << 63
_AS_IT_IS = frozenset({type(None), bool, float, bytes})

_encode = msgspec.msgpack.Encoder().encode


class _Kept(msgspec.Struct, array_like=True):
    """A letter as it is kept; the first release wrote no more than the first four."""

    stream: str
    reason: str
    detail: str
    row: dict[str, Any]
    origin: dict[str, Any] = {}
    buried_us: int = 0


_decode = msgspec.msgpack.Decoder(_Kept).decode


def bury(txn: Transaction, letters: Sequence[DeadLetter]) -> None:
    """Keep the letters, in order, and count them by reason."""
    if not letters:
        return
    start = next_letter(txn)
    txn.put_many(
        DEAD,
        [
            (
                (start + i).to_bytes(8, "big"),
                _encode(
                    _Kept(
                        letter.stream,
                        letter.reason,
                        letter.detail,
                        _row(letter.row),
                        _row(letter.origin),
                        letter.buried_us,
                    )
                ),
            )
            for i, letter in enumerate(letters)
        ],
    )
    txn.put(META, _NEXT, (start + len(letters)).to_bytes(8, "big"))
    for reason, n in sorted(Counter(letter.reason for letter in letters).items()):
        key = _COUNT + reason.encode()
        before = int.from_bytes(txn.get(META, key) or b"", "big")
        txn.put(META, key, (before + n).to_bytes(8, "big"))


def count_by_reason(txn: Transaction) -> dict[str, int]:
    """How many letters were ever buried for each reason, by name of the reason."""
    return {
        key[len(_COUNT) :].decode(): int.from_bytes(value, "big")
        for key, value in txn.scan(META, _COUNT, _COUNT + b"\xff")
    }


def exhume(txn: Transaction, limit: int, reason: str | None = None) -> list[DeadLetter]:
    """The newest `limit` letters, newest first; with `reason`, of that reason only.

    Raises StoreError for a letter that cannot be read.
    """
    found: list[DeadLetter] = []
    if limit < 1:
        return found
    for key, value in txn.scan(DEAD, reverse=True):
        letter = _read(value, key)
        if reason is None or letter.reason == reason:
            found.append(letter)
            if len(found) == limit:
                break
    return found


def next_letter(txn: Transaction) -> int:
    """How many letters were ever buried: the number of the next."""
    return int.from_bytes(txn.get(META, _NEXT) or b"", "big")


def letter_stream(value: bytes) -> str:
    """The stream of a letter as it is kept."""
    return _read(value).stream


def letters(txn: Transaction, start: bytes, limit: int) -> list[tuple[bytes, DeadLetter]]:
    """Up to `limit` letters from the key `start` on, oldest first, with their keys."""
    return [(key, _read(value, key)) for key, value in islice(txn.scan(DEAD, start), limit)]


def remove(txn: Transaction, keys: Sequence[bytes]) -> int:
    """Remove the letters under `keys`; how many were there. What was ever buried stays counted."""
    return sum(txn.delete(DEAD, key) for key in keys)


def _read(value: bytes, key: bytes = b"") -> DeadLetter:
    try:
        return DeadLetter(**msgspec.structs.asdict(_decode(value)))
    except msgspec.MsgspecError as error:
        raise StoreError(f"dead letter {key.hex()} is damaged: {error}") from error


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {_text(str(name)): _plain(value, _DEPTH) for name, value in row.items()}


def _plain(value: Any, depth: int) -> Any:
    """`value` as what MessagePack can hold: a number or text it cannot hold is kept as its spelling."""
    if type(value) in _AS_IT_IS:  # nearly all that is not text
        return value
    match value:
        case str():
            return _text(value)
        case bool() | float() | bytes():
            return value
        case date():
            return value.isoformat()
        case int() if -_INT64 <= value < _INT64:
            return value
        case dict() if depth:
            return {_text(str(name)): _plain(inner, depth - 1) for name, inner in value.items()}
        case list() | tuple() if depth:
            return [_plain(inner, depth - 1) for inner in value]
        case _:
            return _text(_spelling(value))


def _spelling(value: Any) -> str:
    if isinstance(value, int) and value.bit_length() > 4_000:  # Python refuses to spell longer ones
        return f"{value:#x}"
    return repr(value)


def _text(value: str) -> str:
    if value.isascii():
        return value
    return value.encode("utf-8", "backslashreplace").decode()  # a lone surrogate has no bytes
