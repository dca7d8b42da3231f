"""Retraining: fit on matured requests, judge on the newest, ask the gate, register, promote."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sevenfold.errors import LeakageError, RunError
from sevenfold.evaluation.gate import Evidence, Gate, Verdict
from sevenfold.evaluation.leakage import check_leakage, suspicious_features
from sevenfold.loop.digest import Digest
from sevenfold.models.dataset import Dataset
from sevenfold.models.lightgbm import LightGBMModel, LightGBMSettings
from sevenfold.models.logistic import LogisticModel
from sevenfold.models.protocol import Model
from sevenfold.models.rule import RuleModel
from sevenfold.registry.manifest import signature
from sevenfold.registry.registry import Registry
from sevenfold.spec.evaluation import Evaluation
from sevenfold.spec.feature_set import FeatureSet
from sevenfold.spec.model import LogisticRegression, ModelSpec, Rule
from sevenfold.spec.units import parse_duration
from sevenfold.types import Floats, Instant

__all__ = ["Learned", "Learner", "make_model"]


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """A challenger: its model, what the gate said, and the version it was registered as."""

    spec: ModelSpec
    model: Model
    verdict: Verdict
    version: int
    rows: int
    requests: int


def make_model(spec: ModelSpec) -> Model:
    """The model that a declaration describes, not fitted yet; a rule is ready as it is."""
    if isinstance(spec, Rule):
        return RuleModel(spec.by, spec.then, tuple(spec.features))
    if isinstance(spec, LogisticRegression):
        return LogisticModel(l2=spec.l2)
    return LightGBMModel(
        LightGBMSettings(
            n_trees=spec.n_trees,
            learning_rate=spec.learning_rate,
            n_leaves=spec.n_leaves,
            min_rows_in_leaf=spec.min_rows_in_leaf,
            l2=spec.l2,
            feature_share=spec.feature_share,
            row_share=spec.row_share,
            truncation=spec.truncation,
            num_threads=spec.threads,
        )
    )


@dataclass(frozen=True, slots=True, eq=False)
class Learner:
    """Makes challengers of one system.

    `hashes` are the definitions of all features; a registered version is bound to those it reads.
    """

    evaluation: Evaluation
    registry: Registry
    hashes: Mapping[str, str]
    folder: Path

    def training_set(self, digests: Sequence[Digest], until_us: Instant) -> Dataset:
        """Rows of requests inside the training window before `until_us`.

        Raises RunError when there are none.
        """
        begin_us = until_us - parse_duration(self.evaluation.split.train)
        parts = []
        for digest in digests:
            if digest.training is None:
                continue
            first_rows = digest.training.starts
            times = digest.training.t_us[first_rows[: digest.training.n_requests]]
            inside = np.flatnonzero((times >= begin_us) & (times < until_us))
            if len(inside):
                parts.append(digest.training.take(inside))
        if not parts:
            raise RunError("no matured request to learn from: wait until outcomes have come in")
        return Dataset.concat(parts)

    def fit(self, spec: ModelSpec, dataset: Dataset, rng: np.random.Generator) -> Model:
        """The fitted model, its training scores checked for leakage.

        Raises LeakageError, naming the features that tell the label, when they rank nearly perfectly.
        """
        chosen = dataset.select(list(spec.features))
        limit = self.evaluation.leakage_auc_max
        model = make_model(spec).fit(chosen, rng)
        scores = model.scores(chosen.x)
        try:
            check_leakage(scores, chosen.y, limit)
        except LeakageError as error:
            suspects = suspicious_features(chosen.x, chosen.y, list(chosen.feature_names))
            named = ", ".join(f"{s.name} (AUC {s.auc:.3f})" for s in suspects) or "none alone"
            message = f"{error} Features that tell the label by themselves: {named}."
            raise LeakageError(message) from error
        return model

    def gate(self) -> Gate:
        """The gate that the evaluation declares."""
        declared = self.evaluation.gate
        return Gate(
            self.evaluation.primary,
            minimum_requests=declared.min_requests,
            maximum_loss=declared.max_loss,
            maximum_slice_loss=declared.max_slice_loss,
            minimum_slice=declared.min_slice,
            maximum_auc=self.evaluation.leakage_auc_max,
        )

    def judge(
        self, values: Mapping[str, Floats], clusters: Sequence[str], slices: Mapping[str, Any]
    ) -> Verdict:
        """The verdict on the metric of "challenger", "baseline" and, if there is one, "champion"."""
        evidence = Evidence(
            values["challenger"], values["baseline"], values.get("champion"), clusters, dict(slices)
        )
        return self.gate().judge(evidence, np.random.default_rng(0))

    def _set_of(self, spec: ModelSpec) -> dict[str, Any]:
        """The feature set that a model is bound to, for its lineage; nothing for a plain list."""
        chosen = spec.features
        if not isinstance(chosen, FeatureSet):
            return {}
        told = {"name": chosen.name, "version": chosen.version}
        return {"feature_set": {**told, "hash": signature(chosen, self.hashes)}}

    def register(
        self,
        spec: ModelSpec,
        model: Model,
        metrics: Mapping[str, float],
        lineage: Mapping[str, Any],
        at_us: Instant,
    ) -> int:
        """The number under which the model is kept, bound to the definitions of its features."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            path = Path(folder) / "model"
            model.save(path)
            names = list(model.feature_names)
            version = self.registry.register(
                path,
                name=spec.name,
                feature_names=names,
                feature_hashes={name: self.hashes[name] for name in names},
                metrics=dict(metrics),
                lineage={**lineage, **self._set_of(spec)},
                created_us=at_us,
            )
        return version.version
