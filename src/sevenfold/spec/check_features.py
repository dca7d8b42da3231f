"""Rules about features: sources that exist, windows that can be kept, nothing that peeks."""

from __future__ import annotations

import math
from collections.abc import Iterator

from sevenfold.errors import Problem
from sevenfold.spec.aggregate import Aggregate, FeatureView, Source
from sevenfold.spec.declaration import Declaration, duration_us, functions, twice, unknown, views
from sevenfold.spec.field import Category, Flag, Integer, Number, Vector
from sevenfold.spec.naming import feature_names, state_name
from sevenfold.spec.on_demand import OnDemand, parameters
from sevenfold.spec.stream import Stream
from sevenfold.spec.through import Through
from sevenfold.spec.units import default_hop_us

__all__ = ["FEATURE_RULES", "declared_features", "source_problems"]

_NEEDS_NO_SOURCE = ("count", "decayed", "since_last")
_COUNTS = ("count", "distinct")
_BOUNDS = {
    "distinct": (("cap", 1, 65536), ("error", 0.005, 0.26)),
    "quantile": (("error", 0.001, 0.25),),
    "top_k": (("k", 1, 64), ("tracked", 1, 1024)),
}
_MOST_TILES = 100_000
_MOST_ENTRIES = 4_000_000


def declared_features(system: Declaration) -> list[str]:
    """The names of all features, in the order of declaration."""
    return [name for _, name in _named(system)]


def views_read_declared_streams(system: Declaration) -> Iterator[Problem]:
    """A view reads a stream of the system, keyed by entities of it that a request names."""
    streams = {stream.name: stream for stream in system.data}
    for path, view in views(system):
        if not view.entities or not view.aggregates:
            message = "a view has at least one entity and one aggregate"
            yield Problem(path, message, "add what is missing")
        if view.stream.name not in streams:
            yield unknown(f"{path}.stream", "stream", view.stream.name, list(streams))
        elif view.stream is not streams[view.stream.name]:
            message = f"this is another stream than the one in $.data named {view.stream.name!r}"
            yield Problem(f"{path}.stream", message, "declare it once and use that")
        keys = [entity.name for entity in view.stream.keys]
        names = [entity.name for entity in view.entities]
        yield from twice(((f"{path}.entities[{j}]", n) for j, n in enumerate(names)), "entity")
        for j, name in enumerate(names):
            if name not in keys:
                yield unknown(f"{path}.entities[{j}]", f"key of {view.stream.name!r}", name, keys)


def views_can_be_read(system: Declaration) -> Iterator[Problem]:
    """A request names every entity that a view is keyed by."""
    task = system.task
    asked = [task.item.name, *(entity.name for entity in task.query)]
    for path, name in _needed(system):
        if name not in asked:
            message = f"no request names {name!r}; it names {', '.join(asked)}"
            yield Problem(path, message, "add it to $.task.query, or reach it with sf.through()")


def feature_names_differ(system: Declaration) -> Iterator[Problem]:
    """Features, views and functions have names of their own."""
    places = [(f"$.features[{i}].name", f.name) for i, f in enumerate(system.features)]
    own = {id(feature) for feature in system.features}
    places += [(f"{path}.name", view.name) for path, view in views(system) if id(view) not in own]
    yield from twice(places, "view or function")
    yield from twice(_named(system), "feature")


def windows_can_be_kept(system: Declaration) -> Iterator[Problem]:
    """A hop is no longer than its window, a window no more than 100,000 hops; a decay has a half-life."""
    for path, _, aggregate in _aggregates(system):
        if aggregate.kind == "decayed" and aggregate.half_life is None:
            message = "a decayed sum needs a half-life"
            yield Problem(f"{path}.half_life", message, "give half_life='14 d'")
        if aggregate.kind != "attribute":
            for j, window in enumerate(aggregate.windows):
                yield from _hop_problems(path, f"{path}.windows[{j}]", aggregate, window)


def sketches_have_bounds(system: Declaration) -> Iterator[Problem]:
    """A distinct count, a quantile and the most frequent values have an error and a size that can be kept."""
    for path, _, aggregate in _aggregates(system):
        for name, low, high in _BOUNDS.get(aggregate.kind, ()):
            given = getattr(aggregate, name)
            if not low <= given <= high:
                message = f"the {name} of a {aggregate.kind} is {low} to {high}, {given} was given"
                yield Problem(f"{path}.{name}", message, f"give one from {low} to {high}")
        if aggregate.kind == "quantile" and aggregate.smallest >= aggregate.largest:
            message = f"no magnitude is from {aggregate.smallest} to {aggregate.largest}"
            yield Problem(f"{path}.smallest", message, "let smallest be less than largest")
        if aggregate.kind == "top_k" and aggregate.k > aggregate.tracked:
            message = f"the {aggregate.k} most frequent of {aggregate.tracked} values are asked for"
            yield Problem(f"{path}.tracked", message, f"track {aggregate.k} values or more")
        else:
            yield from _room_problems(path, aggregate)


def windows_outlast_the_delay(system: Declaration) -> Iterator[Problem]:
    """C-07: a window is longer than its events take to become known, or it is always empty."""
    for path, view, aggregate in _aggregates(system):
        delay_us = duration_us(view.stream.delay)
        for j, window in enumerate(aggregate.windows):
            window_us = duration_us(window)
            if delay_us and window_us is not None and window_us <= delay_us:
                yield Problem(
                    f"{path}.windows[{j}]",
                    f"events are known after {view.stream.delay}, so nothing of the last {window} is",
                    "give a window longer than the stream's delay",
                    "C-07",
                )


def sources_exist(system: Declaration) -> Iterator[Problem]:
    """An aggregate reads fields of its stream that it can compute with."""
    for path, view, aggregate in _aggregates(system):
        if aggregate.source is not None:
            yield from source_problems(
                f"{path}.source", view.stream, aggregate.source, aggregate.kind
            )
        elif aggregate.kind not in _NEEDS_NO_SOURCE:
            message = f"{aggregate.kind} needs a field"
            yield Problem(f"{path}.source", message, "name a field of the stream")
    for path, view in views(system):
        if view.where is not None:
            yield from source_problems(f"{path}.where", view.stream, view.where, "sum")


def functions_have_inputs(system: Declaration) -> Iterator[Problem]:
    """A function reads features, generators' scores and the time of the request, never itself."""
    features = declared_features(system)
    known = [*features, *_candidate_fields(system), "request_time"]
    states = {state_name(name) for name in features if name not in _functions(system)}
    peeked = _outcome_fields(system)
    by_name = _functions(system)
    for path, function in functions(system):
        for name in function.inputs:
            if name not in known and name not in peeked and name not in states:
                yield unknown(f"{path}.inputs.{name}", "feature", name, known)
        if _reaches(function.name, function, by_name, set()):
            message = f"{function.name!r} is computed from itself"
            yield Problem(path, message, "break the circle")


def nothing_peeks(system: Declaration) -> Iterator[Problem]:
    """C-08: no request-time function reads the outcome it is to predict."""
    peeked = _outcome_fields(system) - set(declared_features(system))
    for path, function in functions(system):
        for name in function.inputs:
            if name in peeked:
                yield Problem(
                    f"{path}.inputs.{name}",
                    f"{function.name!r} reads {name!r}, which is known only after the request",
                    "aggregate the past of the stream instead: a view sees only events known before",
                    "C-08",
                )


def _outcome_fields(system: Declaration) -> set[str]:
    label = system.task.label
    return {label.name, "label", "outcome", label.outcome.time, *label.outcome.logged}


def _functions(system: Declaration) -> dict[str, OnDemand]:
    return {function.name: function for _, function in functions(system)}


def _needed(system: Declaration) -> Iterator[tuple[str, str]]:
    """Every entity whose key a feature needs, with the place that says so; not those reached by links."""
    for i, feature in enumerate(system.features):
        if isinstance(feature, FeatureView):
            entities = enumerate(feature.entities)
            yield from ((f"$.features[{i}].entities[{j}]", e.name) for j, e in entities)
        elif isinstance(feature, Through):
            yield from ((f"$.features[{i}]", name) for name in feature.needs)


def _candidate_fields(system: Declaration) -> list[str]:
    kinds = ("score", "share")
    return [f"{r.name}_{kind}" for r in system.serving.retrieve for kind in kinds]


def _named(system: Declaration) -> Iterator[tuple[str, str]]:
    for i, feature in enumerate(system.features):
        if isinstance(feature, FeatureView | Through):
            yield from ((f"$.features[{i}]", name) for name in feature_names(feature))
        else:
            yield f"$.features[{i}]", feature.name


def _aggregates(system: Declaration) -> Iterator[tuple[str, FeatureView, Aggregate]]:
    for path, view in views(system):
        for j, aggregate in enumerate(view.aggregates):
            yield f"{path}.aggregates[{j}]", view, aggregate


def _room_problems(path: str, aggregate: Aggregate) -> Iterator[Problem]:
    """A state is worked on with room for every tile of every bucket or value."""
    items = aggregate.tracked if aggregate.kind == "top_k" else 0
    if aggregate.kind == "quantile" and 0 < aggregate.error < 1:
        growth = (1 + aggregate.error) / (1 - aggregate.error)
        items = 2 * math.ceil(math.log(aggregate.largest / aggregate.smallest, growth)) + 3
    for j, window in enumerate(aggregate.windows):
        window_us = duration_us(window)
        is_given = aggregate.hop is not None
        hop_us = duration_us(aggregate.hop) if is_given else default_hop_us(window_us or 1)
        if items and window_us and hop_us and window_us // hop_us * items > _MOST_ENTRIES:
            message = f"{window_us // hop_us:,} tiles of {items:,} counts each are more than {_MOST_ENTRIES:,}"
            yield Problem(f"{path}.windows[{j}]", message, "give a longer hop, or a larger error")


def _hop_problems(path: str, place: str, aggregate: Aggregate, window: str) -> Iterator[Problem]:
    window_us = duration_us(window)
    if not window_us:
        return
    hop_us = default_hop_us(window_us) if aggregate.hop is None else duration_us(aggregate.hop)
    if not hop_us:
        return
    if hop_us > window_us:
        where, hop = (place, "1 s") if aggregate.hop is None else (f"{path}.hop", aggregate.hop)
        message = f"the hop {hop} is longer than the window {window}"
        yield Problem(where, message, "give a hop that is at most the window")
    elif window_us // hop_us > _MOST_TILES:
        message = f"a window of {window} keeps {window_us // hop_us:,} tiles a key"
        yield Problem(place, message, f"give a longer hop: at most {_MOST_TILES:,} tiles are kept")


def source_problems(path: str, stream: Stream, source: Source, kind: str) -> Iterator[Problem]:
    """What is wrong with what an aggregate of `kind` reads of a stream's events."""
    keys = [entity.name for entity in stream.keys] if kind in _COUNTS else []
    if isinstance(source, str):
        known = [*stream.logged, *keys]
        if source not in known:
            yield unknown(path, f"field of {stream.name!r}", source, known)
        elif isinstance(stream.fields.get(source), Vector):
            if kind not in ("attribute", "count"):
                message = f"field {source!r} is a Vector, of which there is no {kind}"
                yield Problem(path, message, "read it with sf.attribute(...), or count it")
        elif kind not in _COUNTS:
            yield from _number_problems(path, stream, source)
        return
    names = parameters(source)
    if not names:
        message = "a row-level function has plain parameters, the fields it reads"
        yield Problem(path, message, "write def name(field, ...)")
    for name in names or ():
        if name not in stream.logged:
            yield unknown(f"{path}.{name}", f"field of {stream.name!r}", name, list(stream.logged))
        else:
            yield from _number_problems(f"{path}.{name}", stream, name)


def _number_problems(path: str, stream: Stream, name: str) -> Iterator[Problem]:
    if not isinstance(stream.logged[name], Number | Integer | Category | Flag):
        kind = type(stream.logged[name]).__name__
        message = f"field {name!r} is a {kind}, which cannot be computed with"
        remedy = "count it or count its distinct values, or declare it a number"
        yield Problem(path, message, remedy)


def _reaches(goal: str, feature: OnDemand, known: dict[str, OnDemand], seen: set[str]) -> bool:
    for name in feature.inputs:
        if name == goal:
            return True
        if name in known and name not in seen:
            seen.add(name)
            if _reaches(goal, known[name], known, seen):
                return True
    return False


FEATURE_RULES = (
    views_read_declared_streams,
    views_can_be_read,
    feature_names_differ,
    windows_can_be_kept,
    sketches_have_bounds,
    windows_outlast_the_delay,
    sources_exist,
    functions_have_inputs,
    nothing_peeks,
)
