"""When to learn again, and what to do with what was learned."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sevenfold.evaluation.gate import Verdict
from sevenfold.loop.digest import Digest
from sevenfold.loop.learn import Learner, make_model
from sevenfold.loop.scenario import Scenario
from sevenfold.loop.state import RunState
from sevenfold.loop.steps import Steps, concatenated
from sevenfold.loop.summary import DriftLine, PromotionLine
from sevenfold.models.dataset import Dataset
from sevenfold.models.protocol import Model
from sevenfold.monitoring.drift import population_stability
from sevenfold.monitoring.performance import has_decayed
from sevenfold.registry.registry import Registry
from sevenfold.spec.model import LightGBM, LogisticRegression, ModelSpec, Rule
from sevenfold.spec.units import parse_duration
from sevenfold.types import US_PER_DAY, Instant

__all__ = ["Improver"]

DigestBetween = Callable[[Instant, Instant, Mapping[str, Model]], Digest]
_LINEAR_REQUESTS = 2_000


@dataclass(frozen=True, slots=True, eq=False)
class Improver:
    """Watches the steps of a run and retrains by schedule, on drift, and on loss of performance."""

    scenario: Scenario
    state: RunState
    steps: Steps
    registry: Registry
    hashes: Mapping[str, str]
    folder: Path

    @property
    def learner(self) -> Learner:
        """What fits, judges and registers."""
        return Learner(self.scenario.system.evaluation, self.registry, self.hashes, self.folder)

    def install_baseline(self, at_us: Instant) -> None:
        """Register the rule and let it serve: the baseline that any model has to beat."""
        spec = self.scenario.system.baseline
        reason = "the rule serves until a model beats it"
        version = self.learner.register(spec, make_model(spec), {}, {"kind": "baseline"}, at_us)
        self.registry.set_alias("champion", version, reason, at_us)
        line = PromotionLine(at_us, spec.name, version, True, "start", [reason])
        self.state.promotions.append(line)

    def shadows(self) -> dict[str, Model]:
        """The models that are judged beside what serves: the rules, and the first ones learned."""
        models: dict[str, Model] = {"rule": make_model(self.scenario.system.baseline)}
        models |= {name: make_model(rule) for name, rule in self.scenario.rules.items()}
        if self.state.first:
            models["never_retrained"] = self.registry.load(self.state.first)
        if self.state.logistic:
            models["logistic"] = self.registry.load(self.state.logistic)
        return models

    def improve(self, number: int, now_us: Instant, digest_between: DigestBetween) -> bool:
        """Learn if there is a reason to; whether another model serves now."""
        if any(line.at_us == now_us for line in self.state.promotions[1:]):
            return False
        self._watch(number, now_us)
        reason = self._reason(number, now_us)
        if reason is None:
            return False
        promoted = self._challenge(now_us, reason, digest_between)
        self.state.trained_us = now_us
        self.state.sample_step = number
        return promoted

    def _watch(self, number: int, now_us: Instant) -> None:
        drift = self.scenario.system.monitoring.drift
        if self.state.sample_step < 0:
            return
        reference = self.steps.load(self.state.sample_step).sample
        current = self.steps.load(number).sample
        if min(len(reference), len(current)) < drift.min_rows:
            return
        names = list(self.hashes)
        for i, name in enumerate(names):
            found = population_stability(reference[:, i], current[:, i])
            threshold = max(drift.alert, 3 * found.noise)
            verdict = "drift" if found.value > threshold else "steady"
            self.state.drift.append(DriftLine(now_us, name, found.value, threshold, verdict))

    def _reason(self, number: int, now_us: Instant) -> str | None:
        """Why to learn now; None when there is no reason, or too soon."""
        declared = self.scenario.system.monitoring.retrain
        if not self.state.trained_us:
            first_us = self.scenario.live_us + parse_duration(declared.first_after)
            return "first training" if now_us >= first_us else None
        since_us = now_us - self.state.trained_us
        if since_us >= parse_duration(declared.every):
            return f"schedule: {since_us // US_PER_DAY} days since the last training"
        if since_us < parse_duration(declared.cooldown):
            return None
        if declared.on_drift and (moved := self._moved(now_us)):
            return f"drift: {moved}"
        if declared.on_performance and (lost := self._lost(number)):
            return f"performance: {lost}"
        return None

    def _moved(self, now_us: Instant) -> str | None:
        moved = [d for d in self.state.drift if d.at_us == now_us and d.verdict == "drift"]
        share = len(moved) / max(len(self.hashes), 1)
        if share < 0.25:
            return None
        worst = max(moved, key=lambda line: line.psi)
        return f"{len(moved)} features moved, most of all {worst.feature} (PSI {worst.psi:.2f})"

    def _lost(self, number: int) -> str | None:
        watch = self.scenario.system.monitoring.performance
        primary = self.scenario.system.evaluation.primary
        width = max(1, parse_duration(watch.window) // self.scenario.step_us)
        first = max(self.state.sample_step + 1, 0)
        if number - first < 2 * width:
            return None
        before = [self.steps.load(n) for n in range(first, first + width)]
        now = [self.steps.load(n) for n in range(number + 1 - width, number + 1)]
        return has_decayed(
            concatenated(before, "served", primary),
            concatenated(now, "served", primary),
            watch.tolerance,
            np.random.default_rng(self.scenario.seed),
        )

    def _challenge(self, now_us: Instant, reason: str, digest_between: DigestBetween) -> bool:
        """Fit every learned model on the past and judge them on the newest requests.

        The best of those that pass the gate serves from now on; whether there was one.
        """
        split = self.scenario.system.evaluation.split
        valid_us = now_us - parse_duration(split.valid)
        digests = [self.steps.load(n) for n in range(self.state.steps_done + 1)]
        dataset = self.learner.training_set(digests, valid_us - parse_duration(split.gap))
        specs = [spec for spec in self.scenario.system.models if not isinstance(spec, Rule)]
        fitted = self._fitted(specs, dataset, now_us)
        judged = digest_between(valid_us, now_us, fitted | self._opponents())
        verdicts = {spec.name: self._verdict(spec.name, judged) for spec in specs}
        primary = self.scenario.system.evaluation.primary
        passed = [name for name, verdict in verdicts.items() if verdict.promote]
        best = max(passed, key=lambda name: _mean(judged, name, primary), default=None)
        for spec in specs:
            verdict = verdicts[spec.name]
            version = self.learner.register(
                spec,
                fitted[spec.name],
                {metric: _mean(judged, spec.name, metric) for metric in judged.metrics[spec.name]},
                self._lineage(dataset, reason, verdict),
                now_us,
            )
            self._note(spec, version)
            reasons = list(verdict.reasons)
            if spec.name == best:
                self.registry.set_alias("champion", version, reason, now_us)
            elif verdict.promote:
                reasons.append(f"{best} passed too, with the better {primary}.")
            line = PromotionLine(now_us, spec.name, version, spec.name == best, reason, reasons)
            self.state.promotions.append(line)
        return best is not None

    def _fitted(
        self, specs: Sequence[ModelSpec], dataset: Dataset, now_us: Instant
    ) -> dict[str, Model]:
        """Every model, each by its own randomness, so that it does not matter which are fitted side by side."""
        with ThreadPoolExecutor(min(len(specs), os.cpu_count() or 1) or 1) as threads:
            models = list(threads.map(lambda spec: self._fit(spec, dataset, now_us), specs))
        return {spec.name: model for spec, model in zip(specs, models, strict=True)}

    def _fit(self, spec: ModelSpec, dataset: Dataset, now_us: Instant) -> Model:
        rng = np.random.default_rng([self.scenario.seed, now_us // 1_000_000])
        if isinstance(spec, LogisticRegression) and dataset.n_requests > _LINEAR_REQUESTS:
            chosen = rng.choice(dataset.n_requests, _LINEAR_REQUESTS, replace=False)
            dataset = dataset.take(np.sort(chosen))
        return self.learner.fit(spec, dataset, rng)

    def _opponents(self) -> dict[str, Model]:
        opponents: dict[str, Model] = {"baseline": make_model(self.scenario.system.baseline)}
        champion = self.registry.alias("champion")
        if champion is not None:
            opponents["champion"] = self.registry.load(champion)
        return opponents

    def _verdict(self, name: str, judged: Digest) -> Verdict:
        primary = self.scenario.system.evaluation.primary
        values = {
            role: judged.metrics[model][primary]
            for role, model in (
                ("challenger", name),
                ("baseline", "baseline"),
                ("champion", "champion"),
            )
            if model in judged.metrics
        }
        slices = {
            dimension: judged.keys[dimension]
            for dimension in self.scenario.system.evaluation.slices
            if dimension in judged.keys
        }
        return self.learner.judge(values, judged.keys[self.scenario.customer], slices)

    def _lineage(self, dataset: Dataset, reason: str, verdict: Verdict) -> dict[str, object]:
        return {
            "trigger": reason,
            "rows": len(dataset.y),
            "requests": dataset.n_requests,
            "first_request_us": int(dataset.t_us.min()),
            "last_request_us": int(dataset.t_us.max()),
            "training_set": dataset.fingerprint(),
            "gate": "passed" if verdict.promote else "refused",
        }

    def _note(self, spec: ModelSpec, version: int) -> None:
        if isinstance(spec, LogisticRegression):
            self.state.logistic = version
        if isinstance(spec, LightGBM) and not self.state.first:
            self.state.first = version


def _mean(judged: Digest, model: str, metric: str) -> float:
    return float(np.nanmean(judged.metrics[model][metric]))
