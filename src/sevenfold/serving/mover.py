"""A process of its own that moves old answers into files beside a server: `python -m sevenfold.serving.mover`.

It reads its orders as one line of JSON from its standard input, and ends when that closes: so it never outlives
the server, however the server ends. It may be killed at any moment: every answer is then in the store or in a file that the store names.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from pathlib import Path

import msgspec

from sevenfold.clock import elapsed_s
from sevenfold.errors import StoreError
from sevenfold.serving.forgetting import orders
from sevenfold.serving.rotation import Bounds, Rotation
from sevenfold.serving.sealed_answers import SealedAnswers
from sevenfold.stores.keeper import end_with_the_server, ordered
from sevenfold.stores.open import open_store
from sevenfold.turns import LONG_S, ask_for_turns

__all__ = ["Orders", "main", "move"]

_LOG = logging.getLogger(__name__)
_NICE = 10
_LINGER_S = 20.0
_LOOK_S = 0.25


class Orders(msgspec.Struct, frozen=True):
    """What to move: the store's address, the folder of the files, how many answers stay, and how many a file has at most."""

    store: str
    folder: str
    head: int
    rows: int


def move(given: Orders, linger_s: float = _LINGER_S) -> None:
    """Move what is due until nothing has been due for `linger_s`; nothing while somebody is being forgotten."""
    store = open_store(given.store)
    try:
        sealed = SealedAnswers(Path(given.folder))
        bounds = Bounds(given.head, given.rows)
        rotation = Rotation(store, sealed, bounds, held=lambda txn: bool(orders(txn)))
        idle_s = 0.0
        while idle_s < linger_s:
            begun_s = elapsed_s()
            if rotation.rotate():
                idle_s = 0.0
                time.sleep(rotation.rest_s(elapsed_s() - begun_s))
            else:
                time.sleep(_LOOK_S)
                idle_s += _LOOK_S
    finally:
        store.close()


def main() -> None:
    """Move what standard input orders."""
    logging.basicConfig(
        level=logging.INFO,
        format="time=%(asctime)s level=%(levelname)s logger=%(name)s %(message)s",
    )
    os.nice(_NICE)
    ask_for_turns(LONG_S)
    # Unbuffered: a thread that waits inside a buffer holds its lock, and no interpreter ends in peace then.
    given = msgspec.json.decode(ordered(0), type=Orders)
    threading.Thread(target=end_with_the_server, daemon=True).start()
    try:
        move(given)
    except (StoreError, OSError) as error:  # such as a full disk: the server tries again
        _LOG.error("answers not moved error=%s", error)
        sys.exit(1)


if __name__ == "__main__":
    main()
