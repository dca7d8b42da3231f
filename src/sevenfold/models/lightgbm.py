"""Gradient boosted trees that learn the order of a list: LambdaMART by LightGBM."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt

from sevenfold.errors import ArtifactError, InputError
from sevenfold.models.artifact import (
    ArrayEntry,
    ModelFile,
    read_artifact,
    read_header,
    write_artifact,
)
from sevenfold.models.dataset import Dataset, Matrix
from sevenfold.models.probe import MOST_ROWS, Probe, probe_rows
from sevenfold.models.protocol import check_features, check_matrix
from sevenfold.models.trees import Nodes
from sevenfold.types import Floats

__all__ = ["LightGBMModel", "LightGBMSettings"]

_MAX_ROWS_OF_REQUEST = 10_000  # LightGBM stops with an error above this
_MAX_FEATURES = 1 << 20
_MAX_LABEL = 30  # the last level that has a gain by default


class LightGBMSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The settings of the trees; the defaults are small enough for a laptop.

    `truncation` is the position down to which pairs are compared; `stop_after` is the number of rounds
    without a better nDCG on the validation set after which training ends.
    """

    n_trees: int = 200
    learning_rate: float = 0.05
    n_leaves: int = 31
    min_rows_in_leaf: int = 50
    l2: float = 1.0
    feature_share: float = 0.8
    row_share: float = 1.0
    truncation: int = 20
    stop_after: int = 30
    num_threads: int = 1

    def parameters(self, seed: int) -> dict[str, Any]:
        """The same settings under LightGBM's names, with everything that makes a run repeatable."""
        return {
            "objective": "lambdarank",
            "metric": "ndcg",
            "eval_at": [self.truncation],
            "lambdarank_truncation_level": self.truncation,
            "learning_rate": self.learning_rate,
            "num_leaves": self.n_leaves,
            "min_data_in_leaf": self.min_rows_in_leaf,
            "lambda_l2": self.l2,
            "feature_fraction": self.feature_share,
            "bagging_fraction": self.row_share,
            "bagging_freq": 1 if self.row_share < 1 else 0,
            "bagging_by_query": True,
            "num_threads": self.num_threads,
            "seed": seed,
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
        }


@dataclass(frozen=True, slots=True, eq=False)
class LightGBMModel:
    """LambdaMART (Burges 2010): trees fitted to the change of nDCG that swapping two rows would make.

    Labels are whole grades 0..30. A null goes down its own branch where training rows had nulls; where
    a feature had none in training, a null is read as 0. The artifact is LightGBM's own text, and rows with
    their scores, by which other ways to score are judged (`sevenfold.models.paths`).
    """

    settings: LightGBMSettings = field(default_factory=LightGBMSettings)
    feature_names: tuple[str, ...] = ()
    text: str = field(default="", repr=False)
    probe: Probe | None = field(default=None, repr=False)
    nodes: Nodes | None = field(default=None, repr=False)
    _booster: Any = field(default=None, repr=False)
    kind: ClassVar[str] = "lightgbm"

    def fit(
        self, dataset: Dataset, rng: np.random.Generator, validation: Dataset | None = None
    ) -> LightGBMModel:
        """The model learnt from `dataset`; with a validation set, of as many trees as were best on it.

        Raises InputError for labels that are no grades, a request of over 10,000 rows, no request with
        rows of different labels, or a validation set with other features.
        """
        import lightgbm

        _check_learnable(dataset)
        train = _rows(dataset)
        sets: list[Any] = []
        callbacks: list[Any] = []
        if validation is not None:
            check_features(
                replace(self, feature_names=dataset.feature_names), validation.feature_names
            )
            sets = [_rows(validation, reference=train)]
            callbacks = [lightgbm.early_stopping(self.settings.stop_after, verbose=False)]
        booster = lightgbm.train(
            self.settings.parameters(int(rng.integers(2**31))),
            train,
            num_boost_round=self.settings.n_trees,
            valid_sets=sets,
            callbacks=callbacks,
        )
        best = booster.best_iteration if sets else booster.current_iteration()
        text = booster.model_to_string(num_iteration=best)
        fitted = self._of_text(dataset.feature_names, text)
        return replace(fitted, probe=fitted.probe_of(dataset.x))

    def scores(self, x: Matrix) -> Floats:
        """The scores of rows float32 (n, f), null as NaN, as float64 (n,)."""
        check_matrix(x, self.feature_names, self.kind)
        if not len(x):
            return np.zeros(0)
        import lightgbm

        try:
            # One thread, whatever training had: a server's workers must not fight for the cores.
            found = self._booster.predict(x, num_threads=1)
        except lightgbm.basic.LightGBMError as error:
            raise ArtifactError(f"the trees cannot score: {error}") from error
        return np.asarray(found, dtype=np.float64)

    def probe_of(self, x: Matrix) -> Probe:
        """Some of the rows float32 (n, f), n at least 1, such rows with values at thresholds, and their scores."""
        nodes = Nodes.of_text(self.text) if self.nodes is None else self.nodes
        rows = probe_rows(x, nodes.feature, nodes.threshold)
        return Probe(rows, self.scores(rows))

    def importances(self) -> dict[str, float]:
        """The share of each feature in the total gain of all splits; the shares add up to 1."""
        check_matrix(
            np.zeros((0, len(self.feature_names)), np.float32), self.feature_names, self.kind
        )
        gain = self._booster.feature_importance("gain").astype(np.float64)
        shares = gain / max(gain.sum(), np.finfo(np.float64).tiny)
        return dict(zip(self.feature_names, shares.tolist(), strict=True))

    @property
    def n_trees(self) -> int:
        """The number of trees that were kept; 0 before `fit`."""
        return 0 if self._booster is None else int(self._booster.num_trees())

    def save(self, folder: Path) -> None:
        """Write `model.json`, `trees.txt`, `probe_rows.npy` and `probe_scores.npy` into an empty or new folder."""
        settings = msgspec.to_builtins(self.settings)
        file = ModelFile(1, self.kind, self.feature_names, settings)
        probe = self.probe
        arrays: dict[str, npt.NDArray[Any]] = {}
        if probe is not None:
            arrays = {"probe_rows": probe.rows, "probe_scores": probe.scores}
        write_artifact(folder, file, arrays, texts={"trees": self.text})

    @classmethod
    def load(cls, folder: Path) -> LightGBMModel:
        """The model of an artifact; ArtifactError when the files are not what `save` wrote."""
        artifact = read_artifact(folder, cls.kind, _probe_arrays(folder), texts=("trees",))
        try:
            settings = msgspec.convert(artifact.file.settings, LightGBMSettings)
        except msgspec.ValidationError as error:
            raise ArtifactError(
                f"{folder}: not the settings of a LightGBM model: {error}"
            ) from error
        try:
            model = cls(settings)._of_text(artifact.file.feature_names, artifact.texts["trees"])
        except ArtifactError as error:
            raise ArtifactError(f"{folder / 'trees.txt'}: {error}") from error
        if not artifact.arrays:
            return model
        probe = Probe(artifact.arrays["probe_rows"], artifact.arrays["probe_scores"])
        if probe.rows.shape[1] != len(model.feature_names):
            raise ArtifactError(
                f"{folder / 'probe_rows.npy'} has {probe.rows.shape[1]} columns for "
                f"{len(model.feature_names)} features"
            )
        return replace(model, probe=probe)

    def _of_text(self, feature_names: tuple[str, ...], text: str) -> LightGBMModel:
        """The model of LightGBM's text: after fit as after load, so that both score the same bits."""
        import lightgbm

        if not text.startswith("tree\n") or "\nend of trees\n" not in text:
            raise ArtifactError("the trees are not a whole LightGBM model in text form")
        nodes = Nodes.of_text(text)  # first: what is not so would end the process there
        try:
            booster = lightgbm.Booster(model_str=_without_sizes(text))
        except lightgbm.basic.LightGBMError as error:
            raise ArtifactError(f"LightGBM cannot read the trees: {error}") from error
        if booster.num_feature() != len(feature_names):
            raise ArtifactError(
                f"the trees read {booster.num_feature()} features, but {len(feature_names)} are named"
            )
        return LightGBMModel(self.settings, feature_names, text, None, nodes, booster)


def _without_sizes(text: str) -> str:
    """The text without its line of sizes.

    By it LightGBM reads trees on many threads, where a size that is wrong ends the process; without, it is an error.
    """
    head, tree, trees = text.partition("\nTree=")
    before, found, after = head.partition("\ntree_sizes=")
    return before + found[:1] + after.partition("\n")[2] + tree + trees if found else text


def _probe_arrays(folder: Path) -> dict[str, ArrayEntry]:
    """The arrays that an artifact must have; none in those written before there was a probe."""
    given = read_header(folder).arrays
    if not given:
        return {}
    rows, scores = (given.get(name, ArrayEntry("", ())) for name in ("probe_rows", "probe_scores"))
    n = scores.shape[0] if scores.shape else 0
    if len(rows.shape) != 2 or not 1 <= n <= MOST_ROWS or rows.shape[1] > _MAX_FEATURES:
        raise ArtifactError(
            f"{folder / 'model.json'}: the probe has rows {rows.shape} and scores {scores.shape}, must have "
            f"1 to {MOST_ROWS} rows"
        )
    return {
        "probe_rows": ArrayEntry("<f4", (n, rows.shape[1])),
        "probe_scores": ArrayEntry("<f8", (n,)),
    }


def _rows(dataset: Dataset, reference: Any = None) -> Any:
    import lightgbm

    return lightgbm.Dataset(
        dataset.x,
        label=dataset.y,
        group=dataset.groups,
        weight=dataset.weights,
        reference=reference,
        free_raw_data=True,
    )


def _check_learnable(dataset: Dataset) -> None:
    if not len(dataset):
        raise InputError("there are no rows to learn from")
    if (dataset.y != np.floor(dataset.y)).any() or dataset.y.max() > _MAX_LABEL:
        raise InputError(f"labels to rank by must be whole grades from 0 to {_MAX_LABEL}")
    if dataset.groups.max() > _MAX_ROWS_OF_REQUEST:
        raise InputError(
            f"a request has {dataset.groups.max()} rows; LightGBM ranks at most "
            f"{_MAX_ROWS_OF_REQUEST}: keep all positives and sample the rest"
        )
    low = np.minimum.reduceat(dataset.y, dataset.starts)
    high = np.maximum.reduceat(dataset.y, dataset.starts)
    if (low == high).all():
        raise InputError(
            "in every request all rows have the same label: there is no order to learn"
        )
