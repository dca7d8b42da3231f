"""Every kernel of the log of states is run once, so that none is compiled while others wait for a lock."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from sevenfold.stores.lmdb import LmdbStore
from sevenfold.stores.state_files import Shared
from sevenfold.stores.tables import STATE

__all__ = ["rehearse_states"]

_BITS = 6  # a segment of 64 words: soon full, and soon cleaned
_COMMITS = 12
_MANY = 300  # keys of one transaction: more than it has slots for at first
_PREFIX = b"rehearse"
_MEMORY = "/dev/shm"  # files that wait for no disk, as each commit would: forty waits, seconds on a busy one
_ROOM = 16 << 20


def rehearse_states() -> None:
    """Commit, clean, grow, mend and read a log of states in a folder that is then deleted."""
    with TemporaryDirectory(prefix="sevenfold-", dir=_in_memory()) as folder:
        store = LmdbStore(folder, segment_bits=_BITS)
        try:
            for begin, end in pairwise([*range(_COMMITS), _MANY]):
                _keep(store, max(end - begin, 3))
        finally:
            store.close()
        (written,) = Path(folder).glob("states-*")
        shared = Shared(written)
        shared.published = shared.published + 1  # as a killed writer leaves it
        LmdbStore(folder, segment_bits=_BITS).close()
        for path in written.glob("*.hash"):  # and a machine that has been off
            path.unlink()
        LmdbStore(folder, segment_bits=_BITS).close()


def _in_memory() -> str | None:
    """Where a folder is in memory; None where there is no such place, or too little room."""
    try:
        there = os.statvfs(_MEMORY)
    except OSError:
        return None
    has_room = there.f_bavail * there.f_frsize >= _ROOM
    return _MEMORY if has_room and os.access(_MEMORY, os.W_OK) else None


def _keep(store: LmdbStore, n: int) -> None:
    hashes = np.arange(2 * n, dtype=np.uint64).reshape(-1, 2)
    words, ends = np.arange(4 * n), np.arange(4, 4 * n + 4, 4)
    with store.write() as txn:
        txn.words(STATE, [(_PREFIX, hashes)])
        txn.keep(STATE, _PREFIX, hashes, words, ends)
    with store.write() as txn:
        txn.keep(STATE, _PREFIX, hashes, words, ends)
        txn.count(STATE)
    with store.read() as txn:
        txn.words(STATE, [(_PREFIX, hashes)])
        list(txn.scan(STATE))
