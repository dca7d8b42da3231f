"""What an answer was made from, so that whoever writes it can see whether the store still bears it out."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from sevenfold.hashing import canonical_json, digest
from sevenfold.serving.forgetting import forgotten, orders
from sevenfold.serving.record import raw_record
from sevenfold.stores.kv import Transaction
from sevenfold.stores.log import position

__all__ = ["Basis", "Leaving", "read_basis", "read_leaving"]


class Leaving(NamedTuple):
    """Who is being forgotten, by entity, key and stage; and how many have been."""

    open: tuple[tuple[str, str, str], ...]
    done: int


class Basis(NamedTuple):
    """What an answer was made from: how many events, which declaration, and while who was being forgotten."""

    end: int
    record: bytes | None
    leaving: Leaving

    def standing(self) -> str:
        """All of it but the events, in short: equal where nothing of that has changed."""
        return digest(canonical_json([_record_digest(self.record), *self.leaving]))


def read_basis(txn: Transaction) -> Basis:
    """What an answer from this snapshot is made from."""
    return Basis(position(txn), raw_record(txn), read_leaving(txn))


def read_leaving(txn: Transaction) -> Leaving:
    """Who is being forgotten as the store knows."""
    return Leaving(
        tuple((order.entity, order.key, order.stage) for order in orders(txn)),
        forgotten(txn).entities,
    )


@lru_cache(maxsize=4)
def _record_digest(record: bytes | None) -> str:
    return "" if record is None else digest(record)
