"""Events that nobody gave, for what has to run once before somebody waits for it."""

from __future__ import annotations

import numpy as np

from sevenfold.sources.validate import Validator
from sevenfold.spec.stream import Stream
from sevenfold.types import Column, EventBatch, Texts

__all__ = ["MADE_UP", "made_up"]

MADE_UP = "made up"
"""The key of every entity that such an event is of."""


def made_up(stream: Stream, n: int = 1) -> EventBatch:
    """Some events of a stream that say nothing but their keys, which they share."""
    nothing = Validator(stream).rows([]).batch
    fields: dict[str, Column] = {
        name: Texts.of([None] * n)
        if isinstance(column, Texts)
        else np.full((n, *column.shape[1:]), np.nan)
        for name, column in nothing.fields.items()
    }
    at = np.zeros(n, dtype=np.int64)
    names = Texts.of([f"{MADE_UP} {i}" for i in range(n)])
    keys = dict.fromkeys(nothing.keys, Texts.of([MADE_UP] * n))
    return EventBatch(nothing.stream, at, at, names, keys, fields)
