"""From what a run left behind to its summary: figures with intervals, and nothing that was not measured."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version

import numpy as np
import numpy.typing as npt

from sevenfold import __version__
from sevenfold.clock import SystemClock
from sevenfold.engines.parity import Parity
from sevenfold.evaluation.intervals import Interval, mean_interval, paired_difference
from sevenfold.loop.digest import Digest
from sevenfold.loop.run import Run
from sevenfold.loop.steps import concatenated
from sevenfold.loop.summary import (
    ComparisonLine,
    Figure,
    Gain,
    IngestLine,
    Latency,
    ParityLine,
    RunSummary,
    SliceLine,
    WeekLine,
)
from sevenfold.models.lightgbm import LightGBMModel
from sevenfold.models.logistic import LogisticModel
from sevenfold.serving.ingest import read_counts
from sevenfold.stores.dead_letters import count_by_reason
from sevenfold.stores.kv import Transaction
from sevenfold.stores.log import read_stream
from sevenfold.stores.open import open_store
from sevenfold.types import Floats

__all__ = ["summarise"]

_MIN_SLICE = 30
Mask = npt.NDArray[np.bool_]


def summarise(run: Run, mode: str, report: str) -> RunSummary:
    """The summary of a run that is done."""
    scenario, state = run.scenario, run.state
    digests = [run.steps.load(n) for n in range(state.steps_done)]
    judged = Judged(run, digests)
    primary = scenario.system.evaluation.primary
    return RunSummary(
        system=scenario.system.name,
        mode=mode,
        report=report,
        started_us=SystemClock().now_us() - int(state.took_s * 1e6),
        took_s=round(state.took_s, 1),
        world_start_us=scenario.live_us,
        world_end_us=scenario.end_us,
        judge_us=scenario.judge_us,
        primary=primary,
        requests=sum(len(d.request_ids) for d in digests),
        judged=int(judged.final.sum()),
        ingest=_ingest(run),
        parity=_parity(digests),
        metrics=judged.metrics(),
        coverage=judged.coverage(),
        comparisons=judged.comparisons(),
        weeks=_weeks(run, digests, judged.models),
        slices=judged.slices(),
        importances=_importances(run),
        drift=list(state.drift),
        promotions=list(state.promotions),
        latency_ms={stage: _latency(taken) for stage, taken in state.stages_ms.items()},
        notes=judged.notes(),
        meta={
            "python": platform.python_version(),
            "machine": platform.machine(),
            "sevenfold": __version__,
            "lightgbm": version("lightgbm"),
            "seed": str(scenario.seed),
        },
    )


class Judged:
    """The requests of the final test: those from `judge_us` on of customers with an earlier basket."""

    def __init__(self, run: Run, digests: Sequence[Digest]) -> None:
        self._run = run
        self._digests = digests
        self._evaluation = run.scenario.system.evaluation
        t_us = np.concatenate([d.t_us for d in digests])
        self._earlier = np.concatenate([d.earlier for d in digests])
        # The last second before midnight belongs to the basket of the first minute of the day.
        late = t_us >= run.scenario.judge_us - 1_000_000
        self.final: Mask = late & (self._earlier > 0)
        self._late = late
        self._customers = np.array(
            [key for d in digests for key in d.keys[run.scenario.customer]], dtype=object
        )
        names = dict.fromkeys(name for d in digests for name in d.metrics)
        self.models = [name for name in names if self._covers(name)]

    def metrics(self) -> dict[str, dict[str, Figure]]:
        """Every metric of every model on the final test."""
        wanted = [self._evaluation.primary, *self._evaluation.also]
        return {
            model: {
                metric: _figure(
                    self._values(model, metric)[self.final], self._customers[self.final]
                )
                for metric in wanted
            }
            for model in self.models
        }

    def coverage(self) -> dict[str, float]:
        """The share of all items sold that stood in some slate of the final test."""
        shown = [slate for d in self._digests for slate in d.shown]
        seen = {
            item for slate, late in zip(shown, self.final, strict=True) if late for item in slate
        }
        store = open_store(self._run.store_url, readonly=True)
        try:
            with store.read() as txn:
                items = _items(self._run, txn)
        finally:
            store.close()
        return {f"coverage@{self._run.system.task.k}": len(seen & items) / max(len(items), 1)}

    def comparisons(self) -> list[ComparisonLine]:
        """What serves against every other model, request by request."""
        lines = []
        primary = self._evaluation.primary
        served = self._values("served", primary)[self.final]
        for model in self.models:
            if model == "served":
                continue
            other = self._values(model, primary)[self.final]
            difference = paired_difference(
                served, other, _rng(), clusters=self._customers[self.final]
            )
            lines.append(ComparisonLine("served", model, primary, _of(difference)))
        return lines

    def slices(self) -> list[SliceLine]:
        """The primary metric by slice, and what was found of repeated and of new items."""
        lines = [
            line
            for dimension, value, mask in self._masks()
            for line in self._slice(dimension, value, mask)
        ]
        for kind in ("repeat", "new"):
            found = np.concatenate([d.recall[kind] for d in self._digests])[self.final]
            figure = _figure(found, self._customers[self.final])
            metric = f"recall@{self._run.system.task.k}"
            lines.append(SliceLine("items", kind, "served", metric, figure.n, figure))
        return lines

    def notes(self) -> list[str]:
        """What the figures mean, in sentences."""
        retrieved = np.concatenate([d.retrieved for d in self._digests])[self.final]
        notes = [
            f"Of what the final baskets held, {np.nanmean(retrieved):.1%} was among the candidates.",
            "Every metric ranks all items: what no generator proposed counts as missed.",
        ]
        for line in self.comparisons():
            if line.b == "never_retrained":
                d = line.difference
                says = "beats" if d.low > 0 else "does not beat"
                notes.append(
                    f"Retraining {says} never retraining: {d.estimate:+.4f} {line.metric} "
                    f"[{d.low:+.4f}, {d.high:+.4f}]."
                )
        return notes

    def _covers(self, model: str) -> bool:
        values = self._values(model, self._evaluation.primary)[self.final]
        served = self._values("served", self._evaluation.primary)[self.final]
        return len(values) > 1 and bool((np.isnan(values) == np.isnan(served)).all())

    def _values(self, model: str, metric: str) -> Floats:
        return concatenated(self._digests, model, metric)

    def _masks(self) -> list[tuple[str, str, Mask]]:
        masks: list[tuple[str, str, Mask]] = []
        for dimension, edges in self._run.scenario.slices.items():
            for low, high in zip(edges, [*edges[1:], np.inf], strict=True):
                inside = (self._earlier >= low) & (self._earlier < high)
                masks.append((dimension, _range(low, high), self._late & inside))
        for name in self._evaluation.slices:
            column = np.array([key for d in self._digests for key in d.keys[name]], dtype=object)
            common = Counter(column[self.final].tolist()).most_common(6)
            masks += [(name, value, self.final & (column == value)) for value, _ in common]
        return masks

    def _slice(self, dimension: str, value: str, mask: Mask) -> list[SliceLine]:
        primary = self._evaluation.primary
        lines = []
        for model in self.models:
            values = self._values(model, primary)[mask]
            n = int((~np.isnan(values)).sum())
            figure = _figure(values, self._customers[mask]) if n >= _MIN_SLICE else None
            lines.append(SliceLine(dimension, value, model, primary, n, figure))
        return lines


def _items(run: Run, txn: Transaction) -> set[str]:
    label = run.system.task.label
    batch = read_stream(txn, label.outcome.name)
    keys = batch.keys[run.system.task.item.name].to_list() if batch is not None else []
    return {key for key in keys if key is not None}


def _ingest(run: Run) -> IngestLine:
    store = open_store(run.store_url, readonly=True)
    try:
        with store.read() as txn:
            counts = read_counts(txn, list(run.system.streams))
            reasons = count_by_reason(txn)
    finally:
        store.close()
    return IngestLine(
        counts.rows_in, counts.events, counts.duplicates, counts.dead_letters, reasons
    )


def _parity(digests: Sequence[Digest]) -> ParityLine:
    total = sum((d.parity for d in digests), Parity())
    return ParityLine(total.compared, total.mismatched, total.by_feature)


def _weeks(run: Run, digests: Sequence[Digest], models: Sequence[str]) -> list[WeekLine]:
    primary = run.scenario.system.evaluation.primary
    lines = []
    for number, digest in enumerate(digests):
        start_us = run.scenario.live_us + number * run.scenario.step_us
        returning = digest.earlier > 0
        for model in models:
            if model not in digest.metrics:
                continue
            values = digest.metrics[model][primary][returning]
            if (~np.isnan(values)).sum() >= _MIN_SLICE:
                lines.append(WeekLine(start_us, model, primary, _figure(values, None)))
    return lines


def _importances(run: Run) -> list[Gain]:
    for line in reversed(run.state.promotions):
        if line.promoted and line.trigger != "start":
            model = run.registry.load(line.version)
            gains = model.importances() if isinstance(model, LightGBMModel | LogisticModel) else {}
            total = sum(abs(gain) for gain in gains.values()) or 1.0
            ranked = sorted(gains.items(), key=lambda pair: -abs(pair[1]))
            return [Gain(name, abs(gain) / total) for name, gain in ranked]
    return []


def _latency(taken_ms: Sequence[float]) -> Latency:
    p50, p95, p99 = np.percentile(taken_ms, [50, 95, 99])
    return Latency(round(float(p50), 3), round(float(p95), 3), round(float(p99), 3), len(taken_ms))


def _figure(values: Floats, clusters: npt.NDArray[np.object_] | None) -> Figure:
    known = ~np.isnan(values)
    if known.sum() < 2:
        mean = float(values[known].mean()) if known.any() else 0.0
        return Figure(mean, mean, mean, int(known.sum()))
    groups = None if clusters is None else clusters[known]
    return _of(mean_interval(values[known], _rng(), clusters=groups))


def _of(interval: Interval) -> Figure:
    return Figure(interval.estimate, interval.low, interval.high, interval.n)


def _range(low: float, high: float) -> str:
    if high == np.inf:
        return f"{low:g} or more"
    return f"{low:g}" if high == low + 1 else f"{low:g} to {high - 1:g}"


def _rng() -> np.random.Generator:
    return np.random.default_rng(20111209)
