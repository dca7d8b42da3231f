"""A process of its own that moves old answers into files beside a server: `python -m sevenfold.serving.mover`.

It is a companion of the server (`stores/companion.py`). It may be killed at any moment: every answer is then in the store or in a file that the store names.
It sweeps nothing away: the server writes files too, when it forgets somebody.
"""

from __future__ import annotations

import logging
import sys
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import msgspec

from sevenfold.clock import elapsed_s
from sevenfold.errors import StoreError
from sevenfold.serving.forgetting import orders
from sevenfold.serving.rotation import Bounds, Made, Rotation
from sevenfold.serving.sealed_answers import SealedAnswers
from sevenfold.stores.companion import Companion
from sevenfold.stores.kv import Transaction
from sevenfold.stores.open import open_store
from sevenfold.turns import take_leisure

__all__ = ["Orders", "is_forgetting", "main", "move"]

_LOG = logging.getLogger(__name__)
_LINGER_S = 20.0
_LOOK_S = 0.25
_IN_VAIN_S = 5.0  # that a look may take
_ALONE_S = 10.0  # that another, of a server that was killed, has to end


class Orders(msgspec.Struct, frozen=True):
    """What to move: the store's address, the folder of the files, how many answers stay, and how many a file has at most."""

    store: str
    folder: str
    head: int
    rows: int


def is_forgetting(txn: Transaction) -> bool:
    """Whether somebody is to be forgotten: then nothing is moved."""
    return bool(orders(txn))


def move(given: Orders, linger_s: float = _LINGER_S) -> None:
    """Move what is due until nothing has been due for `linger_s`; raises NotAloneError where another does."""
    sealed = SealedAnswers(Path(given.folder))
    store = open_store(given.store)
    try:
        with sealed.alone(_ALONE_S):
            bounds = Bounds(given.head, given.rows)
            _rotate(Rotation(store, sealed, bounds, is_forgetting), linger_s)
    finally:
        store.close()


def _rotate(rotation: Rotation, linger_s: float) -> None:
    idle_s = 0.0
    with ThreadPoolExecutor(1, "leisure", take_leisure) as leisure:
        while idle_s < linger_s:
            begun_s = elapsed_s()
            made = _made(rotation, leisure)
            if made is not None and rotation.settle(*made):
                idle_s = 0.0
                time.sleep(rotation.rest_s(elapsed_s() - begun_s))
            else:
                time.sleep(_LOOK_S)
                idle_s += _LOOK_S


def _made(rotation: Rotation, leisure: Executor) -> Made | None:
    """A file, looked for and made at leisure, unless answers come faster than that, or the processor is never free.

    Not so what has the store's one turn to write: answers would wait for it, and keep it from the processor.
    """
    looked = leisure.submit(rotation.is_far_behind)
    try:
        is_late = looked.result(_IN_VAIN_S)
    except TimeoutError:
        is_late = True
    return rotation.make() if is_late else leisure.submit(rotation.make).result()


def main() -> None:
    """Move what the server orders."""
    given = Companion.ordered(Orders)
    try:
        move(given)
    except (StoreError, OSError) as error:  # such as a full disk: the server tries again
        _LOG.error("answers not moved error=%s", error)
        sys.exit(1)


if __name__ == "__main__":
    main()
