"""When events say that they happened, where that was after they became known.

Such an event counts from when it became known; what it said itself is kept here, under the hash of its id.
"""

from __future__ import annotations

from collections.abc import Mapping

from sevenfold.hashing import digest
from sevenfold.stores.kv import Transaction
from sevenfold.stores.tables import META
from sevenfold.types import Instant

__all__ = ["keep_originals", "original_us"]

_HEAD = b"clamped/"


def keep_originals(txn: Transaction, stream: str, originals: Mapping[str, Instant]) -> None:
    """Keep what events, by their ids, said of their time; what was kept of one before stays."""
    for event_id, us in originals.items():
        key = _key(stream, event_id)
        if txn.get(META, key) is None:
            txn.put(META, key, us.to_bytes(8, "big", signed=True))


def original_us(txn: Transaction, stream: str, event_id: str) -> Instant | None:
    """What an event said of its time, if it was clamped; None for one that counts as it said."""
    raw = txn.get(META, _key(stream, event_id))
    return None if raw is None else int.from_bytes(raw, "big", signed=True)


def _key(stream: str, event_id: str) -> bytes:
    return _HEAD + digest(f"{stream}/{event_id}".encode(), 16).encode()
