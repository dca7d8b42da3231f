"""Slates of many at one instant, as the server would make each: candidates one by one, features and scores in one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sevenfold.features.frame import Spine
from sevenfold.retrieval.build import Retrieval
from sevenfold.retrieval.fusion import Fused, candidate_fields
from sevenfold.retrieval.protocol import Query
from sevenfold.serving.filtering import Filters
from sevenfold.serving.prediction_log import packed
from sevenfold.serving.reranking import Reranking
from sevenfold.serving.scoring import Scored, Scoring
from sevenfold.serving.slate_table import Slate
from sevenfold.types import Floats, Instant, Texts

__all__ = ["SlateMaker"]

Vectors = npt.NDArray[np.float32]
_NOT_AHEAD = ("cached", "nulls")
"""Rungs for want of time or of a store, neither of which is wanting here."""


@dataclass(frozen=True, eq=False)
class SlateMaker:
    """Makes slates of `k` items; with `reranking` in the order in which they are to be shown, else by score.

    `features_at` gives the vectors of a spine, float32 (n, f). Ties, filters and what is done when a model fails are
    those of an answer (see `Answer`) that has time without end: the same keys have the same items and scores, bit for bit.
    """

    entities: tuple[str, ...]
    item: str
    features: tuple[str, ...]
    features_id: str
    retrieval: Retrieval
    filters: Filters
    scoring: Scoring
    features_at: Callable[[Sequence[str], Spine], Vectors]
    k: int
    reranking: Reranking | None

    def slates(self, population: Sequence[tuple[str, ...]], t_us: Instant) -> list[Slate]:
        """A slate for each of the keys that has candidates, in their order."""
        queries = [Query(dict(zip(self.entities, keys, strict=True)), t_us) for keys in population]
        found = [self.retrieval.candidates(query) for query in queries]
        found = self._filtered(queries, found)
        having = [i for i, fused in enumerate(found) if len(fused)]
        queries, found = [queries[i] for i in having], [found[i] for i in having]
        if not found:
            return []
        vectors = self.features_at(self.features, self._spine(queries, found))
        ends = np.cumsum([len(fused) for fused in found])
        scored = self._scored(vectors, ends)
        made = []
        for i, (query, fused) in enumerate(zip(queries, found, strict=True)):
            of = vectors[ends[i] - len(fused) : ends[i]]
            if len(scored[i].scores):
                made.append(self._slate(query, fused, of, scored[i]))
        return made

    def _filtered(self, queries: Sequence[Query], found: list[Fused]) -> list[Fused]:
        if not self.filters.keeps or not any(map(len, found)):
            return found
        stays = self.filters.stay(self.features_at(self.filters.names, self._spine(queries, found)))
        parts = np.split(stays, np.cumsum([len(fused) for fused in found])[:-1])
        return [fused.only(np.flatnonzero(part)) for fused, part in zip(found, parts, strict=True)]

    def _spine(self, queries: Sequence[Query], found: Sequence[Fused]) -> Spine:
        """All candidates of all queries; what a query's candidates share is computed among its own."""
        counts = [len(fused) for fused in found]
        of = np.repeat(np.arange(len(found)), counts)
        keys = {
            name: Texts.of([query.keys[name] for query in queries]).take(of)
            for name in self.entities
        }
        codes = np.concatenate([fused.codes for fused in found])
        different, place = np.unique(codes, return_inverse=True)
        keys[self.item] = Texts.of(self.retrieval.catalogue.names(different)).take(place)
        each = [candidate_fields(fused.scores, self.retrieval.names) for fused in found]
        fields: dict[str, Floats] = {
            name: np.concatenate([one[name] for one in each]) for name in each[0]
        }
        t_us = np.full(len(of), queries[0].t_us, dtype=np.int64)
        return Spine(t_us, keys, fields)

    def _scored(self, vectors: Vectors, ends: npt.NDArray[np.int64]) -> list[Scored]:
        """The scores of each query's candidates: by one pass, and one by one only where that does not give all of them."""
        rungs = tuple(rung for rung in self.scoring.rungs if rung not in _NOT_AHEAD)
        parts = np.split(np.arange(len(vectors)), ends[:-1])
        whole = self.scoring.scored(vectors, rungs)
        if whole.rung != rungs[0]:
            return [self.scoring.scored(vectors[part], rungs) for part in parts]
        return [
            Scored(whole.scores[part], whole.model, whole.version, whole.rung) for part in parts
        ]

    def _slate(self, query: Query, fused: Fused, vectors: Vectors, scored: Scored) -> Slate:
        order = np.argsort(-scored.scores, kind="stable")
        if self.reranking is not None and self.reranking.steps:
            order = self.reranking.order(scored.scores, vectors, self.k)
        rows = order[: self.k].astype(np.int64)
        shown = fused.only(rows)
        return Slate(
            dict(query.keys),
            query.t_us,
            scored.model,
            scored.version,
            scored.rung,
            self.features_id,
            self.retrieval.names,
            self.retrieval.catalogue.names(shown.codes),
            packed(shown.sources, np.uint32),
            packed(shown.scores, np.float32),
            packed(scored.scores[rows], np.float64),
        )
