"""Rules about streams: names, keys, times, and what may be kept and read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sevenfold.errors import Problem
from sevenfold.spec.declaration import Declaration, duration_problem, unknown
from sevenfold.spec.field import CONTENT, Category, Id, Integer, Number, Text
from sevenfold.spec.stream import Stream

__all__ = ["DATA_RULES"]


def stream_names_differ(system: Declaration) -> Iterator[Problem]:
    """Two streams may not share a name."""
    seen: set[str] = set()
    for i, stream in enumerate(system.data):
        if stream.name in seen:
            message = f"a second stream is named {stream.name!r}"
            yield Problem(f"$.data[{i}].name", message, "give one of them another name")
        seen.add(stream.name)


def stream_fields_are_kinds(system: Declaration) -> Iterator[Problem]:
    """Every field is one of the declared kinds."""
    for i, stream in enumerate(system.data):
        kinds: Mapping[str, object] = stream.fields
        for name, kind in kinds.items():
            if not isinstance(kind, Number | Integer | Category | Id | Text):
                given = type(kind).__name__
                yield Problem(
                    f"$.data[{i}].fields.{name}",
                    f"a field is a Number, Integer, Category, Id or Text; a {given} was given",
                    "give sf.Number(), sf.Integer(), sf.Category([...]), sf.Id() or sf.Text()",
                )


def stream_times_have_units(system: Declaration) -> Iterator[Problem]:
    """C-00: delay, horizon and skew are durations."""
    for i, stream in enumerate(system.data):
        for name in ("delay", "horizon", "skew"):
            zero = name != "horizon"
            problem = duration_problem(f"$.data[{i}].{name}", getattr(stream, name), zero)
            if problem:
                yield problem


def stream_has_keys(system: Declaration) -> Iterator[Problem]:
    """A stream touches an entity, and optional keys are among its keys."""
    for i, stream in enumerate(system.data):
        names = [entity.name for entity in stream.keys]
        if not names:
            yield Problem(
                f"$.data[{i}].keys", "a stream touches at least one entity", "add its entity"
            )
        for j, entity in enumerate(stream.optional_keys):
            if entity.name not in names:
                yield unknown(
                    f"$.data[{i}].optional_keys[{j}]", "key of the stream", entity.name, names
                )


def stream_id_is_declared(system: Declaration) -> Iterator[Problem]:
    """An id names a field of its own, or the content."""
    for i, stream in enumerate(system.data):
        if not stream.id or (stream.id != CONTENT and stream.id == stream.time):
            yield Problem(
                f"$.data[{i}].id",
                f"{stream.id!r} does not name an event",
                "name the field with the event's id, or sf.CONTENT",
            )


def sensitive_fields_are_not_read(system: Declaration) -> Iterator[Problem]:
    """C-20: no feature reads a forbidden field, and data have a retention."""
    privacy = system.requirements.privacy
    fields = [name for stream in system.data for name in _names(stream)]
    for j, name in enumerate((*privacy.personal, *privacy.forbidden)):
        if name not in fields:
            yield unknown(f"$.requirements.privacy[{j}]", "field", name, fields, "C-20")
    if privacy.retention is None:
        yield Problem(
            "$.requirements.privacy.retention",
            "nothing says how long events are kept",
            "give a retention such as '730 d'",
            "C-20",
            "warning",
        )
    elif problem := duration_problem("$.requirements.privacy.retention", privacy.retention):
        yield problem


def _names(stream: Stream) -> list[str]:
    return [*stream.fields, *(stream.key_field(entity) for entity in stream.keys)]


DATA_RULES = (
    stream_names_differ,
    stream_fields_are_kinds,
    stream_times_have_units,
    stream_has_keys,
    stream_id_is_declared,
    sensitive_fields_are_not_read,
)
