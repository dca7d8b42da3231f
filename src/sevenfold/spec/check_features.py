"""Rules about features: windows with units, sources that exist, nothing that peeks."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from sevenfold.errors import Problem, TimeError
from sevenfold.spec.aggregate import Aggregate, FeatureView, Source
from sevenfold.spec.declaration import Declaration, duration_problem, unknown
from sevenfold.spec.field import Category, Integer, Number
from sevenfold.spec.on_demand import OnDemand
from sevenfold.spec.stream import Stream
from sevenfold.spec.units import default_hop_us, parse_duration

__all__ = ["FEATURE_RULES"]

_NEEDS_SOURCE = ("sum", "mean", "min", "max", "last", "distinct", "attribute")
_COMPUTED_WITH = ("sum", "mean", "min", "max", "decayed", "last", "attribute")


def views_read_declared_streams(system: Declaration) -> Iterator[Problem]:
    """A view reads a stream of the system, keyed by entities of it."""
    names = [stream.name for stream in system.data]
    for path, view in _views(system):
        if view.stream.name not in names:
            yield unknown(f"{path}.stream", "stream", view.stream.name, names)
        keys = [entity.name for entity in view.stream.keys]
        for j, entity in enumerate(view.entities):
            if entity.name not in keys:
                yield unknown(
                    f"{path}.entities[{j}]", f"key of {view.stream.name!r}", entity.name, keys
                )
        if not view.entities or not view.aggregates:
            yield Problem(
                path, "a view has at least one entity and one aggregate", "add what is missing"
            )


def view_names_differ(system: Declaration) -> Iterator[Problem]:
    """Views and functions have names of their own."""
    seen: set[str] = set()
    for i, feature in enumerate(system.features):
        if feature.name in seen:
            message = f"a second view or function is named {feature.name!r}"
            yield Problem(f"$.features[{i}].name", message, "give one of them another name")
        seen.add(feature.name)


def windows_have_units(system: Declaration) -> Iterator[Problem]:
    """C-00: windows, hops, half-lives and ttls are durations above zero, a hop no longer than its window."""
    for path, aggregate in _aggregates(system):
        for name in ("hop", "half_life"):
            given = getattr(aggregate, name)
            if given is not None and (problem := duration_problem(f"{path}.{name}", given)):
                yield problem
        if aggregate.kind == "decayed" and aggregate.half_life is None:
            yield Problem(
                f"{path}.half_life", "a decayed sum needs a half-life", "give half_life='14 d'"
            )
        for j, window in enumerate(aggregate.windows):
            problem = duration_problem(f"{path}.windows[{j}]", window)
            yield from [problem] if problem else _hop_problems(path, aggregate, window)
        if aggregate.kind == "distinct" and not 1 <= aggregate.cap <= 65536:
            message = f"the cap of a distinct count is 1 to 65536, {aggregate.cap} was given"
            yield Problem(f"{path}.cap", message, "give a cap such as 1024")


def sources_exist(system: Declaration) -> Iterator[Problem]:
    """An aggregate reads fields of its stream that it can compute with."""
    for i, view in enumerate(system.features):
        if not isinstance(view, FeatureView):
            continue
        for j, aggregate in enumerate(view.aggregates):
            path = f"$.features[{i}].aggregates[{j}].source"
            if aggregate.source is None:
                if aggregate.kind in _NEEDS_SOURCE:
                    yield Problem(
                        path, f"{aggregate.kind} needs a field", "name a field of the stream"
                    )
                continue
            yield from _source_problems(path, view.stream, aggregate.source, aggregate.kind)
        if view.where is not None:
            yield from _source_problems(f"$.features[{i}].where", view.stream, view.where, "sum")


def functions_have_inputs(system: Declaration) -> Iterator[Problem]:
    """A function reads no feature that is computed from itself."""
    functions = {f.name: f for f in system.features if isinstance(f, OnDemand)}
    for i, feature in enumerate(system.features):
        if isinstance(feature, OnDemand) and _reaches(feature.name, feature, functions, set()):
            message = f"{feature.name!r} is computed from itself"
            yield Problem(f"$.features[{i}]", message, "break the circle")


def nothing_peeks(system: Declaration) -> Iterator[Problem]:
    """C-08: no request-time function reads the outcome it is to predict."""
    label = system.task.label
    outcome = {label.name, "label", "outcome", *label.outcome.fields}
    queried = {entity.name for entity in system.task.query} | {system.task.item.name}
    for i, feature in enumerate(system.features):
        if not isinstance(feature, OnDemand):
            continue
        for name in feature.inputs:
            if name in outcome - queried:
                yield Problem(
                    f"$.features[{i}].inputs.{name}",
                    f"{feature.name!r} reads {name!r}, which is known only after the request",
                    "aggregate the past of the stream instead: a view sees only events known before",
                    "C-08",
                )


def _views(system: Declaration) -> Iterator[tuple[str, FeatureView]]:
    for i, view in enumerate(system.features):
        if isinstance(view, FeatureView):
            yield f"$.features[{i}]", view


def _aggregates(system: Declaration) -> Iterator[tuple[str, Aggregate]]:
    for path, view in _views(system):
        for j, aggregate in enumerate(view.aggregates):
            yield f"{path}.aggregates[{j}]", aggregate


def _hop_problems(path: str, aggregate: Aggregate, window: str) -> Iterator[Problem]:
    try:
        window_us = parse_duration(window)
        hop_us = parse_duration(aggregate.hop) if aggregate.hop else default_hop_us(window_us)
    except TimeError:
        return
    if hop_us > window_us:
        message = f"the hop {aggregate.hop or '1 s'} is longer than the window {window}"
        yield Problem(f"{path}.hop", message, "give a hop that is at most the window")
    elif hop_us and window_us // hop_us > 100_000:
        message = f"a window of {window} with hop {aggregate.hop} keeps over 100,000 tiles a key"
        yield Problem(f"{path}.hop", message, "give a longer hop")


def _source_problems(path: str, stream: Stream, source: Source, kind: str) -> Iterator[Problem]:
    keys = [entity.name for entity in stream.keys]
    if isinstance(source, str):
        known = [*stream.fields, *(keys if kind in ("distinct", "count") else [])]
        if source not in known:
            yield unknown(path, f"field of {stream.name!r}", source, known)
        elif kind in _COMPUTED_WITH:
            yield from _number_problems(path, stream, source)
        return
    for name in inspect.signature(source).parameters:
        if name not in stream.fields:
            yield unknown(f"{path}.{name}", f"field of {stream.name!r}", name, list(stream.fields))
        else:
            yield from _number_problems(f"{path}.{name}", stream, name)


def _number_problems(path: str, stream: Stream, name: str) -> Iterator[Problem]:
    if not isinstance(stream.fields[name], Number | Integer | Category):
        kind = type(stream.fields[name]).__name__
        message = f"field {name!r} is a {kind}, which cannot be computed with"
        yield Problem(
            path, message, "count it or count its distinct values, or declare it a number"
        )


def _reaches(goal: str, feature: OnDemand, functions: dict[str, OnDemand], seen: set[str]) -> bool:
    for name in feature.inputs:
        if name == goal:
            return True
        if name in functions and name not in seen:
            seen.add(name)
            if _reaches(goal, functions[name], functions, seen):
                return True
    return False


FEATURE_RULES = (
    views_read_declared_streams,
    view_names_differ,
    windows_have_units,
    sources_exist,
    functions_have_inputs,
    nothing_peeks,
)
