"""One answer, stage by stage: features, score, choose, log; and what is done when a stage fails."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sevenfold.clock import elapsed_s
from sevenfold.engines.online import OnlineEngine
from sevenfold.errors import ServingError, SevenfoldError
from sevenfold.features.frame import Spine
from sevenfold.hashing import siphash128
from sevenfold.models.rule import RuleModel
from sevenfold.retrieval.fusion import Fused, candidate_fields
from sevenfold.serving.champion import Champion, Loaded
from sevenfold.serving.definition import Definition
from sevenfold.serving.prediction_log import Prediction, features_id, packed, write_prediction
from sevenfold.serving.request import RecommendRequest
from sevenfold.serving.rungs import FULL, Allowance, fewer_of, ladder, rungs_from
from sevenfold.spec.model import Rule
from sevenfold.spec.units import parse_duration
from sevenfold.stores.kv import Store, Transaction
from sevenfold.types import Floats, Instant, Texts

__all__ = ["Answer", "Answering"]

_LOG = logging.getLogger(__name__)
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Scores of the candidates (n,), higher is better, and what made them."""

    scores: Floats
    model: str
    version: int
    rung: str


class Answering:
    """What all answers share: the features they log, the engine, the model, the rule to fall back on."""

    def __init__(
        self,
        definition: Definition,
        engine: OnlineEngine,
        champion: Champion,
        in_time: bool = True,
    ) -> None:
        system = definition.system
        self.system = system
        self.features = definition.features
        self._hashes = [definition.hashes[name] for name in self.features]
        self.engine = engine
        self.champion = champion
        self.item = system.task.item.name
        # A replay must not answer otherwise on a slower machine: there only the request's own limit holds.
        latency = system.requirements.latency.p99
        self.budget_s = parse_duration(latency) / 1e6 if in_time else math.inf
        self.rungs = ladder(system.serving)
        self._light: Champion | None = None
        if "light" in self.rungs:
            hashes = {name: definition.hashes[name] for name in self.features}
            self._light = Champion(champion.registry, self.features, hashes, "light")
        baseline = system.baseline
        self._rule: RuleModel | None = None
        if isinstance(baseline, Rule):
            self._rule = RuleModel(baseline.by, baseline.then, tuple(baseline.features))

    @property
    def champions(self) -> tuple[Champion, ...]:
        """Who follows the aliases that answers are scored by."""
        return (self.champion,) if self._light is None else (self.champion, self._light)

    def start(
        self, request: RecommendRequest, t_us: Instant, allowance: Allowance = FULL
    ) -> Answer:
        """An answer, its time running from when the request arrived."""
        arrived_s = elapsed_s() if allowance.arrived_s is None else allowance.arrived_s
        budget_s = min(self.budget_s, (request.timeout_ms or math.inf) / 1000)
        deadline_s = min(arrived_s + budget_s, allowance.deadline_s)
        return Answer(self, request, t_us, deadline_s, rungs_from(self.rungs, allowance.best))

    def read(self, txn: Transaction, spine: Spine) -> Vectors:
        """The vectors of a spine, float32 (n, f)."""
        return self.engine.read(txn, self.features, spine).vectors()

    def score(self, vectors: Vectors, rungs: Sequence[str]) -> Scored:
        """The scores of the first of `rungs` that can give them; of none, those of the last, `empty`."""
        for rung in rungs:
            if rung == "fewer" and rungs[0] == "full":
                continue  # the same model, which has just failed
            scored = self._scored(rung, vectors)
            if scored is not None:
                return scored
        return Scored(np.empty(0), "none", 0, "empty")

    def _scored(self, rung: str, vectors: Vectors) -> Scored | None:
        """The scores of a rung; None when it cannot give them."""
        if rung == "baseline" and self._rule is not None:
            columns = [self.features.index(name) for name in self._rule.feature_names]
            return Scored(self._rule.scores(vectors[:, columns]), "rule", 0, "baseline")
        if rung == "popular":
            return self.popular(len(vectors), (rung,))
        loaded = None
        if rung in ("full", "fewer"):
            loaded = self.champion.follow()
        elif rung == "light" and self._light is not None:
            loaded = self._light.follow()
        return None if loaded is None else _by_model(loaded, rung, vectors)

    def popular(self, n: int, rungs: Sequence[str]) -> Scored:
        """The generators' own order: the rung that needs no features; nothing where it is not among `rungs`."""
        if "popular" not in rungs:
            return Scored(np.empty(0), "none", 0, "empty")
        return Scored(-np.arange(n, dtype=np.float64), "popular", 0, "popular" if n else "empty")

    def probe(self, txn: Transaction, spine: Spine, generators: Sequence[str]) -> str | None:
        """Why a row cannot be scored; None when it can."""
        unknown = np.full((1, len(generators)), np.nan, dtype=np.float32)
        fields = candidate_fields(unknown, generators)
        try:
            vectors = self.read(txn, Spine(spine.t_us, spine.keys, fields))
            scored = self.score(vectors, self.rungs)
        except SevenfoldError as error:
            return str(error)
        if not np.isfinite(scored.scores).all():
            return f"model {scored.model} version {scored.version} gives no finite score"
        return self.champion.refused if self.champion.loaded is None else None

    def log(self, store: Store, prediction: Prediction, answer: Answer) -> None:
        """Write the answer durably; afterwards it is one that was given."""
        answer.mark("score")
        with store.write() as txn:
            prediction.features = features_id(txn, self.features, self._hashes)
            prediction.timing_us = dict(answer.timing_us)
            write_prediction(txn, prediction)
        answer.mark("log")
        prediction.timing_us = answer.timing_us


@dataclass(eq=False)
class Answer:
    """An answer in the making."""

    shared: Answering
    request: RecommendRequest
    t_us: Instant
    deadline_s: float
    rungs: tuple[str, ...]
    timing_us: dict[str, int] = field(default_factory=dict)
    _since_s: float = field(default_factory=elapsed_s)

    @property
    def k(self) -> int:
        """How many items are answered."""
        return self.request.k or self.shared.system.task.k

    def mark(self, stage: str) -> None:
        """End a stage."""
        now_s = elapsed_s()
        self.timing_us[stage] = round((now_s - self._since_s) * 1e6)
        self._since_s = now_s

    @property
    def reads_features(self) -> bool:
        """Whether a rung that is allowed ranks by features."""
        return self.rungs[0] not in ("popular", "empty")

    def allowed(self, fused: Fused) -> Fused:
        """As many candidates as the allowance has; `full` is left out of the rungs only where some are cut."""
        rungs = ladder(self.shared.system.serving)
        if self.rungs[0] == "empty":
            return fused.first(0)
        if self.rungs[0] == "full" or "fewer" not in rungs:
            return fused
        most = fewer_of(self.shared.system.serving, self.k)
        if len(fused) <= most and self.rungs[0] == "fewer":
            self.rungs = rungs
        return fused.first(most)

    def finish(
        self, txn: Transaction, fused: Fused, items: list[str], generators: list[str]
    ) -> Prediction:
        """Score the candidates and choose the slate; ties keep the candidates' order."""
        self.mark("retrieve")
        shared = self.shared
        vectors = np.empty((0, len(shared.features)), dtype=np.float32)
        rungs = self.rungs
        if not items or not self.reads_features or elapsed_s() > self.deadline_s:
            scored = shared.popular(len(items), rungs)
        else:
            vectors = shared.read(txn, self._spine(fused, items, generators))
            self.mark("features")
            if elapsed_s() > self.deadline_s:
                rungs = rungs_from(rungs, "baseline")
            scored = shared.score(vectors, rungs)
        k = self.k
        shown = np.argsort(-scored.scores, kind="stable")[:k]
        logged, weight = self._sampled(shown, len(vectors))
        return Prediction(
            request_id=self.request.request_id,
            t_us=self.t_us,
            keys=self.request.keys,
            model=scored.model,
            version=scored.version,
            rung=scored.rung,
            k=k,
            features="",
            generators=generators,
            items=items,
            sources=packed(fused.sources, np.uint32),
            candidate_scores=packed(fused.scores, np.float32),
            shown=packed(shown, np.int32),
            scores=packed(scored.scores[shown], np.float64),
            logged=packed(logged, np.int32),
            vectors=packed(vectors[logged], np.float32),
            sample_weight=weight,
        )

    def _spine(self, fused: Fused, items: list[str], generators: list[str]) -> Spine:
        keys = {name: Texts.of([key]) for name, key in self.request.keys.items()}
        keys[self.shared.item] = Texts.of(items)
        fields = candidate_fields(fused.scores, generators)
        return Spine(np.full(len(items), self.t_us, dtype=np.int64), keys, fields)

    def _sampled(self, shown: npt.NDArray[np.intp], n: int) -> tuple[npt.NDArray[np.intp], float]:
        """The rows whose vectors are logged: the slate, and a sample of the others with its weight.

        None when there was no time to read any: what was not read cannot be logged.
        """
        if not n:
            return shown[:0], 0.0
        log = self.shared.system.serving.log
        others = np.setdiff1d(np.arange(n), shown)
        size = min(log.sample if log else 0, len(others))
        if not size:
            return shown, 0.0
        # The request's own name draws the sample, so that a replay draws the same.
        rng = np.random.default_rng(siphash128(self.request.request_id.encode()))
        sample = np.sort(rng.choice(others, size, replace=False))
        return np.concatenate([shown, sample]), len(others) / size


def _by_model(loaded: Loaded, rung: str, vectors: Vectors) -> Scored | None:
    """The scores of a loaded model; None, and a line in the log, when it cannot give them."""
    try:
        scores = loaded.scores(vectors)
        if not np.isfinite(scores).all():
            raise ServingError("a score is not finite")
    except SevenfoldError as error:
        _LOG.error("model failed name=%s version=%d error=%s", loaded.name, loaded.version, error)
        return None
    return Scored(scores, loaded.name, loaded.version, rung)
