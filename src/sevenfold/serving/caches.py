"""What a service keeps in memory beside the store: slates, and states of hot keys; what drops them, and how often they help."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sevenfold.engines.hot import HotStates
from sevenfold.features.plan import Plan
from sevenfold.serving.prediction_log import Prediction
from sevenfold.spec.system import System
from sevenfold.spec.units import parse_duration
from sevenfold.types import EventBatch, Instant, Texts

__all__ = ["CacheCounts", "CacheMetrics", "Caches", "Slates", "hot_states", "slates_of"]

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class CacheCounts:
    """How often a cache had what was asked for and how often not, since the start, and what it holds now."""

    hits: int = 0
    misses: int = 0
    entries: int = 0
    bytes: int = 0


def hot_states(system: System, plan: Plan) -> HotStates | None:
    """What keeps the states of the declared hot entities; None where none is declared."""
    hot = system.serving.hot
    if hot is None:
        return None
    names = {entity.name for entity in hot.entities}
    return HotStates([v for v in plan.views if set(v.entities) <= names], hot.megabytes * _MIB)


def slates_of(system: System) -> Slates | None:
    """What keeps the slates of a system; None where that is not declared."""
    declared = system.serving.slate
    if declared is None:
        return None
    of = frozenset(entity.name for entity in declared.of or system.task.query)
    return Slates(of, parse_duration(declared.ttl), declared.most, declared.always)


SlateKey = tuple[int, int, tuple[tuple[str, str], ...]]


class Slates:
    """Whole slates by the version that made them, `k` and the request's keys.

    There is no need to make one for many at once: answers are made one after another, so the second of two like requests
    finds what the first has made. Not for more than one thread at a time.
    """

    def __init__(self, of: frozenset[str], ttl_us: int, most: int, always: bool = False) -> None:
        self._of, self._ttl_us, self._most = of, ttl_us, most
        self.always = always
        self._kept: dict[SlateKey, Prediction] = {}
        self._by_key: dict[tuple[str, str], set[SlateKey]] = {}
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        """The number of slates that are kept."""
        return len(self._kept)

    def find(
        self, version: int, k: int, keys: Mapping[str, str], t_us: Instant
    ) -> Prediction | None:
        """The slate made for such a request less than the ttl before `t_us`, if it is kept."""
        key = _slate_key(version, k, keys)
        found = self._kept.get(key)
        if found is not None and not 0 <= t_us - found.t_us < self._ttl_us:
            self._drop(key)
            found = None
        if found is None:
            self.misses += 1
        else:
            self.hits += 1
        return found

    def keep(self, made: Prediction) -> None:
        """Keep a slate, if it is whole; the oldest makes way."""
        if made.rung != "full" or made.degraded or not made.shown:
            return
        key = _slate_key(made.version, made.k, made.keys)
        self._drop(key)
        self._kept[key] = _slate_of(made)
        for name in self._of & made.keys.keys():
            self._by_key.setdefault((name, made.keys[name]), set()).add(key)
        if len(self._kept) > self._most:
            self._drop(next(iter(self._kept)))

    def observe(self, batch: EventBatch) -> None:
        """Drop the slates of those whom events touch."""
        if not self._kept:
            return
        for name in self._of & batch.keys.keys():
            column: Texts = batch.keys[name]
            for value in set(column.to_list()):
                if value is not None:
                    for key in list(self._by_key.get((name, value), ())):
                        self._drop(key)

    def clear(self) -> None:
        """Drop all."""
        self._kept.clear()
        self._by_key.clear()

    def _drop(self, key: SlateKey) -> None:
        if self._kept.pop(key, None) is None:
            return
        for name, value in key[2]:
            same = self._by_key.get((name, value))
            if same is not None:
                same.discard(key)
                if not same:
                    del self._by_key[name, value]


class Caches:
    """The caches of the definition that serves; told of every batch that is committed.

    While an entity is being forgotten nothing is kept, and what was is gone.
    """

    def __init__(self) -> None:
        self._slates: Slates | None = None
        self._hot: HotStates | None = None
        self._counted: dict[str, CacheCounts] = {}

    def use(self, slates: Slates | None, hot: HotStates | None) -> None:
        """Keep these from now on; what was counted before still counts."""
        self._counted = dict(self.counts())
        self._slates, self._hot = slates, hot

    def observe(self, batch: EventBatch) -> None:
        """Drop what committed events make old."""
        if self._slates is not None:
            self._slates.observe(batch)
        if self._hot is not None:
            self._hot.observe(batch)

    def clear(self) -> None:
        """Drop all."""
        if self._slates is not None:
            self._slates.clear()
        if self._hot is not None:
            self._hot.clear()

    def counts(self) -> dict[str, CacheCounts]:
        """What each cache that is declared has done, by its name."""
        found = {}
        if self._slates is not None:
            slates = self._slates
            found["slates"] = CacheCounts(slates.hits, slates.misses, len(slates))
        if self._hot is not None:
            hot = self._hot
            found["states"] = CacheCounts(hot.hits, hot.misses, len(hot), hot.bytes)
        for name, before in self._counted.items():
            now = found.get(name, CacheCounts())
            found[name] = replace(
                now, hits=now.hits + before.hits, misses=now.misses + before.misses
            )
        return found


class CacheMetrics(Collector):
    """What the caches of a service have done, for Prometheus."""

    def __init__(self, caches: Caches) -> None:
        self._caches = caches

    def collect(self) -> Iterator[Metric]:
        """Everything as it is now; the share of hits is hits over both."""
        asked = CounterMetricFamily(
            "sevenfold_cache", "What a cache was asked for, by outcome", labels=["cache", "outcome"]
        )
        held = GaugeMetricFamily(
            "sevenfold_cache_held", "What a cache holds", labels=["cache", "what"]
        )
        for name, counts in self._caches.counts().items():
            asked.add_metric([name, "hit"], counts.hits)
            asked.add_metric([name, "miss"], counts.misses)
            held.add_metric([name, "entries"], counts.entries)
            held.add_metric([name, "bytes"], counts.bytes)
        yield asked
        yield held


def _slate_key(version: int, k: int, keys: Mapping[str, str]) -> SlateKey:
    return version, k, tuple(sorted(keys.items()))


def _slate_of(made: Prediction) -> Prediction:
    """The places of the slate alone, without vectors, which are of the instant at which it was made."""
    rows = made.shown_rows()
    sources, scores = made.source_masks()[rows], made.generator_scores()[rows]
    return Prediction(
        request_id=made.request_id,
        t_us=made.t_us,
        keys=made.keys,
        model=made.model,
        version=made.version,
        rung="cached",
        k=made.k,
        features="",
        generators=made.generators,
        items=made.slate(),
        sources=sources.tobytes(),
        candidate_scores=scores.tobytes(),
        shown=b"",
        scores=made.scores,
        logged=b"",
        vectors=b"",
        sample_weight=0.0,
        as_of_us=made.as_of_us,
    )
