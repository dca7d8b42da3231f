"""Training and judging by hand, on what a home has logged."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sevenfold.clock import SystemClock
from sevenfold.errors import NotFoundError, RunError
from sevenfold.evaluation.intervals import mean_interval
from sevenfold.loop.learn import Learned, Learner, make_model
from sevenfold.loop.logged import Logged
from sevenfold.loop.summary import Figure
from sevenfold.models.protocol import Model
from sevenfold.registry.registry import Registry
from sevenfold.spec.model import ModelSpec, Rule
from sevenfold.spec.system import System
from sevenfold.spec.units import parse_duration

__all__ = ["Judgement", "Workshop"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """Models on the same matured requests, and logged vectors against recomputed ones."""

    requests: int
    metrics: dict[str, dict[str, Figure]]
    compared: int
    mismatched: int


@dataclass(frozen=True, eq=False)
class Workshop:
    """Works on one home; a server may be running on it."""

    system: System
    home: Path

    @property
    def registry(self) -> Registry:
        """The home's registry."""
        return Registry(self.home / "registry")

    def spec(self, name: str | None) -> ModelSpec:
        """The declared model of that name, the strong one when none is given.

        Raises NotFoundError for a rule, which has nothing to learn.
        """
        learned = [spec for spec in self.system.models if not isinstance(spec, Rule)]
        if name is None:
            strong = [spec for spec in learned if spec.role == "strong"] or learned
            if strong:
                return strong[0]
        for spec in learned:
            if spec.name == name:
                return spec
        known = ", ".join(spec.name for spec in learned) or "none"
        raise NotFoundError(f"no model {name!r} that learns; there are {known}")

    def train(self, spec: ModelSpec, promote: bool) -> Learned:
        """A challenger fitted, judged and registered; with `promote` it serves if the gate lets it.

        Raises RunError when there is nothing matured to learn from.
        """
        logged = Logged(self.system, self.home)
        split = self.system.evaluation.split
        learner = Learner(
            self.system.evaluation, self.registry, logged.hashes, self.home / "training"
        )
        end_us = logged.matured_us()
        valid_us = end_us - parse_duration(split.valid)
        until_us = valid_us - parse_duration(split.gap)
        past = logged.digest(until_us - parse_duration(split.train), until_us, {})
        dataset = learner.training_set([past], until_us)
        model = learner.fit(spec, dataset, np.random.default_rng(logged.seed))
        models: dict[str, Model] = {
            "challenger": model,
            "baseline": make_model(self.system.baseline),
        }
        champion = self.registry.alias("champion")
        if champion is not None:
            models["champion"] = self.registry.load(champion)
        judged = logged.digest(valid_us, end_us, models)
        if not judged.request_ids:
            raise RunError(f"no request of the last {split.valid} has matured: nothing to judge on")
        primary = self.system.evaluation.primary
        values = {name: judged.metrics[name][primary] for name in models}
        first = self.system.task.query[0].name
        verdict = learner.judge(values, judged.keys[first], {})
        means = {m: float(np.nanmean(v)) for m, v in judged.metrics["challenger"].items()}
        lineage = {"trigger": "by hand", "training_set": dataset.fingerprint()}
        now_us = SystemClock().now_us()
        version = learner.register(spec, model, means, lineage, now_us)
        if promote and verdict.promote:
            self.registry.set_alias("champion", version, "trained by hand, passed the gate", now_us)
        return Learned(spec, model, verdict, version, len(dataset.y), dataset.n_requests)

    def evaluate(self, version: int | None, last: str) -> Judgement:
        """A version beside the baseline and what was served, on the matured requests of `last`.

        Raises RunError when there are none, or no champion to judge.
        """
        chosen = version or self.registry.alias("champion")
        if chosen is None:
            raise RunError(f"no version serves in {self.home}: give one, or train and promote one")
        logged = Logged(self.system, self.home)
        end_us = logged.matured_us()
        models = {
            f"version {chosen}": self.registry.load(chosen),
            "baseline": make_model(self.system.baseline),
        }
        judged = logged.digest(end_us - parse_duration(last), end_us, models)
        if len(judged.request_ids) < 2:
            raise RunError(
                f"fewer than two requests of the last {last} have matured: look further back"
            )
        clusters = np.array(judged.keys[self.system.task.query[0].name], dtype=object)
        metrics = {
            model: {metric: _figure(values, clusters) for metric, values in found.items()}
            for model, found in judged.metrics.items()
        }
        parity = judged.parity
        return Judgement(len(judged.request_ids), metrics, parity.compared, parity.mismatched)


def _figure(values: np.ndarray[tuple[int], np.dtype[np.float64]], clusters: object) -> Figure:
    interval = mean_interval(values, np.random.default_rng(0), clusters=clusters)  # type: ignore[arg-type]
    return Figure(interval.estimate, interval.low, interval.high, interval.n)
