"""Rules about streams: names, keys, ids, bounds, and what may be kept and read."""

from __future__ import annotations

from collections.abc import Iterator

from sevenfold.errors import Problem
from sevenfold.spec.aggregate import Aggregate
from sevenfold.spec.declaration import (
    Declaration,
    duration_us,
    functions,
    links,
    twice,
    unknown,
    views,
)
from sevenfold.spec.field import CONTENT, Category, Integer, Number
from sevenfold.spec.lineage import trace
from sevenfold.spec.model import Rule
from sevenfold.spec.on_demand import parameters
from sevenfold.spec.stream import Stream
from sevenfold.spec.units import default_hop_us, duration_text

__all__ = ["DATA_RULES"]


def stream_names_differ(system: Declaration) -> Iterator[Problem]:
    """Two streams may not share a name."""
    if not system.data:
        yield Problem("$.data", "no stream is declared", "add sf.Stream(...)")
    names = ((f"$.data[{i}].name", stream.name) for i, stream in enumerate(system.data))
    yield from twice(names, "stream")


def stream_has_keys(system: Declaration) -> Iterator[Problem]:
    """A stream touches an entity; optional keys and key fields are of its keys."""
    for i, stream in enumerate(system.data):
        path = f"$.data[{i}]"
        names = [entity.name for entity in stream.keys]
        if not names:
            yield Problem(f"{path}.keys", "a stream touches at least one entity", "add its entity")
        yield from twice(((f"{path}.keys[{j}]", n) for j, n in enumerate(names)), "key")
        for j, entity in enumerate(stream.optional_keys):
            if entity.name not in names:
                where = f"{path}.optional_keys[{j}]"
                yield unknown(where, f"key of {stream.name!r}", entity.name, names)
        for name in stream.key_fields:
            if name not in names:
                yield unknown(f"{path}.key_fields.{name}", f"key of {stream.name!r}", name, names)


def stream_id_is_declared(system: Declaration) -> Iterator[Problem]:
    """An id names a field of its own, or the content; time and id are named."""
    for i, stream in enumerate(system.data):
        if not stream.time:
            yield Problem(f"$.data[{i}].time", "'' names no field", "name the field with the time")
        if not stream.id or (stream.id != CONTENT and stream.id == stream.time):
            yield Problem(
                f"$.data[{i}].id",
                f"{stream.id!r} does not name an event",
                "name the field with the event's id, or sf.CONTENT",
            )


def field_bounds_leave_room(system: Declaration) -> Iterator[Problem]:
    """A number's low bound is not above its high one; a category has values, each once."""
    for i, stream in enumerate(system.data):
        for name, field in stream.fields.items():
            path = f"$.data[{i}].fields.{name}"
            if isinstance(field, Number | Integer):
                if field.low is not None and field.high is not None and field.low > field.high:
                    message = f"nothing is from {field.low} to {field.high}"
                    yield Problem(f"{path}.low", message, "let low be at most high")
            elif isinstance(field, Category):
                if not field.values:
                    yield Problem(f"{path}.values", "a category has a value", "list its values")
                values = ((f"{path}.values[{j}]", v) for j, v in enumerate(field.values))
                yield from twice(values, "value")


def privacy_names_fields(system: Declaration) -> Iterator[Problem]:
    """C-20: personal and forbidden fields are fields of the data."""
    privacy = system.requirements.privacy
    known = sorted({name for stream in system.data for name in _names(stream)})
    for kind, names in (("personal", privacy.personal), ("forbidden", privacy.forbidden)):
        for j, name in enumerate(names):
            if name not in known:
                yield unknown(f"$.requirements.privacy.{kind}[{j}]", "field", name, known, "C-20")


def forbidden_fields_are_not_read(system: Declaration) -> Iterator[Problem]:
    """C-20: no feature reads a forbidden field, nor is keyed by one; of a personal one it is said."""
    privacy = system.requirements.privacy
    for path, name in _reads(system):
        if name in privacy.forbidden:
            message = f"{name!r} is forbidden, and a feature reads it"
            yield Problem(path, message, "take the feature out", "C-20")
        elif name in privacy.personal and not path.endswith("]"):
            message = f"{name!r} is personal, and a feature is computed from it"
            yield Problem(path, message, "make sure that there is a ground for it", "C-20", "info")


def models_read_no_personal_data_that_they_forbid(system: Declaration) -> Iterator[Problem]:
    """C-20: no feature of a model is computed from a field of a class of personal data that it forbids."""
    if not any(not isinstance(model, Rule) and model.forbid_pii for model in system.models):
        return
    lineage = trace(system)
    for i, model in enumerate(system.models):
        forbidden = () if isinstance(model, Rule) else model.forbid_pii
        for j, name in enumerate(model.features):
            node = lineage.nodes.get(f"feature:{name}")
            if node is None:
                continue
            for kind in sorted(set(node.pii).intersection(forbidden)):
                above = [n for n in lineage.upstream(node) if kind in n.pii]
                used = [n.name for n in above if n.kind == "field"]
                used = used or [f"the key of {n.name}" for n in above if n.kind == "entity"]
                message = (
                    f"{name!r} is computed from {', '.join(used)}, personal data of class {kind!r}, "
                    f"which {model.name!r} forbids"
                )
                remedy = "take the feature out, or do not forbid the class"
                yield Problem(f"$.models[{i}].features[{j}]", message, remedy, "C-20")


def retention_covers_what_is_read(system: Declaration) -> Iterator[Problem]:
    """C-20: data have a retention, and no window or split reaches beyond it."""
    retention = system.requirements.privacy.retention
    path = "$.requirements.privacy.retention"
    if retention is None:
        message, remedy = "nothing says how long events are kept", "give one such as '730 d'"
        yield Problem(path, message, remedy, "C-20", "warning")
        return
    kept_us = duration_us(retention)
    for reader, text in _reaches(system):
        reach_us = duration_us(text)
        if kept_us is not None and reach_us is not None and reach_us > kept_us:
            message = f"{reader} reaches {text} back, events are kept for {retention}"
            yield Problem(path, message, f"keep them for {text}, or reach less far", "C-20")


def retention_of_streams_holds_what_is_read(system: Declaration) -> Iterator[Problem]:
    """C-20: no feature of a stream with a retention remembers more than the log keeps.

    Else a replay of the log would give another value than the state, which saw the events that left.
    """
    for path, view in views(system):
        retention = view.stream.retention
        kept_us = duration_us(retention)
        for j, aggregate in enumerate(view.aggregates if kept_us is not None else ()):
            reach_us = _memory_us(aggregate)
            where = f"{path}.aggregates[{j}].windows"
            if reach_us is None:
                message = (
                    f"it remembers for ever, and {view.stream.name!r} keeps events for {retention}"
                )
                remedy = "give it a window (an attribute: a ttl) that ends before that"
                yield Problem(where, message, remedy, "C-20")
            elif reach_us > (kept_us or 0):
                longest = duration_text(reach_us)
                message = f"it reaches {longest} back with its hop, events are kept for {retention}"
                yield Problem(where, message, f"keep them for {longest}, or reach less far", "C-20")
    for path, link in links(system):
        kept_us, ttl_us = duration_us(link.table.retention), duration_us(link.ttl)
        if kept_us is not None and (ttl_us is None or ttl_us > kept_us):
            message = (
                f"{link.table.name!r} keeps rows for {link.table.retention}, the link leads on"
            )
            yield Problem(f"{path}.ttl", message, f"give ttl={link.table.retention!r}", "C-20")


def retention_of_answers_lets_them_be_learned_from(system: Declaration) -> Iterator[Problem]:
    """C-20: answers, and the outcomes of them, are kept until they are mature and for the splits."""
    split, label = system.evaluation.split, system.task.label
    spans = [duration_us(text) for text in (split.train, split.gap, split.valid, label.within)]
    if any(span is None for span in spans):
        return
    need_us = sum(span for span in spans if span is not None)
    log = system.serving.log
    for path, retention in (
        ("$.serving.log.retention", log.retention if log else None),
        ("$.task.label.outcome.retention", label.outcome.retention),
    ):
        kept_us = duration_us(retention)
        if kept_us is not None and kept_us < need_us:
            need = duration_text(need_us)
            message = f"{retention} is less than train, gap, valid and the label's window, {need}"
            yield Problem(path, message, f"keep them for {need}, or split shorter", "C-20")


def _memory_us(aggregate: Aggregate) -> int | None:
    """How far back an aggregate's values reach, the hop included; None for ever."""
    if not aggregate.windows:
        return None
    reaches = []
    for window in aggregate.windows:
        window_us = duration_us(window) or 0
        hop_us = 0
        if aggregate.kind not in ("attribute", "age"):
            hop_us = duration_us(aggregate.hop) or default_hop_us(window_us)
        reaches.append(window_us + hop_us)
    return max(reaches)


def _names(stream: Stream) -> list[str]:
    return [*stream.logged, *(stream.key_field(entity) for entity in stream.keys)]


def _reads(system: Declaration) -> Iterator[tuple[str, str]]:
    """Every field that a feature reads, and every entity that it is keyed by, with the place."""
    for path, view in views(system):
        for j, entity in enumerate(view.entities):
            yield f"{path}.entities[{j}]", view.stream.key_field(entity)
        sources = [
            (f"{path}.aggregates[{j}].source", a.source) for j, a in enumerate(view.aggregates)
        ]
        for where, source in [*sources, (f"{path}.where", view.where)]:
            if isinstance(source, str):
                yield where, source
            elif source is not None:
                yield from ((where, name) for name in parameters(source) or ())
    for path, function in functions(system):
        yield from ((f"{path}.inputs", name) for name in function.inputs)


def _reaches(system: Declaration) -> Iterator[tuple[str, str]]:
    for path, view in views(system):
        for j, aggregate in enumerate(view.aggregates):
            for i, window in enumerate(aggregate.windows):
                yield f"{path}.aggregates[{j}].windows[{i}]", window
    yield "$.evaluation.split.train", system.evaluation.split.train


DATA_RULES = (
    stream_names_differ,
    stream_has_keys,
    stream_id_is_declared,
    field_bounds_leave_room,
    privacy_names_fields,
    forbidden_fields_are_not_read,
    models_read_no_personal_data_that_they_forbid,
    retention_covers_what_is_read,
    retention_of_streams_holds_what_is_read,
    retention_of_answers_lets_them_be_learned_from,
)
