"""The baseline that any learnt model has to beat: order by one feature, ties by a second."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import msgspec
import numpy as np

from sevenfold.errors import ArtifactError, InputError
from sevenfold.models.artifact import ModelFile, read_artifact, write_artifact
from sevenfold.models.dataset import Dataset, Matrix
from sevenfold.models.protocol import check_matrix
from sevenfold.types import Floats, Ints

__all__ = ["RuleModel"]

# A float32 has 32 bits and a float64 counts exactly to 2^53: 21 bits are left for the second feature.
_SECOND_BITS = 21


class _Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    by: str
    then: str | None


@dataclass(frozen=True, slots=True)
class RuleModel:
    """Rows ordered by the feature `by`, largest first, then by the feature `then`; nulls last.

    The score is a whole number below 2^53 that orders as the pair does: exactly by the first feature,
    and by the second to its leading 21 bits (about 3.6 decimal digits).

    >>> data = Dataset.of([[2, 0], [2, 1], [np.nan, 9]], [0, 1, 0], feature_names=["sold", "new"])
    >>> model = RuleModel(by="sold", then="new").fit(data, np.random.default_rng(0))
    >>> np.argsort(-model.scores(data.x)).tolist()
    [1, 0, 2]
    """

    by: str
    then: str | None = None
    feature_names: tuple[str, ...] = ()
    kind: ClassVar[str] = "rule"

    def fit(
        self, dataset: Dataset, rng: np.random.Generator, validation: Dataset | None = None
    ) -> RuleModel:
        """The rule bound to the columns of `dataset`; InputError when it lacks a named feature."""
        for name in self._named():
            if name not in dataset.feature_names:
                raise InputError(
                    f"the rule orders by {name!r}, which the dataset does not have: "
                    f"{list(dataset.feature_names)}"
                )
        return replace(self, feature_names=dataset.feature_names)

    def scores(self, x: Matrix) -> Floats:
        """The scores of rows float32 (n, f), as float64 (n,) whole numbers in [0, 2^53)."""
        check_matrix(x, self.feature_names, self.kind)
        first, *second = (
            _order_key(x[:, self.feature_names.index(name)]) for name in self._named()
        )
        total = first << _SECOND_BITS
        if second:
            total += second[0] >> (32 - _SECOND_BITS)
        return total.astype(np.float64)

    def save(self, folder: Path) -> None:
        """Write `model.json` into an empty or new folder."""
        settings = msgspec.to_builtins(_Settings(self.by, self.then))
        write_artifact(folder, ModelFile(1, self.kind, self.feature_names, settings))

    @classmethod
    def load(cls, folder: Path) -> RuleModel:
        """The rule of an artifact; ArtifactError when the files are not what `save` wrote."""
        file = read_artifact(folder, cls.kind, {}).file
        try:
            settings = msgspec.convert(file.settings, _Settings)
        except msgspec.ValidationError as error:
            raise ArtifactError(
                f"{folder}: the settings are not those of a rule: {error}"
            ) from error
        model = cls(settings.by, settings.then, file.feature_names)
        if not set(model._named()) <= set(file.feature_names):
            raise ArtifactError(f"{folder}: the rule orders by a feature that it does not list")
        return model

    def _named(self) -> tuple[str, ...]:
        return (self.by,) if self.then is None else (self.by, self.then)


def _order_key(column: Matrix) -> Ints:
    """The place of each float32 among all float32, int64 in [0, 2^32); NaN is 0, -0 equals 0."""
    bits = (column + np.float32(0.0)).view(np.uint32).astype(np.int64)
    ordered = np.where(bits >> 31, 0xFFFFFFFF ^ bits, bits | 0x80000000)
    return np.where(np.isnan(column), 0, ordered)
