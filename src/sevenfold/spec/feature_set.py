"""A named, versioned selection of features: what a model reads, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

from sevenfold.spec.quantity import Count, Name

__all__ = ["FeatureSet"]


@dataclass(frozen=True, slots=True)
class FeatureSet(Sequence[str]):
    """The features that one model or several read, in order, under a name and a version.

    A version is fixed: once a home has served it, the same name and version with other features, another
    order or another definition of one of them is refused. Change the set and raise the version.
    """

    name: Name
    version: Count
    features: Sequence[str]
    description: str = ""

    @property
    def label(self) -> str:
        """The set as people name it, `ranking@2`."""
        return f"{self.name}@{self.version}"

    def __len__(self) -> int:
        """How many features it has."""
        return len(self.features)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        """The name of a feature by its place."""
        return self.features[index]
