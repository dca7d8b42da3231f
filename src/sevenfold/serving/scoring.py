"""The scores of a rung: by the champion, the light model, the rule, or the order in which candidates came."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sevenfold.clock import elapsed_s
from sevenfold.errors import ServingError, SevenfoldError
from sevenfold.models.rule import RuleModel
from sevenfold.serving.budget import Pace
from sevenfold.serving.champion import Champion, Loaded
from sevenfold.serving.definition import Definition
from sevenfold.serving.on_trial import OnTrial
from sevenfold.serving.rungs import ladder
from sevenfold.spec.model import Rule
from sevenfold.types import Floats

__all__ = ["Scored", "Scoring"]

_LOG = logging.getLogger(__name__)
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Scores of the candidates (n,), higher is better, what made them, and why the model on trial did not."""

    scores: Floats
    model: str
    version: int
    rung: str
    without: str = ""


_BY_CHAMPION = ("full", "fewer")
_NOTHING = Scored(np.empty(0), "none", 0, "empty")


class Scoring:
    """What can score for one definition: each rung of its ladder, and how long each has taken of late."""

    def __init__(self, definition: Definition, champion: Champion, pace: Pace) -> None:
        system = definition.system
        self.rungs = ladder(system.serving)
        self.champion = champion
        self._pace = pace
        self._light: Champion | None = None
        self._features = definition.features
        hashes = {name: definition.hashes[name] for name in self._features}
        self.canary = OnTrial(champion.registry, self._features, hashes, "canary")
        self.canary.follow()  # loaded before the first answer
        if "light" in self.rungs:
            self._light = Champion(champion.registry, self._features, hashes, "light")
        baseline = system.baseline
        self._rule: RuleModel | None = None
        if isinstance(baseline, Rule):
            self._rule = RuleModel(baseline.by, baseline.then, tuple(baseline.features))

    @property
    def champions(self) -> tuple[Champion, ...]:
        """Who follows the aliases that answers are scored by."""
        return (self.champion,) if self._light is None else (self.champion, self._light)

    def scored(
        self, vectors: Vectors, rungs: Sequence[str], canary: Loaded | None = None
    ) -> Scored:
        """The scores of the first of `rungs` that can give them; of none, nothing, as `empty`.

        Where there is a `canary` it scores in the champion's place, and the champion where it fails.
        """
        if canary is not None and rungs[0] in _BY_CHAMPION:
            made = self._on_trial(canary, rungs[0], vectors)
            return made or replace(self._scored(vectors, rungs), without="failed")
        return self._scored(vectors, rungs)

    def _scored(self, vectors: Vectors, rungs: Sequence[str]) -> Scored:
        for rung in rungs:
            if rung == "fewer" and rungs[0] == "full":
                continue  # the same model, which has just failed
            made = self._made(rung, vectors)
            if made is not None:
                return made
        return _NOTHING

    def in_order(self, n: int, rungs: Sequence[str]) -> Scored:
        """The order in which candidates came, without features; nothing where `popular` is not among `rungs`."""
        if "popular" not in rungs or not n:
            return _NOTHING
        return Scored(-np.arange(n, dtype=np.float64), "popular", 0, "popular")

    def expected_s(self, rung: str, rows: int) -> float:
        """How long the scores of `rows` rows by a rung take, by what was measured, in seconds.

        Nothing is loaded for it: a model that has moved is met when it scores.
        """
        champion = self._champion(rung)
        if champion is None or champion.loaded is None:
            return 0.0
        return self.expected_of_s(champion.loaded, rows)

    def expected_of_s(self, loaded: Loaded, rows: int) -> float:
        """How long the scores of `rows` rows by a model take, by what was measured, in seconds."""
        return self._pace.expected_s(_kind(loaded), rows)

    def _on_trial(self, canary: Loaded, rung: str, vectors: Vectors) -> Scored | None:
        try:
            return self._by_model(canary, rung, vectors)
        except Exception:  # noqa: BLE001  the edge of what is on trial: whatever it raises, the champion answers
            _LOG.exception("canary failed name=%s version=%d", canary.name, canary.version)
            return None

    def _champion(self, rung: str) -> Champion | None:
        if rung in ("full", "fewer", "nulls"):
            return self.champion
        return self._light if rung == "light" else None

    def _made(self, rung: str, vectors: Vectors) -> Scored | None:
        """The scores of a rung; None when it cannot give them."""
        if rung == "baseline" and self._rule is not None:
            columns = [self._features.index(name) for name in self._rule.feature_names]
            return Scored(self._rule.scores(vectors[:, columns]), "rule", 0, rung)
        if rung == "popular":
            return self.in_order(len(vectors), (rung,))
        champion = self._champion(rung)
        loaded = None if champion is None else champion.follow()
        return None if loaded is None else self._by_model(loaded, rung, vectors)

    def _by_model(self, loaded: Loaded, rung: str, vectors: Vectors) -> Scored | None:
        """The scores of a loaded model; None, and a line in the log, when it cannot give them."""
        begun_s = elapsed_s()
        try:
            scores = loaded.scores(vectors)
            # A sum of numbers that is finite has none that is not.
            if not math.isfinite(np.add.reduce(scores)) and not np.isfinite(scores).all():
                raise ServingError("a score is not finite")
        except SevenfoldError as error:
            _LOG.error(
                "model failed name=%s version=%d error=%s", loaded.name, loaded.version, error
            )
            return None
        self._pace.learn(_kind(loaded), len(vectors), elapsed_s() - begun_s)
        return Scored(scores, loaded.name, loaded.version, rung)


def _kind(loaded: Loaded) -> str:
    return f"model {loaded.version}"
