"""Rules about the task, the models, the evaluation, serving and monitoring."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sevenfold.errors import Problem
from sevenfold.spec.declaration import Declaration, duration_problem, unknown
from sevenfold.spec.units import parse_duration

__all__ = ["OPERATION_RULES"]

_METRIC = re.compile(r"(ndcg|recall|map|mrr|hit_rate|precision)@\d+")
_RUNGS = ("baseline", "popular", "empty")


def durations_have_units(system: Declaration) -> Iterator[Problem]:
    """C-00: every duration outside the data."""
    split, watch = system.evaluation.split, system.monitoring
    given: dict[str, object] = {
        "requirements.latency.p99": system.requirements.latency.p99,
        "task.label.within": system.task.label.within,
        "evaluation.split.train": split.train,
        "evaluation.split.valid": split.valid,
        "evaluation.split.gap": split.gap,
        "monitoring.performance.window": watch.performance.window,
        "monitoring.retrain.every": watch.retrain.every,
        "monitoring.retrain.cooldown": watch.retrain.cooldown,
        "monitoring.retrain.first_after": watch.retrain.first_after,
    }
    for i, retriever in enumerate(system.serving.retrieve):
        given[f"serving.retrieve[{i}].half_life"] = retriever.half_life
    for path, text in given.items():
        if problem := duration_problem(f"$.{path}", text):
            yield problem


def objective_has_metrics(system: Declaration) -> Iterator[Problem]:
    """C-01: an objective, a metric, and something that must not get worse."""
    if not system.requirements.goal or not system.requirements.metric:
        yield Problem("$.requirements", "a goal and its metric are wanted", "say both", "C-01")
    if not system.requirements.guardrails:
        yield Problem(
            "$.requirements.guardrails",
            "nothing is declared that must not get worse",
            "add a guardrail such as sf.Guardrail('p99 latency')",
            "C-01",
            "warning",
        )


def metrics_suit_the_task(system: Declaration) -> Iterator[Problem]:
    """C-02: a ranking is judged by metrics of ranked lists at a rank."""
    for path, metric in _metrics(system):
        if not _METRIC.fullmatch(metric):
            yield Problem(
                path,
                f"{metric!r} does not judge a ranking",
                "use ndcg@k, recall@k, map@k, mrr@k, hit_rate@k or precision@k",
                "C-02",
            )


def there_is_a_baseline(system: Declaration) -> Iterator[Problem]:
    """C-03: exactly one model is the baseline, and names differ."""
    baselines = [model for model in system.models if model.role == "baseline"]
    if len(baselines) != 1:
        message = f"one model has the role 'baseline', {len(baselines)} were given"
        yield Problem("$.models", message, "add sf.Rule(by=...)", "C-03")
    names = [model.name for model in system.models]
    for i, name in enumerate(names):
        if name in names[:i]:
            message = f"a second model is named {name!r}"
            yield Problem(f"$.models[{i}].name", message, "give it another name")


def stages_shrink(system: Declaration) -> Iterator[Problem]:
    """C-04: candidates of each generator and in all are at least what is answered."""
    k, limit = system.task.k, system.serving.limit
    if not system.serving.retrieve:
        yield Problem("$.serving.retrieve", "no candidate generator is declared", "add one", "C-04")
    if not 1 <= k <= limit:
        message = f"{k} items are answered out of at most {limit} candidates"
        yield Problem(
            "$.serving.limit", message, "let limit be at least task.k, and k at least 1", "C-04"
        )
    names = [retriever.name for retriever in system.serving.retrieve]
    for i, retriever in enumerate(system.serving.retrieve):
        if retriever.n < 1:
            message = f"a generator gives at least one candidate, not {retriever.n}"
            yield Problem(f"$.serving.retrieve[{i}].n", message, "give a larger n", "C-04")
        if names[i] in names[:i]:
            message = f"a second generator is named {names[i]!r}"
            yield Problem(f"$.serving.retrieve[{i}].name", message, "give it another name")


def label_is_declared(system: Declaration) -> Iterator[Problem]:
    """C-05: the outcome is a stream of the system that names the request and the item."""
    label, names = system.task.label, [stream.name for stream in system.data]
    if label.outcome.name not in names:
        yield unknown("$.task.label.outcome", "stream", label.outcome.name, names, "C-05")
    if label.request not in label.outcome.fields:
        fields = list(label.outcome.fields)
        yield unknown("$.task.label.request", "field of the outcome", label.request, fields, "C-05")
    keys = [entity.name for entity in label.outcome.keys]
    if system.task.item.name not in keys:
        yield unknown("$.task.item", "key of the outcome", system.task.item.name, keys, "C-05")


def split_leaves_a_gap(system: Declaration) -> Iterator[Problem]:
    """C-06: the gap between training and validation is at least the label's window."""
    gap, within = system.evaluation.split.gap, system.task.label.within
    if duration_problem("", gap) or duration_problem("", within):
        return
    if parse_duration(gap) < parse_duration(within):
        yield Problem(
            "$.evaluation.split.gap",
            f"a gap of {gap} is shorter than the label's window of {within}",
            f"give a gap of at least {within}: labels of the training rows reach that far",
            "C-06",
        )


def exact_features_are_logged(system: Declaration) -> Iterator[Problem]:
    """C-10: what an answer was computed from is kept."""
    if system.serving.log is None:
        message = "the features of answers are not logged, so nothing can be learned or audited"
        yield Problem("$.serving.log", message, "give sf.PredictionLog()", "C-10")


def models_read_declared_features(system: Declaration) -> Iterator[Problem]:
    """Models other than rules read at least one feature, none twice."""
    for i, model in enumerate(system.models):
        features = list(model.features)
        if not features or len(set(features)) != len(features):
            message = f"model {model.name!r} reads no feature, or one of them twice"
            yield Problem(f"$.models[{i}].features", message, "list each feature once", "C-24")


def slices_are_declared(system: Declaration) -> Iterator[Problem]:
    """C-21: there is at least one slice to look at."""
    if not system.evaluation.slices:
        message = "no slice is declared: a mean can hide who is served badly"
        yield Problem(
            "$.evaluation.slices", message, "name a field of the request", "C-21", "warning"
        )


def failures_have_a_fallback(system: Declaration) -> Iterator[Problem]:
    """C-22: there is something to answer when the model fails."""
    if not system.serving.degrade:
        message = "nothing is answered when the model fails"
        yield Problem("$.serving.degrade", message, "give degrade=['baseline', 'popular']", "C-22")
    for i, rung in enumerate(system.serving.degrade):
        if rung not in _RUNGS:
            yield unknown(f"$.serving.degrade[{i}]", "rung", rung, _RUNGS, "C-22")


def drift_has_rows_enough(system: Declaration) -> Iterator[Problem]:
    """C-23: below about a thousand rows the stability index is mostly noise (F-16)."""
    drift = system.monitoring.drift
    noise = 9 * 2 / max(drift.min_rows, 1)
    if drift.warn < 3 * noise:
        yield Problem(
            "$.monitoring.drift.min_rows",
            f"at {drift.min_rows} rows ten bins move by {noise:.3f} by chance, and {drift.warn} warns",
            "ask for more rows, or warn later",
            "C-23",
            "warning",
        )
    if drift.alert < drift.warn:
        message = f"the alert at {drift.alert} comes before the warning at {drift.warn}"
        yield Problem("$.monitoring.drift.alert", message, "let alert be at least warn", "C-23")


def _metrics(system: Declaration) -> Iterator[tuple[str, str]]:
    yield "$.evaluation.primary", system.evaluation.primary
    for i, metric in enumerate(system.evaluation.also):
        yield f"$.evaluation.also[{i}]", metric


OPERATION_RULES = (
    durations_have_units,
    objective_has_metrics,
    metrics_suit_the_task,
    there_is_a_baseline,
    stages_shrink,
    label_is_declared,
    split_leaves_a_gap,
    exact_features_are_logged,
    models_read_declared_features,
    slices_are_declared,
    failures_have_a_fallback,
    drift_has_rows_enough,
)
