"""What every kind of model can do, and the checks that all of them share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, Self

import numpy as np

from sevenfold.errors import InputError
from sevenfold.models.dataset import Dataset, Matrix
from sevenfold.types import Floats

__all__ = ["Model", "check_features", "check_matrix"]


class Model(Protocol):
    """A scorer of rows: a value, never changed after it is made.

    `fit` gives back a new model; the one it was called on only holds the settings. The score of a row
    depends on that row alone: a batch gives the same bits as its rows one by one. A larger score is
    better; scores are finite; the scale is the model's own.
    """

    @property
    def kind(self) -> str:
        """The name of the kind, by which an artifact is loaded."""
        ...

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The features in the order of the columns of `x`; empty before `fit`."""
        ...

    def fit(
        self, dataset: Dataset, rng: np.random.Generator, validation: Dataset | None = None
    ) -> Self:
        """The model learnt from `dataset`; `validation`, where a kind uses it, says when to stop."""
        ...

    def scores(self, x: Matrix) -> Floats:
        """The scores of rows float32 (n, f), null as NaN, as float64 (n,)."""
        ...

    def save(self, folder: Path) -> None:
        """Write the artifact into an empty or new folder."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The model of an artifact; ArtifactError when the files are not what `save` wrote."""
        ...


def check_features(model: Model, feature_names: Sequence[str]) -> None:
    """Raise InputError unless the columns named are the model's features in the model's order."""
    given, wanted = tuple(feature_names), model.feature_names
    if given == wanted:
        return
    missing = [name for name in wanted if name not in set(given)]
    extra = [name for name in given if name not in set(wanted)]
    if missing or extra:
        what = f"missing {missing}, not known to the model {extra}"
    else:
        at = next(i for i, (a, b) in enumerate(zip(given, wanted, strict=True)) if a != b)
        what = f"in another order: column {at} is {given[at]!r} and must be {wanted[at]!r}"
    raise InputError(
        f"the columns are not the features of this {model.kind} model: {what}. "
        "Give them as in `model.feature_names`."
    )


def check_matrix(x: Matrix, feature_names: Sequence[str], kind: str) -> None:
    """Raise InputError unless `x` is float32 (n, f) without infinities and the model is fitted."""
    if not feature_names:
        raise InputError(f"this {kind} model has not been fitted: call fit(dataset, rng) first")
    if x.dtype != np.float32 or x.ndim != 2 or x.shape[1] != len(feature_names):
        raise InputError(
            f"rows to score are {x.dtype} {x.shape}: give float32 (n, {len(feature_names)})"
        )
    infinite = np.isinf(x)
    if infinite.any():
        named = [feature_names[i] for i in np.flatnonzero(infinite.any(axis=0)).tolist()]
        raise InputError(
            f"rows to score are infinite in {named}: null is NaN, no value is infinite"
        )
