"""The candidates of an answer as its stages leave them, and those of which the features are logged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sevenfold.hashing import siphash128
from sevenfold.retrieval.fusion import Fused
from sevenfold.serving.prediction_log import Prediction
from sevenfold.types import Ints

__all__ = ["Candidates", "sampled"]

_STEP = np.uint64(0x9E3779B97F4A7C15)
_SHIFTS = np.uint64(30), np.uint64(27), np.uint64(31)
_FACTORS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


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
    if len(shown) == n:
        return shown, 0.0
    is_other = np.ones(n, dtype=bool)
    is_other[shown] = False
    others = np.flatnonzero(is_other)
    size = min(most, len(others))
    if not size:
        return shown, 0.0
    # The request's own name draws the sample, so that a replay draws the same.
    drawn = np.argsort(_numbers(siphash128(request_id.encode())[0], len(others)))[:size]
    return np.concatenate([shown, np.sort(others[drawn])]), len(others) / size


def _numbers(seed: int, n: int) -> npt.NDArray[np.uint64]:
    """The first n numbers of the generator SplitMix64 (Steele, Lea and Flood 2014): a hundredth of the time that a generator of numpy takes to be made."""
    x = np.uint64(seed) + _STEP * np.arange(1, n + 1, dtype=np.uint64)
    x = (x ^ (x >> _SHIFTS[0])) * _FACTORS[0]
    x = (x ^ (x >> _SHIFTS[1])) * _FACTORS[1]
    return x ^ (x >> _SHIFTS[2])
