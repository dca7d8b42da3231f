"""A store of before, whose states lie in LMDB's tree: which one it is, and how its states are moved to their log."""

from __future__ import annotations

from itertools import islice, takewhile
from typing import Any

from sevenfold.errors import StoreError
from sevenfold.stores.state_log import StateLog
from sevenfold.stores.state_transaction import KEY_BYTES, StatesWritten

__all__ = ["LOG", "OTHERS", "has_log", "mark", "move"]

OTHERS = b"state/other"
"""The name LMDB has for states under other keys than hashed ones."""

LOG = b"state/log"
"""The name LMDB has for what it knows of the log of states."""

_NAME = b"state"
_MARK = b"states in a log, format "
_FORMAT = _MARK + b"1"
_ITEMS = 20_000
_BYTES = 16 << 20


def has_log(txn: Any, names: Any) -> bool | None:
    """Whether a store's states lie in a log; None for a new one. StoreError for a format of later."""
    found = txn.get(_NAME, db=names)
    if found is None:
        return None
    raw = bytes(found)
    if raw.startswith(_MARK) and raw != _FORMAT:
        raise StoreError(
            f"the store has its {raw.decode(errors='replace')}, this version knows format 1: open it by a later version"
        )
    return raw == _FORMAT


def mark(txn: Any, names: Any) -> None:
    """Say that states lie in a log: where versions of before look for their table they find what is none, and say so."""
    txn.put(_NAME, _FORMAT, db=names)


def move(log: StateLog, names: Any, others: Any) -> None:
    """Move the states of a store of before, by slices; one commit makes the log that of the store. Killed before it, it begins again."""
    environment = log.environment
    tree = environment.open_db(_NAME, create=False)
    with environment.begin(write=True) as txn:
        txn.drop(log.table, delete=False)
        txn.drop(others, delete=False)
    log.sweep(None)
    last: bytes | None = b""
    while last is not None:
        with environment.begin(write=True) as txn:
            last = _slice(log, txn, tree, last)
    with environment.begin(write=True) as txn:
        with txn.cursor(tree) as cursor:
            txn.cursor(others).putmulti(item for item in cursor if len(item[0]) != KEY_BYTES)
        txn.drop(tree, delete=True)
        mark(txn, names)


def _slice(log: StateLog, txn: Any, tree: Any, last: bytes) -> bytes | None:
    """Move a slice of what comes after a key; the last key looked at, None at the end."""
    states = StatesWritten(log, txn)
    try:
        with txn.cursor(tree) as cursor:
            if not cursor.set_range(last + b"\0"):
                return None
            room = [_BYTES]

            def has_room(item: tuple[bytes, bytes]) -> bool:
                room[0] -= len(item[1])
                return room[0] > 0 or room[0] + len(item[1]) == _BYTES

            found = list(islice(takewhile(has_room, cursor), _ITEMS))
        hashed = [item for item in found if len(item[0]) == KEY_BYTES]
        if hashed:
            states.put_many(hashed)
        states.commit()
        return bytes(found[-1][0])
    finally:
        states.end()
