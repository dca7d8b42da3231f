"""Instants as people write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

__all__ = ["written"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def written(us: int) -> str:
    """An instant as RFC 3339 has it.

    >>> written(1_500_000)
    '1970-01-01T00:00:01.500000Z'
    """
    return (_EPOCH + timedelta(microseconds=us)).isoformat().replace("+00:00", "Z")
