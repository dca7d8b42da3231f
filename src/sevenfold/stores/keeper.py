"""A process of its own that keeps histories beside a server: `python -m sevenfold.stores.keeper`.

It is a companion of the server (`stores/companion.py`), and only reads the store. It may be killed at any moment.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

import msgspec

from sevenfold.stores.companion import Companion
from sevenfold.stores.history import History
from sevenfold.stores.open import open_store

__all__ = ["Orders", "keep", "main"]

_LOG = logging.getLogger(__name__)
_LINGER_S = 20.0
_LOOK_S = 0.5
# Some hundred megabytes, beside a server; `sevenfold history` takes more at a time.
_SEGMENT_EVENTS = 500_000
_MERGE_EVENTS = 1_000_000


class Orders(msgspec.Struct, frozen=True):
    """What to keep: the store's address, the folder, the keys by stream, the events that stay in the log.

    With `verify` all segments are read through once.
    """

    store: str
    folder: str
    wanted: dict[str, list[tuple[str, ...]]]
    head_events: int
    verify: bool = False


def keep(orders: Orders, linger_s: float = _LINGER_S) -> None:
    """Do what is due until nothing has been due for `linger_s`."""
    history = History(
        Path(orders.folder),
        orders.wanted,
        segment_events=_SEGMENT_EVENTS,
        merge_events=_MERGE_EVENTS,
        alone=True,
    )
    store = open_store(orders.store, readonly=True)
    try:
        is_verified = not orders.verify
        idle_s = 0.0
        while idle_s < linger_s:
            if history.step(store, orders.head_events):
                idle_s = 0.0
            elif not is_verified:
                is_verified = True
                for path in history.discard_damaged():
                    _LOG.warning("damaged, made again path=%s", path)
            else:
                time.sleep(_LOOK_S)
                idle_s += _LOOK_S
    finally:
        store.close()


def main() -> None:
    """Keep what the server orders."""
    keep(Companion.ordered(Orders))


if __name__ == "__main__":
    main()
