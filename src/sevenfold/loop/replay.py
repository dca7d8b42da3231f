"""A recorded world lived through again: its rows and requests sent to a server, in order of time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import msgspec
import numpy as np

from sevenfold.loop.client import Client
from sevenfold.loop.world import World
from sevenfold.types import Instant

__all__ = ["Cursor", "Replay"]

_ROWS_A_POST = 1000


class Cursor(msgspec.Struct):
    """How far a replay has come: the next row and the next request."""

    row: int = 0
    request: int = 0


@dataclass(eq=False)
class Replay:
    """Sends a world to the server of `client` up to one instant after another.

    Before a request at `t` all rows that arrived before `t` are sent; nothing later. Sending again what was
    sent is without effect, so a replay goes on from any earlier cursor. `saved` is called with the cursor
    every `save_every` requests.
    """

    world: World
    client: Client
    k: int
    cursor: Cursor
    saved: Callable[[Cursor], None]
    save_every: int = 200
    stages_ms: dict[str, list[float]] = field(default_factory=dict)

    def advance(self, until_us: Instant) -> int:
        """Live through everything before `until_us`; returns the number of requests sent."""
        requests = self.world.requests
        end = int(np.searchsorted(requests.t_us, until_us))
        ids = requests.ids.take(np.arange(self.cursor.request, end)).to_list()
        begin = self.cursor.request
        fields = {
            name: column.take(np.arange(begin, end)).to_list()
            for name, column in requests.fields.items()
        }
        for i, request_id in enumerate(ids):
            t_us = int(requests.t_us[begin + i])
            self._send_rows(t_us)
            keys = {name: column[i] for name, column in fields.items()}
            body = {"request_id": request_id, "keys": keys, "k": self.k, "t": t_us}
            answer = self.client.post("/v1/recommend", body)
            for stage, taken in answer.get("timing_ms", {}).items():
                self.stages_ms.setdefault(stage, []).append(float(taken))
            self.cursor.request = begin + i + 1
            if self.cursor.request % self.save_every == 0:
                self.saved(self.cursor)
        self._send_rows(until_us)
        self.saved(self.cursor)
        return len(ids)

    def _send_rows(self, before_us: Instant) -> None:
        end = int(np.searchsorted(self.world.arrival_us, before_us))
        while self.cursor.row < end:
            stop = min(self.cursor.row + _ROWS_A_POST, end)
            body = {
                "stream": self.world.stream,
                "events": self.world.rows(self.cursor.row, stop),
                "known_us": int(self.world.arrival_us[stop - 1]),
            }
            self.client.post("/v1/events", body)
            self.cursor.row = stop
