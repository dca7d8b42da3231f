"""The ways in which a model can be scored here, and which of them serves: the fastest of those that are right."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from sevenfold.clock import elapsed_s
from sevenfold.errors import ArtifactError
from sevenfold.models.dataset import Matrix
from sevenfold.models.lightgbm import LightGBMModel
from sevenfold.models.probe import Probe
from sevenfold.models.protocol import Model, check_matrix
from sevenfold.models.trees import Trees
from sevenfold.types import Floats

__all__ = ["Choice", "ScoringPath", "choose", "choose_among", "paths_of"]

Scores: TypeAlias = Callable[[Matrix], Floats]
_ROWS = 100  # what the paths are measured with: the candidates of one request
_ROUNDS = 3


@dataclass(frozen=True, slots=True, eq=False)
class ScoringPath:
    """One way to score: its name and the function from rows float32 (n, f) to scores float64 (n,)."""

    name: str
    scores: Scores


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """The path that serves; the seconds that each right path took for 100 rows; why others are not used."""

    path: ScoringPath
    seconds: Mapping[str, float]
    refused: Mapping[str, str]

    def told(self) -> str:
        """The choice in words, for a log."""
        taken = [f"{name}_us={seconds * 1e6:.0f}" for name, seconds in self.seconds.items()]
        why = [f"not_{name}={reason!r}" for name, reason in self.refused.items()]
        return " ".join([f"path={self.path.name}", *taken, *why])


def paths_of(model: Model) -> tuple[list[ScoringPath], dict[str, str]]:
    """The paths that a model has here, its own first; and those that it cannot have, with the reason."""
    own = ScoringPath(model.kind, partial(_own, model))
    if not isinstance(model, LightGBMModel):
        return [own], {}
    try:
        trees = Trees.of_text(model.text) if model.nodes is None else Trees.of_nodes(model.nodes)
    except ArtifactError as error:
        return [own], {"trees": str(error)}
    return [own, ScoringPath("trees", partial(_checked, model, trees))], {}


def choose(model: Model) -> Choice:
    """The fastest path that gives the bits which the training library gave on the rows in the artifact.

    Where an artifact holds none, the model's own path says what is right. Raises ArtifactError when no path does.
    """
    paths, refused = paths_of(model)
    probe = model.probe if isinstance(model, LightGBMModel) else None
    if probe is None and isinstance(model, LightGBMModel) and len(paths) > 1:
        probe = model.probe_of(np.zeros((1, len(model.feature_names)), np.float32))
    if probe is None:
        return Choice(paths[0], MappingProxyType({}), MappingProxyType(refused))
    return choose_among(paths, probe, refused)


def choose_among(
    paths: Sequence[ScoringPath],
    probe: Probe,
    refused: Mapping[str, str],
    seconds: Callable[[ScoringPath, Matrix], float] | None = None,
) -> Choice:
    """The fastest path whose scores of the probe's rows are the probe's, bit for bit.

    `seconds` measures one call. Raises ArtifactError when no path is right, with the first row at which each differs.
    """
    measure = _seconds if seconds is None else seconds
    reasons = dict(refused)
    right = []
    for path in paths:
        difference = probe.difference(path.scores)
        if difference is None:
            right.append(path)
        else:
            reasons[path.name] = difference
    if not right:
        raise ArtifactError(
            "no way to score this model gives the scores that were stored when it was trained: "
            + "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        )
    rows = np.resize(probe.rows, (_ROWS, probe.rows.shape[1]))
    # In turns, so that what else the machine does meets all of them; the least, because it only adds.
    rounds = [[measure(path, rows) for path in right] for _ in range(_ROUNDS)]
    taken = {
        path.name: min(times) for path, times in zip(right, zip(*rounds, strict=True), strict=True)
    }
    fastest = min(right, key=lambda path: taken[path.name])
    return Choice(fastest, MappingProxyType(taken), MappingProxyType(reasons))


def _own(model: Model, x: Matrix) -> Floats:
    return model.scores(x)


def _checked(model: Model, trees: Trees, x: Matrix) -> Floats:
    if not trees.takes(x):
        check_matrix(x, model.feature_names, model.kind)  # says what is wrong
    return trees.scores(x)


def _seconds(path: ScoringPath, rows: Matrix) -> float:
    begin_s = elapsed_s()
    path.scores(rows)
    return elapsed_s() - begin_s
