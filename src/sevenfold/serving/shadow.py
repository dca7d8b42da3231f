"""The shadow: a version that scores what was answered, after it was answered, and answers nobody."""

from __future__ import annotations

import logging
import math
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.metrics import Histogram
from prometheus_client.registry import Collector

from sevenfold.clock import elapsed_s
from sevenfold.errors import StoreError
from sevenfold.serving.on_trial import OnTrial
from sevenfold.serving.pending import Draft
from sevenfold.serving.prediction_log import prediction_key
from sevenfold.serving.scoring import Scored
from sevenfold.stores.kv import Store, Transaction
from sevenfold.stores.tables import SHADOWS
from sevenfold.types import Floats

__all__ = [
    "Compared",
    "Shadow",
    "ShadowMetrics",
    "ShadowReport",
    "Shadowed",
    "compared",
    "read_shadowed",
    "report",
]

_LOG = logging.getLogger(__name__)
_QUEUE = 256  # answers that wait for their shadow
_QUEUE_BYTES = 64 * 1024 * 1024  # of their vectors
_AGE_S = 0.02  # by when an answer that is on disk has left
_BATCH, _BATCH_S = 64, 1.0  # what is written by one commit
MOST = 10_000  # kept in the table: the oldest make way
_LEVELS = (0.01, 0.05, 0.5, 0.95, 0.99)
Vectors = npt.NDArray[np.float32]


class Shadowed(msgspec.Struct):
    """The scores of one answer's candidates, float64 (n,): of the model that `served`, and of the shadow.

    `trial` is the id of the shadow's trial; `took_us` is how long the shadow took for all rows; `error` is what it raised, and
    then it has no scores.
    """

    trial: str
    request_id: str
    served: int
    version: int
    k: int
    scores: bytes
    shadow: bytes
    took_us: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class Compared:
    """Two lists of scores (n,) of the same rows: by how much they differ, and how alike they order.

    `difference` is the mean of shadow less served, `correlation` that of ranks (Spearman, ties at their mean rank; NaN where
    one side has one score for all), `overlap` the share of the first k that both have there.
    """

    difference: float
    correlation: float
    overlap: float


class ShadowReport(msgspec.Struct):
    """What the table says of a shadow: over how many answers and rows, how many failed, how alike it scores.

    `difference` has quantiles, by their share, of shadow less served, over rows; `same_first` is the share of answers with the
    same first item; times are microseconds a row.
    """

    answers: int
    failed: int
    rows: int
    difference: dict[str, float]
    correlation: float | None
    overlap: float | None
    same_first: float | None
    row_us: dict[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    draft: Draft
    vectors: Vectors
    scored: Scored
    since_s: float


class Shadow:
    """A background job that scores what was answered; what it has no time for is dropped and counted, never waited for.

    Of an answer it takes over the vectors and the scores as they are, so offering costs the answer nothing. Nothing is taken
    over while `pressed` says that the server is asked for much. Of what was scored, as much as one commit holds may be lost in a
    crash. In a replay everything is scored, at once.
    """

    name = "shadow"

    def __init__(self, store: Store, replay: bool) -> None:
        self._store = store
        self._replay = replay
        self._waiting: deque[_Waiting] = deque()
        self._bytes = 0
        self._done: list[tuple[bytes, bytes]] = []
        self._done_s = 0.0
        self.pressed: Callable[[], bool] = lambda: False
        self.outcomes: Counter[str] = Counter()
        self.metrics = _Histograms()

    def use(self, trial: OnTrial) -> None:
        """Score by the shadow of this definition from now on; what waits is of the one before."""
        self.trial = trial
        self.trial.follow()
        self._clear("changed")

    def offer(self, draft: Draft, vectors: Vectors | None, scored: Scored | None) -> None:
        """Take over the vectors and scores of an answer that a model gave, if its key is in."""
        trial = self.trial.follow() if self._replay else self.trial.trial
        if trial is None or vectors is None or scored is None or not scored.version:
            return
        prediction = draft.prediction
        if not len(vectors) or not trial.takes(
            prediction.keys.get(trial.on, prediction.request_id)
        ):
            return
        if not self._replay and self.pressed():
            self.outcomes["pressure"] += 1
            return
        if len(self._waiting) >= _QUEUE or self._bytes + vectors.nbytes > _QUEUE_BYTES:
            self.outcomes["full"] += 1
            return
        self._bytes += vectors.nbytes
        self._waiting.append(_Waiting(draft, vectors, scored, elapsed_s()))
        if self._replay:
            self._drain()

    def step(self) -> bool:
        """Score the answer that has waited longest; whether there was one that has left."""
        self.trial.follow()
        if self.trial.loaded is None:
            self._clear("ended")
        elif self._waiting and not self._replay and self.pressed():
            self._clear("pressure")
        worked = bool(self._waiting) and self._is_gone(self._waiting[0])
        if worked:
            self._score(self._waiting.popleft())
        if self._done and (len(self._done) >= _BATCH or elapsed_s() - self._done_s > _BATCH_S):
            self.write()
        return worked

    def failed(self, error: Exception) -> None:
        """Nothing to undo: what could not be written is lost, and counted."""
        self.outcomes["lost"] += len(self._done)
        self._done.clear()

    def _drain(self) -> None:
        """Score all that waits and write it: what a replay does after each answer."""
        while self.step():
            pass
        if self._done:
            self.write()

    def write(self) -> None:
        """Keep what was scored; the oldest of the table makes way."""
        done = self._done
        with self._store.write() as txn:
            txn.put_many(SHADOWS, done)
            more = txn.count(SHADOWS) - MOST
            if more > 0:
                old = [key for (key, _), _ in zip(txn.scan(SHADOWS), range(more), strict=False)]
                for key in old:
                    txn.delete(SHADOWS, key)
        self._done = []

    def _is_gone(self, waiting: _Waiting) -> bool:
        """Whether an answer has left, as far as one can know."""
        if waiting.draft.error is not None or self._replay:
            return True
        return waiting.draft.is_kept and elapsed_s() - waiting.since_s >= _AGE_S

    def _clear(self, why: str) -> None:
        if self._waiting:
            self.outcomes[why] += len(self._waiting)
            self._waiting.clear()
            self._bytes = 0

    def _score(self, waiting: _Waiting) -> None:
        self._bytes -= waiting.vectors.nbytes
        trial, loaded, answer = self.trial.trial, self.trial.loaded, waiting.draft.prediction
        if trial is None or loaded is None or waiting.draft.error is not None:
            return  # an answer that was not given has no shadow
        error, scores = "", np.empty(0)
        begun_s = elapsed_s()
        try:
            scores = loaded.scores(waiting.vectors)
            if not np.isfinite(scores).all():
                error, scores = "a score is not finite", np.empty(0)
        except Exception as raised:  # noqa: BLE001  the edge of what is on trial: whatever it raises is told
            error = f"{type(raised).__name__}: {raised}"
        took_s = elapsed_s() - begun_s
        self.outcomes["failed" if error else "scored"] += 1
        if error:
            _LOG.error("shadow failed version=%d error=%s", loaded.version, error)
        else:
            self.metrics.note(
                compared(waiting.scored.scores, scores, answer.k), took_s / len(scores)
            )
        served = waiting.scored.scores.tobytes()
        row = Shadowed(
            trial.id,
            answer.request_id,
            waiting.scored.version,
            loaded.version,
            answer.k,
            served,
            scores.tobytes(),
            round(took_s * 1e6),
            error,
        )
        if not self._done:
            self._done_s = elapsed_s()
        key = prediction_key(answer.t_us, answer.request_id)
        self._done.append((key, zlib.compress(msgspec.msgpack.encode(row), 1)))


def compared(served: Floats, shadow: Floats, k: int) -> Compared:
    """How alike two models score the same rows.

    >>> compared(np.array([3.0, 2.0, 1.0]), np.array([1.0, 2.0, 3.0]), 1)
    Compared(difference=0.0, correlation=-1.0, overlap=0.0)
    """
    one, other = _ranks(served), _ranks(shadow)
    one, other = one - one.mean(), other - other.mean()
    spread = math.sqrt(float(one @ one) * float(other @ other))
    correlation = float(one @ other) / spread if spread else math.nan
    k = min(k, len(served))
    first = {*np.argsort(-served, kind="stable")[:k].tolist()}
    same = first & {*np.argsort(-shadow, kind="stable")[:k].tolist()}
    return Compared(float((shadow - served).mean()), correlation, len(same) / k)


def _ranks(scores: Floats) -> Floats:
    """The rank of each score from 0, those that are equal at the mean of their ranks."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: Floats = (ends - (counts + 1) / 2)[inverse]
    return ranks


def read_shadowed(txn: Transaction, trial: str) -> Iterator[Shadowed]:
    """What the table holds of a trial, the oldest first; StoreError where it cannot be read."""
    for key, raw in txn.scan(SHADOWS):
        try:
            row = msgspec.msgpack.decode(zlib.decompress(raw), type=Shadowed)
        except (zlib.error, msgspec.DecodeError) as error:
            raise StoreError(f"the shadow's scores under {key.hex()} cannot be read") from error
        if row.trial == trial:
            yield row


def report(rows: Sequence[Shadowed]) -> ShadowReport:
    """What rows of the table say together."""
    good = [row for row in rows if not row.error]
    served = [np.frombuffer(row.scores) for row in good]
    shadow = [np.frombuffer(row.shadow) for row in good]
    found = [compared(a, b, row.k) for a, b, row in zip(served, shadow, good, strict=True)]
    differences = (
        np.concatenate([b - a for a, b in zip(served, shadow, strict=True)])
        if good
        else np.empty(0)
    )
    same = [int(a.argmax() == b.argmax()) for a, b in zip(served, shadow, strict=True)]
    correlations = [one.correlation for one in found if not math.isnan(one.correlation)]
    row_us = np.array([row.took_us / max(len(a), 1) for row, a in zip(good, served, strict=True)])
    return ShadowReport(
        len(rows),
        len(rows) - len(good),
        len(differences),
        _quantiles(differences),
        float(np.mean(correlations)) if correlations else None,
        float(np.mean([one.overlap for one in found])) if found else None,
        float(np.mean(same)) if same else None,
        _quantiles(row_us),
    )


def _quantiles(values: Floats) -> dict[str, float]:
    if not len(values):
        return {}
    found = np.quantile(values, _LEVELS).tolist()
    return {f"{level:g}": value for level, value in zip(_LEVELS, found, strict=True)}


class _Histograms:
    """How alike the shadow scores, by answer."""

    def __init__(self) -> None:
        self.difference = Histogram(
            "sevenfold_shadow_difference",
            "Mean of an answer's scores by the shadow less those that served",
            buckets=(-10, -3, -1, -0.3, -0.1, -0.03, 0, 0.03, 0.1, 0.3, 1, 3, 10),
            registry=None,
        )
        self.correlation = Histogram(
            "sevenfold_shadow_rank_correlation",
            "Rank correlation of the scores of an answer's candidates by both models",
            buckets=(-0.9, -0.5, 0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99),
            registry=None,
        )
        self.overlap = Histogram(
            "sevenfold_shadow_overlap",
            "Share of an answer's first k that the shadow has among its first k",
            buckets=(0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99),
            registry=None,
        )
        self.seconds = Histogram(
            "sevenfold_shadow_row_seconds",
            "Time of the shadow for one row",
            buckets=(1e-7, 3e-7, 1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 1e-3, 1e-2),
            registry=None,
        )

    def note(self, found: Compared, row_s: float) -> None:
        """Count an answer."""
        self.difference.observe(found.difference)
        self.overlap.observe(found.overlap)
        self.seconds.observe(row_s)
        if not math.isnan(found.correlation):
            self.correlation.observe(found.correlation)


class ShadowMetrics(Collector):
    """The shadow, what became of the answers that it was offered, and how alike it scores, for Prometheus."""

    def __init__(self, shadow: Shadow) -> None:
        self._shadow = shadow

    def collect(self) -> Iterator[Metric]:
        """Everything as it is now."""
        shadow = self._shadow
        trial = shadow.trial.trial
        yield GaugeMetricFamily(
            "sevenfold_shadow_version",
            "The version that is the shadow; 0 for none",
            value=0 if trial is None else trial.version,
        )
        outcomes = CounterMetricFamily(
            "sevenfold_shadow_answers",
            "Answers offered to the shadow: scored, failed, and dropped because the queue was full, the server pressed, the "
            "trial ended or the declaration changed",
            labels=["outcome"],
        )
        for name, n in shadow.outcomes.items():
            outcomes.add_metric([name], n)
        yield outcomes
        made = shadow.metrics
        for histogram in (made.difference, made.correlation, made.overlap, made.seconds):
            yield from histogram.collect()
