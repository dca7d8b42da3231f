"""A linear model of the odds: small, exact, and explainable by one number for each feature."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import msgspec
import numpy as np

from sevenfold.errors import ArtifactError, InputError
from sevenfold.models.artifact import (
    ArrayEntry,
    ModelFile,
    read_artifact,
    read_header,
    write_artifact,
)
from sevenfold.models.dataset import Dataset, Matrix
from sevenfold.models.protocol import check_matrix
from sevenfold.types import Floats

__all__ = ["LogisticModel"]


class _Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    l2: float
    max_steps: int


def _empty() -> Floats:
    return np.zeros(0)


@dataclass(frozen=True, slots=True, eq=False)
class LogisticModel:
    """Logistic regression with an L2 penalty, on standardised features and null indicators.

    Each feature is centred and scaled by the mean and the population deviation of the training rows
    (nulls left out, a constant feature scaled by 1); then null becomes 0, the mean, and an indicator
    column says that it was null. Mean and deviation are part of the artifact: they are never taken
    from the rows that are scored. The scores are log odds, which do not saturate as probabilities do;
    `probabilities` gives those.

    The loss is the weighted mean of the log loss plus l2 / 2 * |weights|^2, the intercept free,
    minimised by L-BFGS with the analytic gradient (Nocedal and Wright, 2nd edition, section 7.2).
    """

    l2: float = 1e-3
    max_steps: int = 500
    feature_names: tuple[str, ...] = ()
    centre: Floats = field(default_factory=_empty)
    scale: Floats = field(default_factory=_empty)
    weights: Floats = field(default_factory=_empty)
    intercept: Floats = field(default_factory=_empty)
    kind: ClassVar[str] = "logistic"

    def fit(
        self, dataset: Dataset, rng: np.random.Generator, validation: Dataset | None = None
    ) -> LogisticModel:
        """The model learnt from labels in [0, 1]; InputError for other labels or only one class.

        Takes no randomness: the problem is convex and starts at zero.
        """
        labels = dataset.y.astype(np.float64)
        share = dataset.row_weights().astype(np.float64)
        share /= share.sum() if len(dataset) else 1.0
        mean = float(share @ labels)
        if not len(dataset) or labels.max() > 1 or not 0 < mean < 1:
            raise InputError(
                f"logistic regression needs labels in [0, 1] with some of each class; "
                f"given {len(dataset)} rows with mean label {mean:.6g}"
            )
        centre, scale = _moments(dataset.x)
        prepared = replace(self, feature_names=dataset.feature_names, centre=centre, scale=scale)
        found = self._minimise(prepared._design(dataset.x), labels, share, mean)
        return replace(prepared, weights=found[1:], intercept=found[:1])

    def scores(self, x: Matrix) -> Floats:
        """The log odds of rows float32 (n, f), null as NaN, as float64 (n,)."""
        check_matrix(x, self.feature_names, self.kind)
        terms = np.empty((len(x), 1 + len(self.weights)))
        terms[:, :1] = self.intercept
        np.multiply(self._design(x), self.weights, out=terms[:, 1:])
        # A running sum adds from left to right whatever the number of rows; a matrix product may not,
        # and then a row scored alone would differ in its last bit from the same row in a batch.
        return np.add.accumulate(terms, axis=1)[:, -1]

    def probabilities(self, x: Matrix) -> Floats:
        """The probabilities of a positive label, float64 (n,)."""
        return _sigmoid(self.scores(x))

    def importances(self) -> dict[str, float]:
        """The weight of each feature: change in log odds for one deviation of the feature."""
        return dict(zip(self.feature_names, self.weights.tolist(), strict=False))

    def save(self, folder: Path) -> None:
        """Write `model.json` and four arrays into an empty or new folder."""
        settings = msgspec.to_builtins(_Settings(self.l2, self.max_steps))
        arrays = {
            "centre": self.centre,
            "scale": self.scale,
            "weights": self.weights,
            "intercept": self.intercept,
        }
        write_artifact(folder, ModelFile(1, self.kind, self.feature_names, settings), arrays)

    @classmethod
    def load(cls, folder: Path) -> LogisticModel:
        """The model of an artifact; ArtifactError when the files are not what `save` wrote."""
        n = len(read_header(folder).feature_names)
        shapes = {"centre": (n,), "scale": (n,), "weights": (2 * n,), "intercept": (1,)}
        entries = {name: ArrayEntry("<f8", shape) for name, shape in shapes.items()}
        artifact = read_artifact(folder, cls.kind, entries)
        try:
            settings = msgspec.convert(artifact.file.settings, _Settings)
        except msgspec.ValidationError as error:
            raise ArtifactError(
                f"{folder}: not the settings of a logistic model: {error}"
            ) from error
        if artifact.arrays["scale"].min() <= 0:
            raise ArtifactError(f"{folder / 'scale.npy'} holds a scale that is not positive")
        names = artifact.file.feature_names
        return cls(settings.l2, settings.max_steps, names, **artifact.arrays)

    def _design(self, x: Matrix) -> Floats:
        null = np.isnan(x)
        centred = (x.astype(np.float64) - self.centre) / self.scale
        return np.concatenate([np.where(null, 0.0, centred), null.astype(np.float64)], axis=1)

    def _minimise(self, design: Floats, labels: Floats, share: Floats, mean: float) -> Floats:
        from scipy.optimize import minimize

        def loss(at: Floats) -> tuple[float, Floats]:
            odds = design @ at[1:] + at[0]
            pull = share * (_sigmoid(odds) - labels)
            value = share @ (np.logaddexp(0.0, odds) - labels * odds)
            gradient = np.concatenate([[pull.sum()], design.T @ pull + self.l2 * at[1:]])
            return float(value + self.l2 / 2 * (at[1:] @ at[1:])), gradient

        start = np.zeros(1 + design.shape[1])
        start[0] = np.log(mean / (1 - mean))
        options = {"maxiter": self.max_steps, "gtol": 1e-8, "ftol": 1e-13}
        found = minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
        if not np.isfinite(found.x).all():
            raise InputError(f"logistic regression did not converge: {found.message}")
        return np.asarray(found.x, dtype=np.float64)


def _moments(x: Matrix) -> tuple[Floats, Floats]:
    """The mean and population deviation of each column without its nulls; 0 and 1 where none."""
    known = ~np.isnan(x)
    count = np.maximum(known.sum(axis=0), 1)
    values = np.where(known, x, 0).astype(np.float64)
    centre = values.sum(axis=0) / count
    spread = np.sqrt((np.where(known, values - centre, 0.0) ** 2).sum(axis=0) / count)
    # A constant column has a spread of a few rounding errors, which would blow up anything unseen.
    constant = spread <= 1e-12 * np.abs(centre)
    return centre, np.where(constant, 1.0, spread)


def _sigmoid(odds: Floats) -> Floats:
    """1 / (1 + exp(-odds)), without overflow."""
    small = np.exp(-np.abs(odds))
    return np.where(odds >= 0, 1.0, small) / (1.0 + small)
