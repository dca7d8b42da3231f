"""The tables of a store: fixed names, so that any two processes mean the same by them."""

from __future__ import annotations

from sevenfold.errors import StoreError

__all__ = [
    "ADDED",
    "DEAD",
    "IDS",
    "LABELS",
    "LOG",
    "META",
    "PREDICTIONS",
    "REQUESTS",
    "SHADOWS",
    "SLATES",
    "STATE",
    "TABLES",
    "unknown_table",
]

LOG = "log"
"""Blocks of events, keyed by the position of their first event."""

IDS = "ids"
"""The event ids of the last horizon, to know a second delivery."""

STATE = "state"
"""The online state of every view and entity key."""

META = "meta"
"""Positions, counters and declarations: small values under readable names."""

DEAD = "dead"
"""Rows that could not become events."""

PREDICTIONS = "predictions"
"""What was answered, with the features it was answered from."""

REQUESTS = "requests"
"""Request id to key in `predictions`, so that a repeated request gets the same answer."""

LABELS = "labels"
"""The outcome of every exposure, once."""

SLATES = "slates"
"""Slates made ahead, by table and key."""

SHADOWS = "shadows"
"""The scores of a shadow, under the keys of the answers in `predictions`."""

TABLES = (LOG, IDS, STATE, META, DEAD, PREDICTIONS, REQUESTS, LABELS, SLATES, SHADOWS)

ADDED = frozenset({SLATES, SHADOWS})
"""Tables that a store of an earlier version lacks until it is opened to write."""


def unknown_table(name: str) -> StoreError:
    """The error for a table that no store has."""
    return StoreError(f"a store has no table {name!r}: the tables are {', '.join(TABLES)}")
