"""The stream of the parity probe, and what is true of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["EVENTS", "KEYS", "PUSH", "Push", "Value", "newest", "stream"]

EVENTS, KEYS, PUSH = 5_000, 500, 50
LATE, CORRECTED = 0.30, 0.05
SECOND_US, HOUR_US = 1_000_000, 3_600_000_000
START_US = 1_700_000_000_000_000

Value = tuple[float, int]
"""A fare and the number of the event that it is of."""


@dataclass(frozen=True)
class Push:
    """Rows that arrive together: trips, and changes of profiles that only ours takes."""

    arrival_us: int
    trips: list[dict[str, Any]]
    profiles: list[dict[str, Any]]


def stream(seed: int, scale: float = 1.0) -> list[Push]:
    """The pushes in the order of arrival, two seconds of stream an event; a correction is of the key's newest event."""
    rng = np.random.default_rng(seed)
    pushes = []
    last: dict[str, int] = {}
    for first in range(0, max(2 * PUSH, int(EVENTS * scale)), PUSH):
        push = Push(START_US + first * 2 * SECOND_US, [], [])
        for i in range(first, first + PUSH):
            key, at = f"d{rng.integers(KEYS)}", push.arrival_us - int(rng.integers(SECOND_US))
            kind = rng.random()
            if kind < LATE:
                at -= int(rng.integers(HOUR_US))
            elif kind < LATE + CORRECTED:
                at = last.get(key, at)
            last[key] = max(at, last.get(key, at))
            trip = {
                "id": f"t{i}",
                "at": at,
                "driver": key,
                "fare": float(rng.normal()),
                "number": i,
            }
            push.trips.append(trip)
            if rng.random() < 0.3:
                left = bool(rng.random() < 0.3)
                row = {"id": f"r{i}", "at": at, "driver": key, "left": left}
                push.profiles.append(row | {"rating": None if left else float(rng.random())})
        pushes.append(push)
    return pushes


def newest(pushes: list[Push]) -> dict[str, Value]:
    """The value of each key's newest event, of two at one instant the later arrival."""
    found: dict[str, tuple[int, int, Value]] = {}
    for row in (row for push in pushes for row in push.trips):
        entry = (row["at"], row["number"], (row["fare"], row["number"]))
        found[row["driver"]] = max(entry, found.get(row["driver"], entry))
    return {key: value for key, (_, _, value) in found.items()}
