"""The model of an artifact of any kind."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import MappingProxyType

from sevenfold.errors import ArtifactError
from sevenfold.models.artifact import read_header
from sevenfold.models.lightgbm import LightGBMModel
from sevenfold.models.logistic import LogisticModel
from sevenfold.models.protocol import Model
from sevenfold.models.rule import RuleModel

__all__ = ["KINDS", "load_model"]

# A closed table: what a file says chooses one of these, and can never name code of its own.
KINDS: Mapping[str, Callable[[Path], Model]] = MappingProxyType(
    {
        "lightgbm": LightGBMModel.load,
        "logistic": LogisticModel.load,
        "rule": RuleModel.load,
    }
)


def load_model(folder: Path, kinds: Collection[str] = frozenset(KINDS)) -> Model:
    """The model that was saved into `folder`; ArtifactError when its kind is not one of `kinds`, or not known at all."""
    kind = read_header(folder).kind
    if kind not in KINDS:
        raise ArtifactError(f"{folder} holds a model of kind {kind!r}; known kinds are {[*KINDS]}")
    if kind not in kinds:
        raise ArtifactError(
            f"{folder} holds a model of kind {kind!r}; this process loads {sorted(kinds)} only, as it was told to"
        )
    return KINDS[kind](folder)
