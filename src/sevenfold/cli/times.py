"""Instants as people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sevenfold.errors import InputError

__all__ = ["instant", "written"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def written(us: int) -> str:
    """An instant as RFC 3339 has it.

    >>> written(1_500_000)
    '1970-01-01T00:00:01.500000Z'
    """
    return (_EPOCH + timedelta(microseconds=us)).isoformat().replace("+00:00", "Z")


def instant(text: str) -> int:
    """The microseconds since 1970 of an instant: RFC 3339 with an offset, or whole microseconds; InputError for another text.

    >>> instant("1970-01-01T00:00:01.5Z"), instant("1500000")
    (1500000, 1500000)
    """
    if text.isascii() and text.isdigit() and len(text) <= 18:
        return int(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise InputError(
            f"{text!r} is no instant: give one with its offset, such as 2026-03-01T00:00:00Z"
        )
    return (at - _EPOCH) // timedelta(microseconds=1)
