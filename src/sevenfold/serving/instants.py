"""At which instant a process may read while another takes events in: a few bytes that both map.

A read at `t` must see every event known before `t`, for good: what is computed later from the log would else differ from
what was answered. In one process that is a matter of order. Between processes it is a race: an event gets its `known_us`
before its commit can be seen. So the writer announces, before it looks at the clock, the earliest instant that its events
may get; a reader looks at the clock, then at the announcement, then takes its snapshot, and reads no later than what was
announced unless the snapshot holds it already.

    writer   announce p = max(now, floor) | now again: known >= max(p, now) | commit | withdraw
    reader   now | look: p or none | snapshot | t <= p unless the snapshot holds it

A reader that saw no announcement took its instant before any later announcement's clock. The clock is the machine's; when it
is set back between the two, a read that is logged is checked once more under the writer's lock (see `seen`).
"""

from __future__ import annotations

import mmap
import os
import threading
from pathlib import Path

import numpy as np

from sevenfold.clock import Clock
from sevenfold.errors import StoreError
from sevenfold.stores.kv import Transaction
from sevenfold.stores.log import blocks, frontier_us, last_known_us, position
from sevenfold.types import Instant

__all__ = ["Instants", "Moment", "seen"]

_NONE = -(1 << 62)
_BYTES = 8


class Moment:
    """What a reader saw before its snapshot: the clock, and what was announced then."""

    __slots__ = ("_announced", "_now_us")

    def __init__(self, now_us: Instant, announced: Instant) -> None:
        self._now_us = now_us
        self._announced = announced

    def instant(self, txn: Transaction) -> Instant:
        """The instant to read at from the snapshot `txn`, which was begun after this was made.

        It is after all that the snapshot holds, not before any read that it knows of, and not after what is being
        written beside it.
        """
        last_us = last_known_us(txn)
        now_us = max(self._now_us, last_us + 1, frontier_us(txn))
        if last_us >= self._announced:  # none was announced, or it is in the snapshot
            return now_us
        return min(now_us, self._announced)


class Instants:
    """The announcement in the file `path`, which is made when it is not there.

    One process announces, any number look. Raises StoreError for a file that is something else.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self.clock = clock
        self._fence = threading.Lock()
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            size = os.fstat(handle).st_size
            if size not in (0, _BYTES):
                raise StoreError(
                    f"{str(path)!r} has {size} bytes and is no file of instants: delete it"
                )
            if not size:
                os.write(handle, np.int64(_NONE).tobytes())
            self._map = mmap.mmap(handle, _BYTES)
        finally:
            os.close(handle)
        # One aligned word: the machine writes it whole, and a reader never sees half of it.
        self._word = np.frombuffer(self._map, dtype=np.int64)

    def announce(self, floor: Instant) -> Instant:
        """The earliest instant that events may become known at, told to all readers first; at least `floor`.

        To be called inside the write transaction that will commit them.
        """
        announced = max(self.clock.now_us(), floor)
        self._word[0] = announced
        with self._fence:  # what was told has left this core before the clock is looked at again
            return max(announced, self.clock.now_us())

    def withdraw(self) -> None:
        """The events are committed, or never will be."""
        self._word[0] = _NONE

    def look(self) -> Moment:
        """To be called before a snapshot is begun: it says at which instant that may be read."""
        now_us = self.clock.now_us()  # first: an announcement that is not seen is then of later
        return Moment(now_us, int(self._word[0]))

    def close(self) -> None:
        """Let go of the file."""
        del self._word
        self._map.close()


def seen(txn: Transaction, end: int, t_us: Instant) -> bool:
    """Whether a snapshot of `end` events has all that is known before `t_us`, as the write transaction `txn` knows.

    It has, unless the clock was set back: what has been logged since is known at `t_us` or later. Then the frontier
    may be raised to `t_us`, and it stays so.
    """
    if position(txn) == end:
        return True
    _, first = next(blocks(txn, start=end))
    return int(first.known_us[0]) >= t_us
