"""Whether what was served is what the offline engine computes for the same keys and instants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sevenfold.errors import InputError

__all__ = ["Mismatch", "Parity", "compare"]

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Mismatch:
    """One value that differs: its row in the comparison, its feature, what was logged and recomputed."""

    row: int
    feature: str
    logged: float
    recomputed: float


@dataclass(frozen=True, slots=True)
class Parity:
    """How many vectors were compared and how many differ in any bit of any value.

    `by_feature` counts differing values; `examples` holds the first few.
    """

    compared: int = 0
    mismatched: int = 0
    by_feature: dict[str, int] = field(default_factory=dict)
    examples: tuple[Mismatch, ...] = ()

    def __add__(self, other: Parity) -> Parity:
        """Two comparisons of the same features as one."""
        names = {**self.by_feature, **other.by_feature}
        return Parity(
            self.compared + other.compared,
            self.mismatched + other.mismatched,
            {n: self.by_feature.get(n, 0) + other.by_feature.get(n, 0) for n in names},
            (self.examples + other.examples)[:_EXAMPLES],
        )


_EXAMPLES = 10


def compare(names: Sequence[str], logged: Vectors, recomputed: Vectors) -> Parity:
    """The bit-for-bit comparison of float32 vectors (n, f); any two NaN are the same null.

    >>> compare(["a"], np.array([[1], [np.nan]], np.float32), np.array([[1], [2]], np.float32)).mismatched
    1
    """
    if logged.shape != recomputed.shape or logged.shape[1:] != (len(names),):
        raise InputError(
            f"logged vectors {logged.shape} and recomputed ones {recomputed.shape} cannot be compared "
            f"as vectors of {len(names)} features"
        )
    bits = np.ascontiguousarray(logged, np.float32).view(np.int32)
    other = np.ascontiguousarray(recomputed, np.float32).view(np.int32)
    differ = (bits != other) & ~(np.isnan(logged) & np.isnan(recomputed))
    by_feature = {names[i]: int(n) for i, n in enumerate(differ.sum(axis=0)) if n}
    places = np.argwhere(differ)[:_EXAMPLES]
    examples = tuple(
        Mismatch(int(r), names[c], float(logged[r, c]), float(recomputed[r, c])) for r, c in places
    )
    return Parity(len(logged), int(differ.any(axis=1).sum()), by_feature, examples)
