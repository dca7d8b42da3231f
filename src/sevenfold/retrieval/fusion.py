"""Several generators' candidates as one list, with who proposed what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from sevenfold.retrieval.protocol import Candidates
from sevenfold.types import Floats, Ints

__all__ = ["Fused", "candidate_fields", "fuse", "unproposed"]


@dataclass(frozen=True, slots=True, eq=False)
class Fused:
    """Different items in the order they were first proposed.

    `codes` int64 (n,); `sources` uint32 (n,) with bit g set where generator g proposed the item; `scores`
    float32 (n, g), NaN where it did not.
    """

    codes: Ints
    sources: npt.NDArray[np.uint32]
    scores: npt.NDArray[np.float32]

    def __len__(self) -> int:
        """The number of items."""
        return len(self.codes)

    def only(self, rows: Ints) -> Fused:
        """The items of some rows, in their order."""
        return Fused(self.codes[rows], self.sources[rows], self.scores[rows])

    def first(self, n: int) -> Fused:
        """The first `n` items."""
        return self if n >= len(self) else Fused(self.codes[:n], self.sources[:n], self.scores[:n])


def fuse(proposals: Sequence[Candidates], limit: int) -> Fused:
    """The proposals merged rank by rank, each item once, at most `limit`.

    Every generator's first comes before any one's second, so a tight limit keeps the best of all.

    >>> a = Candidates(np.array([5, 7]), np.array([2, 1], np.float32))
    >>> b = Candidates(np.array([7, 9]), np.array([8, 3], np.float32))
    >>> fused = fuse([a, b], 3)
    >>> fused.codes, fused.sources
    (array([5, 7, 9]), array([1, 3, 2], dtype=uint32))
    """
    codes = np.concatenate([p.codes for p in proposals]) if proposals else np.empty(0, np.int64)
    ranks = [np.arange(len(p)) * len(proposals) + g for g, p in enumerate(proposals)]
    rank = np.concatenate(ranks) if ranks else np.empty(0, np.int64)
    by_rank = np.argsort(rank, kind="stable")
    different, first = np.unique(codes[by_rank], return_index=True)
    chosen = different[np.argsort(first, kind="stable")][:limit]
    order = np.argsort(chosen, kind="stable")
    sources = np.zeros(len(chosen), dtype=np.uint32)
    scores = np.full((len(chosen), len(proposals)), np.nan, dtype=np.float32)
    for g, proposal in enumerate(proposals):
        if len(chosen) and len(proposal):
            place = np.searchsorted(chosen[order], proposal.codes).clip(max=len(chosen) - 1)
            rows = order[place]
            found = chosen[rows] == proposal.codes
            sources[rows[found]] |= np.uint32(1 << g)
            scores[rows[found], g] = proposal.scores[found]
    return Fused(chosen, sources, scores)


@lru_cache(maxsize=32)
def unproposed(n: int, generators: int) -> Fused:
    """`n` items that none of so many generators proposed, as a request gives them; its arrays cannot be written to."""
    scores = np.full((n, generators), np.nan, dtype=np.float32)
    codes, sources = np.arange(n, dtype=np.int64), np.zeros(n, dtype=np.uint32)
    for shared in (codes, sources, scores):
        shared.flags.writeable = False
    return Fused(codes, sources, scores)


def candidate_fields(scores: npt.NDArray[np.float32], names: Sequence[str]) -> dict[str, Floats]:
    """What request-time functions may read of one request's candidates, from their scores (n, g).

    For each generator `{name}_score`, and `{name}_share`: the score over the request's highest; both NaN
    where the generator did not propose the item.

    >>> candidate_fields(np.array([[2.0], [1.0]], np.float32), ["own"])["own_share"]
    array([1. , 0.5])
    """
    fields = {}
    for g, name in enumerate(names):
        column = scores[:, g].astype(np.float64)
        highest = np.fmax.reduce(column) if len(column) else np.nan
        fields[f"{name}_score"] = column
        fields[f"{name}_share"] = column / highest if highest > 0 else np.full(len(column), np.nan)
    return fields
