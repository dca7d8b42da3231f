"""The items there are, each with a small code in the order of first sight."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from sevenfold.types import Ints, Texts

__all__ = ["Catalogue"]


class Catalogue:
    """Gives every item key a code from 0 on, in the order of the log.

    >>> catalogue = Catalogue()
    >>> catalogue.codes(Texts.of(["pot", None, "cup", "pot"]))
    array([ 0, -1,  1,  0])
    >>> catalogue.names(np.array([1, 0]))
    ['cup', 'pot']
    """

    def __init__(self) -> None:
        self._code: dict[str, int] = {}
        self._names: list[str] = []

    def __len__(self) -> int:
        """The number of items seen."""
        return len(self._names)

    def codes(self, keys: Texts) -> Ints:
        """The code of each key (n,), new items being added; -1 for null."""
        return np.array([self._add(key) for key in keys.to_list()], dtype=np.int64)

    def find(self, keys: Iterable[str]) -> Ints:
        """The code of each key, -1 for one never seen."""
        return np.array([self._code.get(key, -1) for key in keys], dtype=np.int64)

    def names(self, codes: Ints) -> list[str]:
        """The keys of the codes."""
        return [self._names[code] for code in codes.tolist()]

    def _add(self, key: str | None) -> int:
        if key is None:
            return -1
        code = self._code.setdefault(key, len(self._names))
        if code == len(self._names):
            self._names.append(key)
        return code
