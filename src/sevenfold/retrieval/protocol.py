"""What a candidate generator is asked and what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sevenfold.types import EventBatch, Ints

__all__ = ["Candidates", "Generator", "Query", "best"]


@dataclass(frozen=True, slots=True)
class Query:
    """A request for candidates: entity keys (and request fields) by name, at `t_us`."""

    keys: Mapping[str, str]
    t_us: int


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Items of one generator, best first: catalogue codes int64 (n,) and scores float32 (n,)."""

    codes: Ints
    scores: npt.NDArray[np.float32]

    def __len__(self) -> int:
        """The number of candidates."""
        return len(self.codes)


class Generator(Protocol):
    """Proposes items; its state derives from the log alone, so a replay gives the same proposals."""

    name: str

    def observe(self, batch: EventBatch) -> None:
        """Learn from events of the log, in its order; batches may be cut anywhere."""
        ...

    def settle(self) -> None:
        """Do the work that the events since the last call have made due, before a query would."""
        ...

    def propose(self, query: Query) -> Candidates:
        """The best items for a query, at most the generator's limit."""
        ...


def best(codes: Ints, scores: npt.NDArray[np.float64], limit: int) -> Candidates:
    """The `limit` items of the highest positive scores, best first; ties: the lower code.

    >>> best(np.array([4, 7, 9]), np.array([0.5, 2.0, 0.0]), 5).codes
    array([7, 4])
    """
    chosen = np.flatnonzero(scores > 0)
    if len(chosen) > limit:
        kth = np.partition(scores[chosen], len(chosen) - limit)[len(chosen) - limit]
        chosen = chosen[scores[chosen] >= kth]
    order = np.lexsort((codes[chosen], -scores[chosen]))[:limit]
    picked = chosen[order]
    return Candidates(codes[picked].astype(np.int64), scores[picked].astype(np.float32))
