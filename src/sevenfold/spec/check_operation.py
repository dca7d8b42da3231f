"""Rules about the task, the models, the evaluation, serving and monitoring."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sevenfold.errors import Problem
from sevenfold.spec.check_features import declared_features
from sevenfold.spec.declaration import Declaration, duration_us, twice, unknown
from sevenfold.spec.feature_set import FeatureSet
from sevenfold.spec.field import Id, Text
from sevenfold.spec.model import Rule
from sevenfold.spec.retrieve import BoughtTogether, Popular, Retriever
from sevenfold.spec.serving import RUNGS

__all__ = ["OPERATION_RULES", "RANKING_METRICS", "drift_noise"]

RANKING_METRICS = ("hit_rate", "map", "mrr", "ndcg", "precision", "recall")
_METRIC = re.compile(rf"({'|'.join(RANKING_METRICS)})@[1-9]\d*", re.ASCII)
_RUNGS = RUNGS[1:]
_BINS = 10


def objective_has_metrics(system: Declaration) -> Iterator[Problem]:
    """C-01: an objective, a metric, and something that must not get worse."""
    for name in ("goal", "metric"):
        if not getattr(system.requirements, name):
            message = f"the {name} is not said"
            yield Problem(f"$.requirements.{name}", message, "say it in a few words", "C-01")
    if not system.requirements.guardrails:
        yield Problem(
            "$.requirements.guardrails",
            "nothing is declared that must not get worse",
            "add a guardrail such as sf.Guardrail('p99 latency')",
            "C-01",
            "warning",
        )


def latency_quantiles_rise(system: Declaration) -> Iterator[Problem]:
    """C-11: half of the answers are at least as fast as all but one in a hundred."""
    latency = system.requirements.latency
    p50_us, p99_us = duration_us(latency.p50), duration_us(latency.p99)
    if p50_us is not None and p99_us is not None and p50_us > p99_us:
        message = f"a p50 of {latency.p50} is above the p99 of {latency.p99}"
        yield Problem("$.requirements.latency.p50", message, "let p50 be at most p99", "C-11")


def traffic_is_known(system: Declaration) -> Iterator[Problem]:
    """C-12: what the daily users come to, in requests a second (F-1, F-2)."""
    scale = system.requirements.scale
    average = float(scale.daily_users) * float(scale.requests_per_user) / 86_400
    peak, spike = average * float(scale.peak), average * float(scale.spike)
    message = f"{average:,.3g} requests a second on average, {peak:,.3g} at the peak, {spike:,.3g} in a spike"
    yield Problem("$.requirements.scale", message, check="C-12", severity="info")


def label_is_declared(system: Declaration) -> Iterator[Problem]:
    """C-05: the outcome is a stream of the system that names the request and the item."""
    label, names = system.task.label, [stream.name for stream in system.data]
    outcome = label.outcome
    if outcome.name not in names:
        yield unknown("$.task.label.outcome", "stream", outcome.name, names, "C-05")
    if label.request not in outcome.fields:
        fields = list(outcome.fields)
        yield unknown("$.task.label.request", "field of the outcome", label.request, fields, "C-05")
    elif not isinstance(outcome.fields[label.request], Id | Text):
        message = f"{label.request!r} holds no ids, so it names no request"
        yield Problem("$.task.label.request", message, "declare it sf.Id()", "C-05")
    keys = [entity.name for entity in outcome.keys]
    if system.task.item.name not in keys:
        yield unknown("$.task.item", "key of the outcome", system.task.item.name, keys, "C-05")


def request_names_entities_once(system: Declaration) -> Iterator[Problem]:
    """A request names each entity once, and not the item it asks for; streams know them all."""
    task = system.task
    names = [("$.task.item", task.item.name)]
    names += [(f"$.task.query[{i}]", entity.name) for i, entity in enumerate(task.query)]
    yield from twice(names, "entity")
    known = sorted({entity.name for stream in system.data for entity in stream.keys})
    for path, name in names[1:]:
        if name not in known:
            yield unknown(path, "key of a stream", name, known)


def metrics_suit_the_task(system: Declaration) -> Iterator[Problem]:
    """C-02: a ranking is judged by metrics of ranked lists at a rank."""
    evaluation = system.evaluation
    metrics = [("$.evaluation.primary", evaluation.primary)]
    metrics += [(f"$.evaluation.also[{i}]", metric) for i, metric in enumerate(evaluation.also)]
    for path, metric in metrics:
        if not _METRIC.fullmatch(metric):
            allowed = ", ".join(f"{name}@k" for name in RANKING_METRICS)
            yield Problem(path, f"{metric!r} does not judge a ranking", f"use {allowed}", "C-02")
    yield from twice(metrics, "metric", "C-02")


def split_leaves_a_gap(system: Declaration) -> Iterator[Problem]:
    """C-06: the gap between training and validation is at least the label's window."""
    gap, within = system.evaluation.split.gap, system.task.label.within
    gap_us, within_us = duration_us(gap), duration_us(within)
    if gap_us is not None and within_us is not None and gap_us < within_us:
        yield Problem(
            "$.evaluation.split.gap",
            f"a gap of {gap} is shorter than the label's window of {within}",
            f"give a gap of at least {within}: labels of the training rows reach that far",
            "C-06",
        )


def slices_are_declared(system: Declaration) -> Iterator[Problem]:
    """C-21: there is a slice to look at, and each is an entity or a field of the outcome."""
    outcome = system.task.label.outcome
    known = [*(entity.name for entity in system.task.query), *outcome.fields]
    for i, name in enumerate(system.evaluation.slices):
        if name not in known:
            where = f"$.evaluation.slices[{i}]"
            yield unknown(where, "entity or field to slice by", name, known, "C-21")
    if not system.evaluation.slices:
        message = "no slice is declared: a mean can hide who is served badly"
        remedy = "name a field of the request"
        yield Problem("$.evaluation.slices", message, remedy, "C-21", "warning")


def there_is_a_baseline(system: Declaration) -> Iterator[Problem]:
    """C-03: one model is the baseline, at least one other can beat it, and names differ."""
    roles = [model.role for model in system.models]
    if roles.count("baseline") != 1:
        message = f"one model has the role 'baseline', {roles.count('baseline')} were given"
        yield Problem("$.models", message, "add sf.Rule(by=...)", "C-03")
    if set(roles) <= {"baseline"}:
        message = "no model is there to beat the baseline"
        yield Problem("$.models", message, "add sf.LightGBM(features=[...])", "C-03", "warning")
    names = ((f"$.models[{i}].name", model.name) for i, model in enumerate(system.models))
    yield from twice(names, "model", "C-03")


def models_read_declared_features(system: Declaration) -> Iterator[Problem]:
    """C-24: a model reads at least one feature, each once, and all are declared."""
    known = declared_features(system)
    for i, model in enumerate(system.models):
        path = f"$.models[{i}]"
        rule = isinstance(model, Rule)
        places = [path if rule else f"{path}.features[{j}]" for j in range(len(model.features))]
        named = list(zip(places, model.features, strict=True))
        if not named:
            yield Problem(f"{path}.features", "it reads no feature", "list what it reads", "C-24")
        yield from twice(named, "feature", "C-24")
        for where, name in named:
            if name not in known:
                yield unknown(where, "feature", name, known, "C-24")


def versions_of_sets_are_one(system: Declaration) -> Iterator[Problem]:
    """C-24: a feature set has one list of features a version."""
    first: dict[str, list[str]] = {}
    for i, model in enumerate(system.models):
        chosen = model.features
        if isinstance(chosen, FeatureSet):
            before = first.setdefault(chosen.label, list(chosen))
            if before != list(chosen):
                message = f"feature set {chosen.label} has other features in another model"
                remedy = "declare the set once, or raise the version of one"
                yield Problem(f"$.models[{i}].features.version", message, remedy, "C-24")


def stages_shrink(system: Declaration) -> Iterator[Problem]:
    """C-04: items, candidates of the generators, candidates in all, answers: none more than before."""
    k, limit, retrievers = system.task.k, system.serving.limit, system.serving.retrieve
    if not retrievers:
        message, remedy = "no candidate generator is declared", "add one such as sf.Popular(...)"
        yield Problem("$.serving.retrieve", message, remedy, "C-04")
    if k > limit:
        message = f"{k} items are answered out of at most {limit} candidates"
        yield Problem("$.serving.limit", message, "let it be at least $.task.k", "C-04")
    most = sum(retriever.n for retriever in retrievers)
    if retrievers and most < limit:
        message = f"the generators give at most {most} candidates, {limit} are allowed"
        remedy = f"let it be {most}, or let the generators give more"
        yield Problem("$.serving.limit", message, remedy, "C-04", "info")
    names = ((f"$.serving.retrieve[{i}].name", r.name) for i, r in enumerate(retrievers))
    yield from twice(names, "generator", "C-04")


def generators_read_declared_streams(system: Declaration) -> Iterator[Problem]:
    """C-04: a generator proposes the task's items, from a stream and for entities of the request."""
    streams = [stream.name for stream in system.data]
    for i, retriever in enumerate(system.serving.retrieve):
        path = f"$.serving.retrieve[{i}]"
        stream = retriever.stream
        if stream.name not in streams:
            yield unknown(f"{path}.stream", "stream", stream.name, streams, "C-04")
        keys = [entity.name for entity in stream.keys]
        for name in ("item", *_asked(retriever)):
            entity = getattr(retriever, name).name
            if entity not in keys:
                what = f"key of {stream.name!r}"
                yield unknown(f"{path}.{name}", what, entity, keys, "C-04")
        if retriever.item.name != system.task.item.name:
            message = f"{retriever.item.name!r} is not what is ranked, {system.task.item.name!r}"
            yield Problem(f"{path}.item", message, "give the item of the task", "C-04")
        for name in _asked(retriever):
            asked = [entity.name for entity in system.task.query]
            entity = getattr(retriever, name).name
            if entity not in asked:
                what = "entity of the request"
                yield unknown(f"{path}.{name}", what, entity, asked, "C-04")
        if isinstance(retriever, BoughtTogether):
            ids = [name for name, kind in stream.fields.items() if isinstance(kind, Id | Text)]
            if retriever.basket not in ids:
                what = f"id field of {stream.name!r}"
                yield unknown(f"{path}.basket", what, retriever.basket, ids, "C-04")


def exact_features_are_logged(system: Declaration) -> Iterator[Problem]:
    """C-10: what an answer was computed from is kept, and some of what was not shown."""
    log = system.serving.log
    if log is None:
        message = "the features of answers are not logged, so nothing can be learned or audited"
        yield Problem("$.serving.log", message, "give sf.PredictionLog()", "C-10")
    elif log.sample == 0:
        message = "only shown items are logged, so a model learns nothing of the others"
        yield Problem("$.serving.log.sample", message, "log two or more", "C-10", "warning")


def failures_have_a_fallback(system: Declaration) -> Iterator[Problem]:
    """C-22: there is something to answer when the model fails, and each rung can be stood on."""
    rungs = system.serving.degrade
    if not rungs:
        message = "nothing is answered when the model fails"
        yield Problem("$.serving.degrade", message, "give degrade=['baseline', 'popular']", "C-22")
    for i, rung in enumerate(rungs):
        if rung not in _RUNGS:
            yield unknown(f"$.serving.degrade[{i}]", "rung", rung, _RUNGS, "C-22")
    yield from twice(((f"$.serving.degrade[{i}]", r) for i, r in enumerate(rungs)), "rung", "C-22")
    if list(rungs) != sorted(rungs, key=lambda rung: _RUNGS.index(rung) if rung in _RUNGS else -1):
        message = "a cheaper answer comes before a better one"
        remedy = f"keep the order {', '.join(_RUNGS)}"
        yield Problem("$.serving.degrade", message, remedy, "C-22")
    if "baseline" in rungs and not any(isinstance(model, Rule) for model in system.models):
        message = "no rule is declared that 'baseline' could fall back on"
        yield Problem("$.serving.degrade", message, "add sf.Rule(by=...) to $.models", "C-22")
    if "popular" in rungs and not any(isinstance(r, Popular) for r in system.serving.retrieve):
        message = "no popular generator is there for customers who are new"
        remedy = "add sf.Popular(...) to $.serving.retrieve"
        yield Problem("$.serving.degrade", message, remedy, "C-22", "warning")


def drift_has_rows_enough(system: Declaration) -> Iterator[Problem]:
    """C-23: at the least number of rows, chance alone seldom warns of drift (F-16)."""
    drift = system.monitoring.drift
    noise = drift_noise(drift.min_rows, drift.min_rows)
    if drift.warn < noise:
        needed = int(drift_noise(1, 1) / float(drift.warn)) + 1
        yield Problem(
            "$.monitoring.drift.min_rows",
            f"of windows with {drift.min_rows} rows that do not differ, one in a hundred is {noise:.3f} "
            f"apart, and {drift.warn} warns",
            f"ask for {needed} rows, or warn from {noise:.3f}",
            "C-23",
        )
    if drift.alert < drift.warn:
        message = f"the alert at {drift.alert} comes before the warning at {drift.warn}"
        yield Problem("$.monitoring.drift.alert", message, "let alert be at least warn", "C-23")


def retraining_has_data(system: Declaration) -> Iterator[Problem]:
    """C-17: labels ripen faster than models are trained, and the first training has rows to judge on."""
    retrain, split = system.monitoring.retrain, system.evaluation.split
    every_us, within_us = duration_us(retrain.every), duration_us(system.task.label.within)
    if every_us is not None and within_us is not None and every_us < within_us:
        message = (
            f"training every {retrain.every}, with labels known after {system.task.label.within}"
        )
        yield Problem("$.monitoring.retrain.every", message, "train less often", "C-17")
    cooldown_us = duration_us(retrain.cooldown)
    if every_us is not None and cooldown_us is not None and cooldown_us > every_us:
        message = f"a cooldown of {retrain.cooldown} outlasts the schedule of {retrain.every}"
        remedy = "let cooldown be at most every"
        yield Problem("$.monitoring.retrain.cooldown", message, remedy, "C-17")
    first_us, gap_us, valid_us = map(duration_us, (retrain.first_after, split.gap, split.valid))
    if None not in (first_us, gap_us, valid_us) and (first_us or 0) <= (gap_us or 0) + (
        valid_us or 0
    ):
        message = f"after {retrain.first_after} there are no rows before gap and validation"
        remedy = f"let it be more than {split.gap} and {split.valid} together"
        yield Problem("$.monitoring.retrain.first_after", message, remedy, "C-17")


def drift_noise(reference_rows: int, current_rows: int) -> float:
    """What one of a hundred stability indices over ten bins exceeds by chance alone.

    Without drift the index times 1 / (1/n + 1/m) is near chi-squared with 9 degrees of freedom, whose 99th
    percentile is taken by the formula of Wilson and Hilferty (1931).

    >>> round(drift_noise(1000, 1000), 3)
    0.043
    """
    free = _BINS - 1
    quantile = free * (1 - 2 / (9 * free) + 2.326348 * (2 / (9 * free)) ** 0.5) ** 3
    return float(quantile * (1 / reference_rows + 1 / current_rows))


def _asked(retriever: Retriever) -> tuple[str, ...]:
    if isinstance(retriever, Popular):
        return ("by",) if retriever.by is not None else ()
    return ("customer",)


OPERATION_RULES = (
    objective_has_metrics,
    latency_quantiles_rise,
    traffic_is_known,
    label_is_declared,
    request_names_entities_once,
    metrics_suit_the_task,
    split_leaves_a_gap,
    slices_are_declared,
    there_is_a_baseline,
    models_read_declared_features,
    versions_of_sets_are_one,
    stages_shrink,
    generators_read_declared_streams,
    exact_features_are_logged,
    failures_have_a_fallback,
    drift_has_rows_enough,
    retraining_has_data,
)
