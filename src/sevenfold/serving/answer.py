"""One answer, stage by stage: retrieve, filter, features, score, rerank, log; and what is done when one fails or is late."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sevenfold.clock import elapsed_s
from sevenfold.engines.online import OnlineEngine
from sevenfold.errors import SevenfoldError, StoreError
from sevenfold.features.assemble import assemble
from sevenfold.features.frame import Spine
from sevenfold.retrieval.build import Retrieval
from sevenfold.retrieval.fusion import candidate_fields, unproposed
from sevenfold.retrieval.protocol import Query
from sevenfold.serving.ahead import Ahead
from sevenfold.serving.budget import Budget, Pace, split_of
from sevenfold.serving.caches import Slates
from sevenfold.serving.candidates import Candidates, sampled
from sevenfold.serving.champion import Champion, Loaded
from sevenfold.serving.definition import Definition
from sevenfold.serving.filtering import Filters
from sevenfold.serving.on_trial import Arm
from sevenfold.serving.pending import Draft
from sevenfold.serving.prediction_log import Prediction, feature_list, items_digest, packed
from sevenfold.serving.request import RecommendRequest
from sevenfold.serving.reranking import Reranking
from sevenfold.serving.rungs import FULL, Allowance, fewer_of, rungs_from
from sevenfold.serving.scoring import Scored, Scoring
from sevenfold.serving.slate_table import Slate
from sevenfold.stores.kv import Transaction
from sevenfold.types import US_PER_S, Floats, Instant, Ints, Texts, VectorState

__all__ = ["Answer", "Answering"]

_LOG = logging.getLogger(__name__)
Vectors = npt.NDArray[np.float32]


class Answering:
    """What all answers share: the features they log, the engine, the generators, what scores."""

    def __init__(
        self,
        definition: Definition,
        engine: OnlineEngine,
        champion: Champion,
        retrieval: Retrieval,
        slates: Slates | None = None,
        in_time: bool = True,
        ahead: Ahead | None = None,
    ) -> None:
        system = definition.system
        self.system = system
        self.features = definition.features
        hashes_of = [definition.hashes[name] for name in self.features]
        self.feature_list = feature_list(self.features, hashes_of)
        self.engine = engine
        self.retrieval = retrieval
        self.slates = slates
        self.ahead = ahead
        self.pace = Pace()
        self._reads_candidates: dict[tuple[str, ...], bool] = {}
        self.scoring = Scoring(definition, champion, self.pace)
        self.item = system.task.item.name
        self.sample = system.serving.log.sample if system.serving.log else 0
        self.filters = Filters.of(system.serving.filter)
        self.reranking = Reranking(system.serving.rerank, self.features, system.task.k)
        # A replay must not answer otherwise on a slower machine: there only the request's own limit holds.
        self.split = split_of(system)
        self.budget_s = self.split.whole_s if in_time else math.inf

    @property
    def rungs(self) -> tuple[str, ...]:
        """The rungs that there are, the best first."""
        return self.scoring.rungs

    @property
    def champions(self) -> tuple[Champion, ...]:
        """Who follows the aliases that answers are scored by."""
        return self.scoring.champions

    def start(
        self, request: RecommendRequest, t_us: Instant, allowance: Allowance = FULL
    ) -> Answer:
        """An answer, its time running from when the request arrived."""
        arrived_s = elapsed_s() if allowance.arrived_s is None else allowance.arrived_s
        budget_s = min(self.budget_s, (request.timeout_ms or math.inf) / 1000)
        deadline_s = min(arrived_s + budget_s, allowance.deadline_s)
        budget = Budget(self.split, arrived_s, deadline_s)
        made = Answer(self, request, t_us, budget, rungs_from(self.rungs, allowance.best))
        made.arm = self.scoring.canary.arm(request.request_id, request.keys)
        if allowance.arrived_s is not None:
            made.timing_us["wait"] = max(0, round((elapsed_s() - arrived_s) * 1e6))
        return made

    def unhurried(self, request: RecommendRequest, t_us: Instant) -> Answer:
        """An answer that has time without end and is nobody's: made now, and of what there is."""
        budget = Budget(self.split, elapsed_s(), math.inf)
        rungs = tuple(rung for rung in self.rungs if rung not in ("cached", "nulls"))
        return Answer(self, request, t_us, budget, rungs)

    def reads_candidates(self, names: tuple[str, ...]) -> bool:
        """Whether some of `names` are computed from what the generators tell of a candidate."""
        if names not in self._reads_candidates:
            generators = self.retrieval.names
            told = candidate_fields(unproposed(0, len(generators)).scores, generators)
            inputs = self.engine.plan.inputs(names)
            self._reads_candidates[names] = not told.keys().isdisjoint(inputs)
        return self._reads_candidates[names]

    def read(self, txn: Transaction, names: Sequence[str], spine: Spine) -> Vectors:
        """The vectors of a spine, float32 (n, f)."""
        return self.engine.read(txn, names, spine).vectors()

    def unread(self, spine: Spine) -> Vectors:
        """The vectors of a spine as if the store held nothing: only what a request tells is in them."""
        plan = self.engine.plan
        found = {}
        for reading in plan.readings_for(self.features):
            shape = (len(spine), len(reading.names))
            found[reading.name] = np.full(shape, np.nan), np.full(shape, _MISSING, dtype=np.uint8)
        return assemble(plan, self.features, spine, found).vectors()

    def probe(self, txn: Transaction, spine: Spine) -> str | None:
        """Why a row cannot be scored; None when it can."""
        generators = self.retrieval.names
        unknown = np.full((1, len(generators)), np.nan, dtype=np.float32)
        fields = candidate_fields(unknown, generators)
        champion = self.scoring.champion
        try:
            vectors = self.read(txn, self.features, Spine(spine.t_us, spine.keys, fields))
            scored = self.scoring.scored(vectors, self.rungs)
        except SevenfoldError as error:
            return str(error)
        if not np.isfinite(scored.scores).all():
            return f"model {scored.model} version {scored.version} gives no finite score"
        return champion.refused if champion.loaded is None else champion.loaded.differs()

    def draft(self, prediction: Prediction, answer: Answer) -> Draft:
        """The answer as it is to be written; it is one that was given once it is on disk."""
        prediction.features = self.feature_list.name
        prediction.timing_us = dict(answer.timing_us)
        return Draft(prediction, self.feature_list)


_MISSING = int(VectorState.MISSING)


@dataclass(eq=False)
class Answer:
    """An answer in the making; `degraded` says by stage what it had to do without."""

    shared: Answering
    request: RecommendRequest
    t_us: Instant
    budget: Budget
    rungs: tuple[str, ...]
    timing_us: dict[str, int] = field(default_factory=dict)
    degraded: dict[str, str] = field(default_factory=dict)
    made_ahead: Prediction | None = None
    arm: Arm | None = None
    ranked: tuple[Vectors | None, Scored | None] = (None, None)
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

    def make(self, txn: Transaction, given: list[str] | None) -> Prediction:
        """Find or take the candidates, choose the slate, and say from what; ties keep the candidates' order."""
        if given is None and self.shared.ahead is not None and self.rungs[0] != "empty":
            shown = self._ahead(txn, self.shared.ahead)
            if shown is not None:
                return shown
        return self.make_now(txn, given)

    def make_now(self, txn: Transaction, given: list[str] | None) -> Prediction:
        """The same, never as it was made ahead."""
        kept = self.shared.slates if given is None else None
        hurried = self.budget.is_over() or self.rungs[0] == "cached"
        if kept is None:
            self._without("cached")
        elif kept.always or hurried:
            cached = self._cached(txn, kept)
            if cached is not None:
                return cached
        made = self._made(txn, kept, given)
        if kept is not None:
            kept.keep(made)
        return made

    def make_aside(self, txn: Transaction) -> Slate | None:
        """The slate of it, of which nothing is kept in memory; None where there is nothing to rank."""
        made = self._made(txn, None, None)
        rows = made.shown_rows()
        if not len(rows):
            return None
        names = [made.items[row] for row in rows.tolist()]
        return Slate(
            made.keys,
            self.t_us,
            made.model,
            made.version,
            made.rung,
            self.shared.feature_list.name,
            made.generators,
            names,
            packed(made.source_masks()[rows], np.uint32),
            packed(made.generator_scores()[rows], np.float32),
            made.scores,
        )

    def _ahead(self, txn: Transaction, ahead: Ahead) -> Prediction | None:
        """The slate that was made ahead; None where only its candidates were, or nothing that can be used."""
        slate, reason = ahead.find(txn, self.request.keys, self.k, self.t_us)
        if slate is not None:
            made = slate.as_prediction(self.request.request_id, self.t_us)
            if ahead.mode == "hybrid":
                self.made_ahead = made
                return None
            shown = self._as_made(txn, made, "batch")
            if shown is not None:
                return shown
            reason = "nothing of it may be shown any more"
        self.degraded["table"] = reason
        self.rungs = rungs_from(self.rungs, ahead.otherwise)
        return None

    def _made(self, txn: Transaction, kept: Slates | None, given: list[str] | None) -> Prediction:
        """The answer of now, or a slate that is kept where there is no time for one."""
        found = self._filtered(txn, self._found(given))
        found = found.first(self._affordable(len(found.items)))
        if self.rungs[0] == "cached":
            cached = self._cached(txn, kept)
            if cached is not None:
                return cached
        vectors, scored = self._scored(txn, found)
        if scored.rung in _BELOW_CACHED:
            cached = self._cached(txn, kept)
            if cached is not None:
                return cached
        shown = self._slate(scored, vectors)
        self.ranked = vectors, scored
        made = self._prediction(found, scored, shown, self.degraded)
        if vectors is not None:  # what was not read cannot be logged
            logged, made.sample_weight = sampled(
                shown, len(vectors), self.shared.sample, self.request.request_id
            )
            made.logged = packed(logged, np.int32)
            made.vectors = packed(vectors[logged], np.float32)
        if given is not None and len(given) != len(found.items):
            made.asked = items_digest(given)
        return made

    def _prediction(
        self, found: Candidates, scored: Scored, shown: Ints, degraded: dict[str, str]
    ) -> Prediction:
        return Prediction(
            request_id=self.request.request_id,
            t_us=self.t_us,
            keys=self.request.keys,
            model=scored.model,
            version=scored.version,
            rung=scored.rung,
            k=self.k,
            features="",
            generators=self.shared.retrieval.names,
            items=found.items,
            sources=packed(found.fused.sources, np.uint32),
            candidate_scores=packed(found.fused.scores, np.float32),
            shown=packed(shown, np.int32),
            scores=packed(scored.scores[shown], np.float64),
            logged=b"",
            vectors=b"",
            sample_weight=0.0,
            degraded=degraded,
            as_of_us=0 if self.made_ahead is None else self.made_ahead.as_of_us,
            trial="" if self.arm is None else self.arm.trial,
            arm="" if self.arm is None else self.arm.name,
        )

    def _cached(self, txn: Transaction, slates: Slates | None) -> Prediction | None:
        """A slate that is kept, without what must not be shown any more; None where the rung is not to be had."""
        allowed = "cached" in self.rungs
        self._without("cached")  # once is enough
        if slates is None or not allowed:
            return None
        loaded = self._on_trial or self.shared.scoring.champion.follow()
        version = 0 if loaded is None else loaded.version
        made = slates.find(version, self.k, self.request.keys, self.t_us)
        if made is None:
            return None
        shown = self._as_made(txn, made, "cached")
        if shown is not None:
            age_s = (self.t_us - made.t_us) / US_PER_S
            shown.degraded = {**self.degraded, "slate": f"made {age_s:.3f} s before"}
        return shown

    def _as_made(self, txn: Transaction, made: Prediction, rung: str) -> Prediction | None:
        """A slate made before, without what must not be shown any more; None where nothing of it is left."""
        found = Candidates.of(made)
        must = self.shared.filters.that_must()
        scores = np.frombuffer(made.scores)
        if must.keeps:
            try:
                stays = must.stay(self._read(txn, must.names, found))
            except StoreError as error:
                _LOG.error("filter failed error=%s", error)
                stays = np.zeros(len(made.items), dtype=np.bool_)
            found, scores = found.only(np.flatnonzero(stays)), scores[stays]
        self.mark("slate")
        found, scores = found.first(self.k), scores[: self.k]
        if not found.items:
            return None
        shown = self._prediction(
            found,
            Scored(scores, made.model, made.version, rung),
            np.arange(len(found.items), dtype=np.int64),
            self.degraded,
        )
        shown.as_of_us = made.as_of_us
        return shown

    def _without(self, rung: str) -> None:
        """Leave out a rung that is not to be had."""
        self.rungs = tuple(one for one in self.rungs if one != rung)

    def _found(self, given: list[str] | None) -> Candidates:
        retrieval = self.shared.retrieval
        if given is not None or self.rungs[0] == "empty":
            items = given or []
            self.mark("retrieve")
            return Candidates(unproposed(len(items), len(retrieval.names)), items)
        if self.made_ahead is not None:
            self.mark("retrieve")
            return Candidates.of(self.made_ahead)
        query = Query(self.request.keys, self.t_us)
        until_s = self.budget.until_s(elapsed_s(), "retrieve")
        fused, out = retrieval.candidates_in_time(query, until_s, self.rungs[0] == "popular")
        if out:
            self.degraded["retrieve"] = f"without {', '.join(out)}"
        self.mark("retrieve")
        return Candidates(fused, retrieval.catalogue.names(fused.codes))

    def _filtered(self, txn: Transaction, found: Candidates) -> Candidates:
        filters = self.shared.filters
        if not filters.keeps or not found.items or self.rungs[0] == "empty":
            return found
        if self.budget.is_over():
            filters = filters.that_must()
            self.degraded["filter"] = "only what must hold"
        try:
            vectors = self._read(txn, filters.names, found)
            stays = filters.stay(vectors)
        except StoreError as error:
            _LOG.error("filter failed error=%s", error)
            self.degraded["filter"] = "failed"
            stays = np.full(len(found.items), not filters.that_must().keeps)
        self.mark("filter")
        return found if stays.all() else found.only(np.flatnonzero(stays))

    def _affordable(self, n: int) -> int:
        """How many of `n` candidates are ranked; narrows the rungs to those that the time left allows."""
        shared = self.shared
        pipeline = shared.system.serving
        has_fewer = "fewer" in shared.rungs
        most = min(n, fewer_of(pipeline, self.k)) if has_fewer else n
        if self.rungs[0] == "fewer" and most == n:
            self.rungs = shared.rungs  # nothing is cut
        now_s = elapsed_s()
        left_s = self.budget.until_s(now_s, "features", "score") - now_s
        if not math.isinf(left_s):
            self._drop_canary(n, left_s)
            self.rungs = self._in_time(n, most, left_s)
        if self.rungs[0] == "empty":
            return 0
        return n if self.rungs[0] == "full" else most

    @property
    def _on_trial(self) -> Loaded | None:
        """The model on trial where this answer is to be by it, and nothing has spoken against it yet."""
        return None if self.arm is None or "canary" in self.degraded else self.arm.model

    def _drop_canary(self, n: int, left_s: float) -> None:
        """Leave the answer to the champion where the model on trial has no time."""
        canary = self._on_trial
        if canary is None or self.rungs[0] not in ("full", "fewer"):
            return
        scoring, pace = self.shared.scoring, self.shared.pace
        needed_s = pace.expected_s("features", n) + scoring.expected_of_s(canary, n)
        beside_s = pace.expected_s("features", n) + scoring.expected_s("full", n)
        # What the champion has no time for either speaks not against the canary.
        if beside_s <= left_s and not pace.fits("canary", needed_s, left_s):
            self.degraded["canary"] = "no time"

    def _in_time(self, n: int, most: int, left_s: float) -> tuple[str, ...]:
        """The rungs from the best one on whose features and scores are expected within the time left."""
        scoring, pace = self.shared.scoring, self.shared.pace
        for rung in self.rungs:
            if rung in _QUICK:
                break
            rows = n if rung == "full" else most
            needed_s = pace.expected_s("features", rows) + scoring.expected_s(rung, rows)
            if left_s > 0 and pace.fits(rung, needed_s, left_s):
                return rungs_from(self.rungs, rung)
            self.degraded["score"] = "no time"
        rungs = rungs_from(self.rungs, "cached")
        return rungs if left_s > 0 else tuple(rung for rung in rungs if rung != "nulls")

    def _scored(self, txn: Transaction, found: Candidates) -> tuple[Vectors | None, Scored]:
        """The vectors of the candidates, None where they were not read, and the scores."""
        shared = self.shared
        if not found.items or self.rungs[0] in ("popular", "empty"):
            return None, shared.scoring.in_order(len(found.items), self.rungs)
        vectors = None if self.rungs[0] == "nulls" else self._features(txn, found)
        if vectors is None:
            return None, self._without_features(found)
        rungs = self.rungs
        if self.budget.is_over():
            rungs = rungs_from(rungs, "baseline")
            self.degraded["score"] = "late"
        # A rung without features is none where there are some.
        rungs = tuple(rung for rung in rungs if rung != "nulls")
        scored = shared.scoring.scored(vectors, rungs, self._on_trial)
        if scored.without:
            self.degraded["canary"] = scored.without
        self.mark("score")
        return vectors, scored

    def _features(self, txn: Transaction, found: Candidates) -> Vectors | None:
        """The vectors of the candidates; None when the store does not give them."""
        begun_s = elapsed_s()
        try:
            vectors = self._read(txn, self.shared.features, found)
        except StoreError as error:
            _LOG.error("features failed error=%s", error)
            self.degraded["features"] = "failed"
            self.mark("features")
            return None
        self.shared.pace.learn("features", len(vectors), elapsed_s() - begun_s)
        self.mark("features")
        return vectors

    def _without_features(self, found: Candidates) -> Scored:
        """The scores by what the request and its candidates tell, or else their order."""
        shared = self.shared
        rungs = rungs_from(self.rungs, "nulls")
        if rungs[0] != "nulls":
            return shared.scoring.in_order(len(found.items), rungs)
        scored = shared.scoring.scored(shared.unread(self._spine(found, shared.features)), rungs)
        self.mark("score")
        return scored

    def _slate(self, scored: Scored, vectors: Vectors | None) -> Ints:
        """The rows of the slate, best place first."""
        reranking = self.shared.reranking
        plain = np.argsort(-scored.scores, kind="stable")[: self.k].astype(np.int64, copy=False)
        if not reranking.steps or not len(plain):
            return plain
        if vectors is None or self.budget.is_over():
            self.degraded["rerank"] = "left out"
            return plain
        slate = reranking.order(scored.scores, vectors, self.k)[: self.k]
        self.mark("rerank")
        return slate

    def _read(self, txn: Transaction, names: tuple[str, ...], found: Candidates) -> Vectors:
        if not names:
            return np.empty((len(found.items), 0), dtype=np.float32)
        return self.shared.read(txn, names, self._spine(found, names))

    def _spine(self, found: Candidates, names: tuple[str, ...]) -> Spine:
        shared = self.shared
        keys = {name: Texts.of([key]) for name, key in self.request.keys.items()}
        keys[shared.item] = Texts.of(found.items)
        fields: dict[str, Floats] = {}
        if shared.reads_candidates(names):
            fields = candidate_fields(found.fused.scores, shared.retrieval.names)
        return Spine(np.full(len(found.items), self.t_us, dtype=np.int64), keys, fields)


_BELOW_CACHED = ("nulls", "popular", "empty")
_QUICK = ("cached", "nulls", "popular", "empty")
