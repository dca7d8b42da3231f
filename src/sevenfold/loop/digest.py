"""What a stretch of answered requests teaches: labels, parity, metrics by model, rows to learn from."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sevenfold.engines.offline import read_at
from sevenfold.engines.parity import Parity, compare
from sevenfold.evaluation.metrics import judge, measure
from sevenfold.features.frame import Spine
from sevenfold.features.plan import Plan
from sevenfold.models.dataset import Dataset
from sevenfold.models.protocol import Model
from sevenfold.retrieval.fusion import candidate_fields
from sevenfold.serving.prediction_log import Prediction, feature_list_id
from sevenfold.spec.task import Ranking
from sevenfold.spec.units import parse_duration
from sevenfold.types import EventBatch, Floats, Ints, Texts

__all__ = ["Digest", "Digester", "truths"]

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Digest:
    """The matured requests of one stretch of time.

    `metrics` maps a model to its metrics by name, float64 (q,), NaN without an outcome. `earlier` (q,) is
    how many baskets the customer had before. `recall` maps "repeat" and "new" to the share of such truth
    that was shown (q,). `training` holds positives and sampled negatives; `sample` are vectors of shown rows
    for drift.
    """

    request_ids: list[str]
    t_us: Ints
    keys: Mapping[str, list[str]]
    earlier: Floats
    metrics: Mapping[str, Mapping[str, Floats]]
    recall: Mapping[str, Floats]
    retrieved: Floats
    shown: list[list[str]]
    parity: Parity
    training: Dataset | None
    sample: Vectors


@dataclass(frozen=True, slots=True, eq=False)
class Digester:
    """Turns logged answers and outcomes into digests.

    `features` are the logged features in order; `known` and `repeat` are features that tell returning
    customers and repeated items; `negatives` rows without outcome are kept a request for training.
    """

    plan: Plan
    features: Sequence[str]
    task: Ranking
    metrics: Sequence[str]
    known: str | None
    repeat: str | None
    negatives: int

    def digest(
        self,
        predictions: Sequence[Prediction],
        events: Mapping[str, EventBatch],
        models: Mapping[str, Model],
        rng: np.random.Generator,
    ) -> Digest:
        """The digest of `predictions`, every feature computed again by the offline engine."""
        outcomes = truths(predictions, events[self.task.label.outcome.name], self.task)
        names = tuple(dict.fromkeys((*self.features, *([self.known] if self.known else []))))
        frame = read_at(self.plan, names, self._spine(predictions), events)
        vectors = frame.vectors()[:, : len(self.features)]
        starts = np.cumsum([0, *(len(p.items) for p in predictions)])
        label = np.array(
            [
                item in outcome
                for p, outcome in zip(predictions, outcomes, strict=True)
                for item in p.items
            ],
            dtype=np.bool_,
        )
        known = frame.column(self.known) if self.known else np.full(len(vectors), np.nan)
        shown = [p.slate() for p in predictions]
        lists = {"served": shown} | {
            name: self._ranked(predictions, vectors, starts, model)
            for name, model in models.items()
        }
        return Digest(
            [p.request_id for p in predictions],
            np.array([p.t_us for p in predictions], dtype=np.int64),
            {e.name: [p.keys[e.name] for p in predictions] for e in self.task.query},
            _first_values(known, starts),
            {
                name: dict(measure(judge(ranked, outcomes), self.metrics).values)
                for name, ranked in lists.items()
            },
            self._recall(predictions, outcomes, events),
            _share([label[a:b].sum() for a, b in itertools.pairwise(starts)], outcomes),
            shown,
            self._parity(predictions, vectors, starts),
            self._training(predictions, vectors, label, starts, rng),
            _shown_vectors(predictions, vectors, starts),
        )

    def _spine(self, predictions: Sequence[Prediction]) -> Spine:
        sizes = [len(p.items) for p in predictions]
        repeated = np.repeat(np.arange(len(predictions)), sizes)
        keys = {
            entity.name: Texts.of([p.keys[entity.name] for p in predictions]).take(repeated)
            for entity in self.task.query
        }
        keys[self.task.item.name] = Texts.of([item for p in predictions for item in p.items])
        fields = [candidate_fields(p.generator_scores(), p.generators) for p in predictions]
        return Spine(
            np.repeat(np.array([p.t_us for p in predictions], dtype=np.int64), sizes),
            keys,
            {
                name: np.concatenate([f[name] for f in fields])
                for name in (fields[0] if fields else ())
            },
        )

    def _ranked(
        self, predictions: Sequence[Prediction], vectors: Vectors, starts: Ints, model: Model
    ) -> list[list[str]]:
        columns = [self.features.index(name) for name in model.feature_names]
        scores = model.scores(np.ascontiguousarray(vectors[:, columns]))
        ranked = []
        for p, begin, end in zip(predictions, starts[:-1], starts[1:], strict=True):
            order = np.argsort(-scores[begin:end], kind="stable")[: p.k]
            ranked.append([p.items[i] for i in order.tolist()])
        return ranked

    def _recall(
        self,
        predictions: Sequence[Prediction],
        outcomes: Sequence[set[str]],
        events: Mapping[str, EventBatch],
    ) -> dict[str, Floats]:
        if self.repeat is None:
            return {}
        rows = [(q, item) for q, outcome in enumerate(outcomes) for item in sorted(outcome)]
        request = np.array([q for q, _ in rows], dtype=np.int64)
        asked = {
            e.name: Texts.of([p.keys[e.name] for p in predictions]).take(request)
            for e in self.task.query
        }
        asked[self.task.item.name] = Texts.of([item for _, item in rows])
        t_us = np.array([p.t_us for p in predictions], dtype=np.int64)[request]
        times = read_at(self.plan, [self.repeat], Spine(t_us, asked), events).values[:, 0]
        slates = [set(p.slate()) for p in predictions]
        hit = np.array([item in slates[q] for q, item in rows], dtype=np.bool_)
        found = {}
        for name, mask in (("repeat", times > 0), ("new", ~(times > 0))):
            total = np.bincount(request[mask], minlength=len(predictions)).astype(np.float64)
            hits = np.bincount(request[mask & hit], minlength=len(predictions))
            found[name] = np.where(total > 0, hits / np.maximum(total, 1), np.nan)
        return found

    def _parity(self, predictions: Sequence[Prediction], vectors: Vectors, starts: Ints) -> Parity:
        # Vectors that another definition made say nothing about this one.
        hashes = self.plan.definition_hashes(self.features)
        ours = feature_list_id(self.features, [hashes[name] for name in self.features])
        alike = [
            (p, start)
            for p, start in zip(predictions, starts, strict=False)
            if p.logged and p.features == ours
        ]
        logged = [p.logged_vectors() for p, _ in alike]
        if not logged:
            return Parity()
        rows = np.concatenate([p.logged_rows() + start for p, start in alike])
        return compare(self.features, np.concatenate(logged), vectors[rows])

    def _training(
        self,
        predictions: Sequence[Prediction],
        vectors: Vectors,
        label: npt.NDArray[np.bool_],
        starts: Ints,
        rng: np.random.Generator,
    ) -> Dataset | None:
        rows, sizes, chosen = [], [], []
        for q, (begin, end) in enumerate(itertools.pairwise(starts)):
            positive = np.flatnonzero(label[begin:end]) + begin
            negative = np.flatnonzero(~label[begin:end]) + begin
            if not len(positive) or not len(negative):
                continue
            if len(negative) > self.negatives:
                negative = rng.choice(negative, self.negatives, replace=False)
            rows.append(np.sort(np.concatenate([positive, negative])))
            sizes.append(len(rows[-1]))
            chosen.append(q)
        if not rows:
            return None
        picked = np.concatenate(rows)
        return Dataset.of(
            vectors[picked],
            label[picked].astype(np.float32),
            groups=sizes,
            feature_names=list(self.features),
            request_ids=[predictions[q].request_id for q in chosen],
            t_us=np.repeat([predictions[q].t_us for q in chosen], sizes),
        )


def truths(
    predictions: Sequence[Prediction], outcomes: EventBatch, task: Ranking
) -> list[set[str]]:
    """The items that each request led to: outcomes that name it, after it and within the label's window."""
    within_us = parse_duration(task.label.within)
    asked = {p.request_id: (i, p.t_us) for i, p in enumerate(predictions)}
    found: list[set[str]] = [set() for _ in predictions]
    if not predictions:
        return found
    first, last = predictions[0].t_us, predictions[-1].t_us + within_us
    near = np.flatnonzero((outcomes.event_us > first) & (outcomes.event_us <= last))
    requests = _texts(outcomes.fields[task.label.request]).take(near).to_list()
    items = outcomes.keys[task.item.name].take(near).to_list()
    times = outcomes.event_us[near].tolist()
    for request, item, event_us in zip(requests, items, times, strict=True):
        place = asked.get(request or "")
        if place is not None and item is not None and place[1] < event_us <= place[1] + within_us:
            found[place[0]].add(item)
    return found


def _first_values(known: Floats, starts: Ints) -> Floats:
    """The value at each request's first row; NaN for a request without candidates."""
    filled = np.append(known, np.nan)
    return np.where(np.diff(starts) > 0, filled[starts[:-1]], np.nan)


def _texts(column: Any) -> Texts:
    if not isinstance(column, Texts):
        raise TypeError("the label's request is an id")
    return column


def _share(found: Sequence[Any], outcomes: Sequence[set[str]]) -> Floats:
    sizes = np.array([len(outcome) for outcome in outcomes], dtype=np.float64)
    hits = np.array(found, dtype=np.float64)
    return np.where(sizes > 0, hits / np.maximum(sizes, 1), np.nan)


def _shown_vectors(predictions: Sequence[Prediction], vectors: Vectors, starts: Ints) -> Vectors:
    rows = [p.shown_rows() + start for p, start in zip(predictions, starts, strict=False)]
    return vectors[np.concatenate(rows)] if rows else vectors[:0]
