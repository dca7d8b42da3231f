"""Which candidates stay: declared conditions on features, read at the instant of the request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sevenfold.spec.stage import Keep

__all__ = ["Filters", "kept"]

Vectors = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


def kept(keep: Keep, column: npt.NDArray[np.float32]) -> Mask:
    """Which values of a column (n,) a condition allows; null where it allows nulls.

    A bound is compared as a float32, which is what a value is.

    >>> kept(Keep("x", low=1, none_of=[3]), np.array([0, 1, 3, np.nan], np.float32))
    array([False,  True, False, False])
    """
    null = np.isnan(column)
    stays = ~null
    if keep.low is not None:
        stays &= column >= np.float32(keep.low)
    if keep.high is not None:
        stays &= column <= np.float32(keep.high)
    if keep.one_of:
        stays &= np.isin(column, np.array(keep.one_of, dtype=np.float32))
    if keep.none_of:
        stays &= ~np.isin(column, np.array(keep.none_of, dtype=np.float32))
    return stays | null if keep.nulls else stays


@dataclass(frozen=True, slots=True)
class Filters:
    """The conditions of one pipeline, and the features that they read."""

    keeps: tuple[Keep, ...]

    @staticmethod
    def of(keeps: Sequence[Keep]) -> Filters:
        """The conditions as they are declared."""
        return Filters(tuple(keeps))

    def that_must(self) -> Filters:
        """Those that hold however late it is."""
        return Filters(tuple(keep for keep in self.keeps if keep.must))

    @property
    def names(self) -> tuple[str, ...]:
        """The features that are read, each once."""
        return tuple(dict.fromkeys(keep.feature for keep in self.keeps))

    def stay(self, vectors: Vectors) -> Mask:
        """Which rows of (n, f), features in the order of `names`, all conditions allow: bool (n,)."""
        stays = np.ones(len(vectors), dtype=np.bool_)
        for keep in self.keeps:
            stays &= kept(keep, vectors[:, self.names.index(keep.feature)])
        return stays
