"""The candidates of an answer as its stages leave them, and those of which the features are logged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sevenfold.hashing import siphash128
from sevenfold.retrieval.fusion import Fused
from sevenfold.serving.prediction_log import Prediction
from sevenfold.types import Ints

__all__ = ["Candidates", "sampled"]


@dataclass(slots=True, eq=False)
class Candidates:
    """The candidates that are left, and their names."""

    fused: Fused
    items: list[str]

    @classmethod
    def of(cls, made: Prediction) -> Candidates:
        """Those of an answer that was made before."""
        codes = np.arange(len(made.items), dtype=np.int64)
        return cls(Fused(codes, made.source_masks(), made.generator_scores()), made.items)

    def only(self, rows: Ints) -> Candidates:
        """Those of some rows, in their order."""
        return Candidates(self.fused.only(rows), [self.items[row] for row in rows.tolist()])

    def first(self, n: int) -> Candidates:
        """The first of them."""
        return self if n >= len(self.items) else Candidates(self.fused.first(n), self.items[:n])


def sampled(shown: Ints, n: int, most: int, request_id: str) -> tuple[Ints, float]:
    """The rows of `n` whose vectors are logged: those shown, and a sample of at most `most` others with its weight."""
    if not n:
        return shown[:0], 0.0
    is_other = np.ones(n, dtype=bool)
    is_other[shown] = False
    others = np.flatnonzero(is_other)
    size = min(most, len(others))
    if not size:
        return shown, 0.0
    # The request's own name draws the sample, so that a replay draws the same.
    rng = np.random.default_rng(siphash128(request_id.encode()))
    sample = np.sort(rng.choice(others, size, replace=False))
    return np.concatenate([shown, sample]), len(others) / size
