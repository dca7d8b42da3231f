"""Rules about the stages of an answer: what they read, how long they may take, what is left when one is late."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from sevenfold.errors import Problem
from sevenfold.spec.check_features import declared_features
from sevenfold.spec.declaration import Declaration, duration_us, twice, unknown, views
from sevenfold.spec.serving import RESERVE, RUNGS, SHARES
from sevenfold.spec.stage import Cap, Fresh, Keep, Pin, Rerank, Spread

__all__ = ["SERVING_RULES"]

_ORDER = (Fresh, Spread, Cap, Pin)


def fewer_candidates_are_enough(system: Declaration) -> Iterator[Problem]:
    """C-04: the fewer candidates of a cheaper answer are fewer than the limit, and fill the answer."""
    fewer, k, limit = system.serving.fewer, system.task.k, system.serving.limit
    if fewer is None:
        return
    if not k <= fewer < limit:
        message = f"{fewer} candidates are no cheaper answer of {k} items out of {limit}"
        remedy = f"let it be at least {k} and below {limit}, or leave it out"
        yield Problem("$.serving.fewer", message, remedy, "C-04")
    if "fewer" not in system.serving.degrade:
        remedy = "add 'fewer' to $.serving.degrade"
        yield Problem("$.serving.fewer", "no rung has them", remedy, "C-04", "warning")


def stages_read_declared_features(system: Declaration) -> Iterator[Problem]:
    """C-24: what filters and reranks read is declared."""
    known = declared_features(system)
    for i, keep in enumerate(system.serving.filter):
        if keep.feature not in known:
            yield unknown(f"$.serving.filter[{i}].feature", "feature", keep.feature, known, "C-24")
    for i, step in enumerate(system.serving.rerank):
        for where, name in _named(step):
            if name not in known:
                yield unknown(f"$.serving.rerank[{i}].{where}", "feature", name, known, "C-24")


def _named(step: Rerank) -> Iterator[tuple[str, str]]:
    if isinstance(step, Spread):
        yield from ((f"by[{j}]", name) for j, name in enumerate(step.by))
    elif isinstance(step, Pin):
        yield "keep.feature", step.keep.feature
    elif isinstance(step, Fresh):
        yield "age", step.age
    else:
        yield "by", step.by


def filters_ask_something(system: Declaration) -> Iterator[Problem]:
    """C-25: a filter asks something that a value can meet, and the lists and bounds of one agree."""
    keeps = [(f"$.serving.filter[{i}]", keep) for i, keep in enumerate(system.serving.filter)]
    for i, step in enumerate(system.serving.rerank):
        if isinstance(step, Pin):
            keeps.append((f"$.serving.rerank[{i}].keep", step.keep))
    for path, keep in keeps:
        yield from _asked(path, keep)


def _asked(path: str, keep: Keep) -> Iterator[Problem]:
    if keep.low is keep.high is None and not keep.one_of and not keep.none_of and keep.nulls:
        remedy = "give low, high, one_of or none_of, or leave out nulls=True"
        yield Problem(path, "it keeps every candidate", remedy, "C-25")
    if keep.low is not None and keep.high is not None and keep.low > keep.high:
        message = f"nothing is from {keep.low:g} to {keep.high:g}"
        yield Problem(f"{path}.low", message, "let low be at most high", "C-25")
    if keep.one_of and not set(keep.one_of) - set(keep.none_of):
        message = "every value that it allows is one that it refuses"
        yield Problem(f"{path}.none_of", message, "leave a value in one of the two only", "C-25")


def reranks_follow_each_other(system: Declaration) -> Iterator[Problem]:
    """C-25: reranks come in an order in which none undoes another: Fresh, Spread, Cap, Pin; a place is pinned once."""
    steps, k = system.serving.rerank, system.task.k
    places = [_ORDER.index(type(step)) for step in steps]
    for i, (before, here) in enumerate(pairwise(places), start=1):
        if here < before:
            names = ", ".join(kind.__name__ for kind in _ORDER)
            message = f"{type(steps[i]).__name__} undoes what {type(steps[i - 1]).__name__} before it has done"
            yield Problem(f"$.serving.rerank[{i}]", message, f"keep the order {names}", "C-25")
    pins = [(i, step) for i, step in enumerate(steps) if isinstance(step, Pin)]
    named = [(f"$.serving.rerank[{i}].position", str(step.position)) for i, step in pins]
    yield from twice(named, "place", "C-25")
    for i, pin in pins:
        if pin.position > k:
            message = f"place {pin.position} is not one of the {k} that are answered"
            remedy = f"give a place from 1 to {k}"
            yield Problem(f"$.serving.rerank[{i}].position", message, remedy, "C-25")
    for i, step in enumerate(steps):
        if isinstance(step, Spread) and not step.by:
            message = "without features no item is like another"
            yield Problem(f"$.serving.rerank[{i}].by", message, "name the features", "C-25")
        if isinstance(step, Cap) and (step.within or k) <= step.most:
            message = f"a cap of {step.most} among {step.within or k} places holds nothing back"
            remedy = "let most be less than the places"
            yield Problem(f"$.serving.rerank[{i}].most", message, remedy, "C-25", "warning")


def budgets_add_up(system: Declaration) -> Iterator[Problem]:
    """C-26: the stages and the reserve together take no longer than the p99."""
    given, reserve = system.serving.timeouts, system.serving.reserve
    for name in given:
        if name not in SHARES:
            yield unknown(f"$.serving.timeouts.{name}", "stage", name, list(SHARES), "C-26")
    p99_us = duration_us(system.requirements.latency.p99)
    if p99_us is None:
        return
    shares = {name: share * p99_us for name, share in SHARES.items()}
    for name, text in given.items():
        shares[name] = float(duration_us(text) or 0)
    kept = RESERVE * p99_us if reserve is None else float(duration_us(reserve) or 0)
    total = sum(shares[name] for name in SHARES) + kept
    if total > p99_us * (1 + 1e-9):
        parts = ", ".join(f"{name} {shares[name] / 1000:g} ms" for name in SHARES)
        message = (
            f"{parts} and a reserve of {kept / 1000:g} ms come to {total / 1000:g} ms; "
            f"the p99 is {p99_us / 1000:g} ms"
        )
        remedy = (
            f"take off {(total - p99_us) / 1000:g} ms, or let $.requirements.latency.p99 be more"
        )
        yield Problem("$.serving.timeouts", message, remedy, "C-26")


def generators_fit_their_stage(system: Declaration) -> Iterator[Problem]:
    """C-26: a generator is left behind within the time of its stage, and one is always waited for."""
    p99_us = duration_us(system.requirements.latency.p99)
    text = system.serving.timeouts.get("retrieve")
    share_us = SHARES["retrieve"] * p99_us if p99_us else None
    stage_us = share_us if text is None else duration_us(text)
    for i, retriever in enumerate(system.serving.retrieve):
        own_us = duration_us(retriever.timeout)
        if own_us is not None and stage_us is not None and own_us > stage_us:
            message = f"it may take {retriever.timeout}, its stage {stage_us / 1000:g} ms"
            remedy = "let it be at most $.serving.timeouts.retrieve"
            yield Problem(f"$.serving.retrieve[{i}].timeout", message, remedy, "C-26")
    if system.serving.retrieve and all(r.timeout is not None for r in system.serving.retrieve):
        message = "every generator may be left behind, and an answer be empty"
        remedy = "leave the timeout out of one that is quick, such as sf.Popular"
        yield Problem("$.serving.retrieve", message, remedy, "C-26", "warning")


def caches_are_of_use(system: Declaration) -> Iterator[Problem]:
    """C-27: a cache is of entities that there are, and its rung is declared with it."""
    slate, hot = system.serving.slate, system.serving.hot
    is_rung = "cached" in system.serving.degrade
    if is_rung and slate is None:
        message = "no slates are kept that 'cached' could give"
        remedy = "add slate=sf.Pipeline.Slate(ttl='30 s') to $.serving"
        yield Problem("$.serving.degrade", message, remedy, "C-27")
    if slate is not None and not is_rung:
        remedy = "add 'cached' to $.serving.degrade"
        yield Problem("$.serving.slate", "no rung gives the slates", remedy, "C-27")
    asked = [entity.name for entity in system.task.query]
    for i, entity in enumerate(slate.of if slate else ()):
        if entity.name not in asked:
            what = "entity of the request"
            yield unknown(f"$.serving.slate.of[{i}]", what, entity.name, asked, "C-27")
    if hot is None:
        return
    known = sorted({entity.name for _, view in views(system) for entity in view.entities})
    for i, entity in enumerate(hot.entities):
        if entity.name not in known:
            what = "entity of a view"
            yield unknown(f"$.serving.hot.entities[{i}]", what, entity.name, known, "C-27")
    names = {entity.name for entity in hot.entities}
    if not any({e.name for e in view.entities} <= names for _, view in views(system)):
        message = "no view is of these entities alone, so nothing is kept"
        remedy = "name the entities of a view"
        yield Problem("$.serving.hot.entities", message, remedy, "C-27", "warning")


def slates_made_ahead_are_used(system: Declaration) -> Iterator[Problem]:
    """C-28: a mode that answers from a table says how old its slates may be, and what answers where it has none."""
    pipeline = system.serving
    if pipeline.mode == "online":
        if pipeline.max_age is not None:
            message = "answers are made when they are asked for, so nothing of them grows old"
            remedy = "leave it out, or let $.serving.mode be 'batch' or 'hybrid'"
            yield Problem("$.serving.max_age", message, remedy, "C-28")
        if pipeline.otherwise != "full":
            message = "there is no table that could lack a slate"
            remedy = "leave it out, or let $.serving.mode be 'batch' or 'hybrid'"
            yield Problem("$.serving.otherwise", message, remedy, "C-28")
        return
    if pipeline.max_age is None:
        message = f"in the mode {pipeline.mode!r} a slate would be given for ever"
        remedy = "say how old one may be, such as max_age='24 h'"
        yield Problem("$.serving.max_age", message, remedy, "C-28")
    rungs = ["full", *(rung for rung in RUNGS if rung in (*pipeline.degrade, "empty"))]
    if pipeline.otherwise not in rungs:
        yield unknown("$.serving.otherwise", "rung", pipeline.otherwise, rungs, "C-28")
    if pipeline.mode == "batch" and pipeline.slate is not None and pipeline.slate.always:
        message = "a slate is given from the table, so one that is kept in memory never is where there is time"
        remedy = "leave out always=True, or let $.serving.mode be 'online'"
        yield Problem("$.serving.slate.always", message, remedy, "C-28")


SERVING_RULES = (
    fewer_candidates_are_enough,
    stages_read_declared_features,
    filters_ask_something,
    reranks_follow_each_other,
    budgets_add_up,
    generators_fit_their_stage,
    caches_are_of_use,
    slates_made_ahead_are_used,
)
