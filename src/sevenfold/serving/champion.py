"""The model that serves now: the one behind an alias, swapped when the alias moves."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sevenfold.errors import RegistryError, SevenfoldError
from sevenfold.models.dataset import Matrix
from sevenfold.models.lightgbm import LightGBMModel
from sevenfold.models.paths import Choice, choose
from sevenfold.models.probe import Probe
from sevenfold.models.protocol import Model
from sevenfold.registry.registry import Registry
from sevenfold.types import Floats

__all__ = ["Champion", "Loaded"]

_LOG = logging.getLogger(__name__)
_PROBE_ROWS = 8  # scored each time that somebody asks whether the model works


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """A model ready to score: its name, version, how it is scored and the columns of the vector it reads.

    `probe` are rows whose scores are known: those stored with the model, or else of when it was loaded.
    """

    name: str
    version: int
    model: Model
    columns: npt.NDArray[np.intp] | slice
    choice: Choice
    probe: Probe

    def differs(self) -> str | None:
        """How the scores of the probe are other than they were, in words; None when they are the same, bit for bit."""
        difference = self.probe.difference(self.choice.path.scores)
        return None if difference is None else f"version {self.version}: {difference}"

    def scores(self, vectors: Matrix) -> Floats:
        """The scores of feature vectors float32 (n, f), as float64 (n,), by the path that was chosen."""
        return self.choice.path.scores(vectors[:, self.columns])


class Champion:
    """Follows an alias of the registry.

    A version whose features are not what this process computes is refused, and what served before goes on
    serving; `refused` says why.
    """

    def __init__(
        self,
        registry: Registry,
        features: Sequence[str],
        hashes: Mapping[str, str],
        alias: str = "champion",
    ) -> None:
        self.registry = registry
        self._features = list(features)
        self._hashes = hashes
        self.alias = alias
        self._path = str(registry.alias_path(alias))
        self._changes = -1
        self._stamp: tuple[int, int] | None = None
        self._pinned = False
        self.loaded: Loaded | None = None
        self.refused: str | None = None
        self.reload()

    def pin(self) -> None:
        """Stay with what is loaded from now on, wherever the alias moves."""
        self._pinned = True

    def follow(self) -> Loaded | None:
        """The model to score with; looks whether the alias has moved."""
        if self._pinned:
            return self.loaded
        changes = self.registry.watch.look()
        if changes != self._changes:
            self._changes = changes
            if self._stamp_now() != self._stamp:
                self.reload()
        return self.loaded

    def reload(self) -> bool:
        """Load what the alias names; whether that is another version than before."""
        self._stamp = self._stamp_now()
        before = self.loaded.version if self.loaded else None
        try:
            version = self.registry.alias(self.alias)
            if version is None or version == before:
                self.refused = None
                return False
            self.loaded = self._load(version)
            self.refused = None
        except SevenfoldError as error:
            self.refused = str(error)
            _LOG.error("model refused alias=%s error=%s", self.alias, error)
            return False
        _LOG.info(
            "model loaded name=%s version=%d %s",
            self.loaded.name,
            self.loaded.version,
            self.loaded.choice.told(),
        )
        return True

    def _load(self, version: int) -> Loaded:
        described = self.registry.get(version)
        model = self.registry.load(version)
        self.registry.require_signature(version, model.feature_names, self._hashes)
        missing = [name for name in model.feature_names if name not in self._features]
        if missing:
            raise RegistryError(f"version {version} reads {missing[0]!r}, which is not served")
        columns = _places([self._features.index(name) for name in model.feature_names])
        choice = choose(model)
        empty = np.full((1, len(model.feature_names)), np.nan, dtype=np.float32)
        found = choice.path.scores(empty)
        if not np.isfinite(found).all():
            raise RegistryError(f"version {version} gives no finite score for a row of nulls")
        stored = model.probe if isinstance(model, LightGBMModel) else None
        probe = stored or Probe(empty, found)
        few = Probe(probe.rows[:_PROBE_ROWS], probe.scores[:_PROBE_ROWS])
        return Loaded(described.manifest.name, version, model, columns, choice, few)

    def _stamp_now(self) -> tuple[int, int] | None:
        try:
            stat = os.stat(self._path)
        except FileNotFoundError:
            return None
        return stat.st_mtime_ns, stat.st_ino


def _places(columns: list[int]) -> npt.NDArray[np.intp] | slice:
    """The columns, as a slice where they are neighbours in their order: those are read where they lie."""
    if columns and columns == list(range(columns[0], columns[0] + len(columns))):
        return slice(columns[0], columns[-1] + 1)
    return np.array(columns, np.intp)
