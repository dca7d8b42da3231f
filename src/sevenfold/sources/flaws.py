"""Which rows are refused, each for the first thing found wrong with it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["Bools", "Flaws"]

Bools = npt.NDArray[np.bool_]


class Flaws:
    """The refused rows of `n`: `free` (n,) is true for those with nothing wrong so far."""

    def __init__(self, n: int) -> None:
        self.free: Bools = np.empty(n, dtype=np.bool_)
        self.free.fill(True)
        self._found: list[tuple[npt.NDArray[np.intp], str, Callable[[int], str]]] = []

    def add(self, where: Bools, reason: str, sentence: Callable[[int], str]) -> None:
        """Refuse the rows `where` (n,) is true, except those refused before.

        `sentence` says of a row what is wrong with it and what to do.
        """
        if not np.count_nonzero(where):  # a quarter of what `any` takes of one row
            return
        rows = np.flatnonzero(where & self.free)
        if len(rows):
            self.free[rows] = False
            self._found.append((rows, reason, sentence))

    @property
    def is_none(self) -> bool:
        """Whether nothing was found wrong with any row."""
        return not self._found

    def told(self) -> list[tuple[int, str, str]]:
        """(row, reason, sentence) of every refused row, in the order of the rows."""
        return sorted(
            (row, reason, sentence(row))
            for rows, reason, sentence in self._found
            for row in rows.tolist()
        )
