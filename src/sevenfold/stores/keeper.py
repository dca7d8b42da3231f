"""A process of its own that keeps histories beside a server: `python -m sevenfold.stores.keeper`.

It reads its orders as one line of JSON from its standard input, and ends when that closes: so it never outlives
the server, however the server ends. It only reads the store. It may be killed at any moment.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path

import msgspec

from sevenfold.stores.history import History
from sevenfold.stores.open import open_store
from sevenfold.turns import LONG_S, ask_for_turns

__all__ = ["Orders", "end_with_the_server", "keep", "main", "ordered"]

_LOG = logging.getLogger(__name__)
_NICE = 10
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
    """Keep what standard input orders."""
    logging.basicConfig(
        level=logging.INFO,
        format="time=%(asctime)s level=%(levelname)s logger=%(name)s %(message)s",
    )
    os.nice(_NICE)
    ask_for_turns(LONG_S)
    # Unbuffered: a thread that waits inside a buffer holds its lock, and no interpreter ends in peace then.
    orders = msgspec.json.decode(ordered(0), type=Orders)
    threading.Thread(target=end_with_the_server, daemon=True).start()
    keep(orders)


def ordered(descriptor: int) -> bytes:
    """The one line that a server gives to a process beside it."""
    line = b""
    while not line.endswith(b"\n") and (more := os.read(descriptor, 65_536)):
        line += more
    return line


def end_with_the_server() -> None:
    """Wait until the server closes this process's standard input, as it does however it ends, and end at once."""
    while os.read(0, 1):
        pass
    os._exit(0)  # whatever is half-done is swept by the next


if __name__ == "__main__":
    main()
