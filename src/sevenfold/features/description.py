"""What features are, in parts that can be kept, compared and shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

import msgspec

from sevenfold.features.definition import function_identity
from sevenfold.features.plan import Plan
from sevenfold.hashing import canonical_json, digest
from sevenfold.spec.aggregate import Aggregate, FeatureView, Source
from sevenfold.spec.field import Category
from sevenfold.spec.naming import endings, feature_names
from sevenfold.spec.on_demand import OnDemand, parameters
from sevenfold.spec.stream import Stream
from sevenfold.spec.table import Table
from sevenfold.spec.through import Through
from sevenfold.spec.units import duration_text, parse_duration

__all__ = ["Difference", "FeatureDescription", "compare_features", "describe_features"]

_LEFT_OUT = ("name", "source", "windows")  # its place in the view, or told apart below
_DURATIONS = ("half_life", "hop")


class FeatureDescription(msgspec.Struct, frozen=True):
    """One feature: the hash of its definition, its view and that view's id, and its parts as text.

    A request-time function has no view. Two descriptions with one hash compute the same.
    """

    hash: str
    view: str
    view_id: str
    parts: dict[str, str]


class Difference(msgspec.Struct, frozen=True):
    """What became of features: names, pairs of names, and for an altered one (part, before, after)."""

    added: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    altered: dict[str, tuple[tuple[str, str, str], ...]] = {}
    unchanged: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether both are the same."""
        return not (self.added or self.dropped or self.renamed or self.altered)


def describe_features(
    plan: Plan, declared: Sequence[FeatureView | Through | OnDemand]
) -> dict[str, FeatureDescription]:
    """Every feature of `plan`, which was made of `declared`, by name."""
    hashes = plan.definition_hashes(plan.names)
    ids = {view.name: view.view_id.hex() for view in plan.views}
    found = {}
    for feature in declared:
        if isinstance(feature, FeatureView | Through):
            for name, parts in zip(feature_names(feature), _stored_parts(feature), strict=True):
                view = plan.reading_by_feature[name].view.name
                found[name] = FeatureDescription(hashes[name], view, ids[view], parts)
        else:
            parts = {"function": _function(feature.function), "inputs": ", ".join(feature.inputs)}
            parts |= {f"input {name}": hashes[name] for name in feature.inputs if name in hashes}
            found[feature.name] = FeatureDescription(hashes[feature.name], "", "", parts)
    return found


def compare_features(
    before: Mapping[str, FeatureDescription], after: Mapping[str, FeatureDescription]
) -> Difference:
    """What became of the features of `before`.

    A feature that is gone while another of the same definition has come is renamed; of several, the first.
    """
    gone = [name for name in before if name not in after]
    come = [name for name in after if name not in before]
    renamed = []
    for name in list(gone):
        same = next((other for other in come if after[other].hash == before[name].hash), None)
        if same is not None:
            renamed.append((name, same))
            gone.remove(name)
            come.remove(same)
    both = [name for name in after if name in before]
    return Difference(
        tuple(come),
        tuple(gone),
        tuple(renamed),
        {
            name: _changed(before[name].parts, after[name].parts)
            for name in both
            if before[name].hash != after[name].hash
        },
        tuple(name for name in both if before[name].hash == after[name].hash),
    )


def _changed(
    before: Mapping[str, str], after: Mapping[str, str]
) -> tuple[tuple[str, str, str], ...]:
    names = list(dict.fromkeys([*before, *after]))
    different = tuple(
        (name, before.get(name, "-"), after.get(name, "-"))
        for name in names
        if before.get(name) != after.get(name)
    )
    # The hash sees more than is told apart here: another release may have put more into it.
    return different or (("definition", "another hash", "the same parts"),)


def _stored_parts(feature: FeatureView | Through, depth: int = 1) -> Iterator[dict[str, str]]:
    """The parts of each feature, with those of the links that lead to it."""
    if isinstance(feature, FeatureView):
        yield from _view_parts(feature)
        return
    way = f"{feature.table.name}.{feature.link} to {feature.reached}"
    parts = {f"link {depth}": way} | _deletes(feature.table)
    if feature.ttl is not None:
        parts[f"ttl of link {depth}"] = _duration(feature.ttl)
    yield from (parts | below for below in _stored_parts(feature.view, depth + 1))


def _deletes(table: Stream) -> dict[str, str]:
    """What says that a row of a table is a delete."""
    if not isinstance(table, Table) or table.delete is None:
        return {}
    return {f"deletes of {table.name}": _source(table.delete)}


def _view_parts(view: FeatureView) -> Iterator[dict[str, str]]:
    shared = {
        "entities": " x ".join(entity.name for entity in view.entities),
        "stream": view.stream.name,
    }
    if view.where is not None:
        shared["where"] = _function(view.where)
    if any(aggregate.kind in ("attribute", "age") for aggregate in view.aggregates):
        shared |= _deletes(view.stream)
    for aggregate in view.aggregates:
        parts = shared | {"kind": aggregate.kind} | _parameters(aggregate)
        if aggregate.source is not None:
            parts["source"] = _source(aggregate.source)
        parts |= _categories(view, (aggregate.source, view.where))
        for window in aggregate.windows or (None,):
            parts = parts | {"window": _duration(window) if window else "lifetime"}
            for ending in endings(aggregate):
                yield parts | ({"output": ending.removeprefix("_")} if ending else {})


def _categories(view: FeatureView, sources: Sequence[Source | None]) -> dict[str, str]:
    """The values behind the numbers of the categories that are read."""
    found = {}
    for source in sources:
        names = (source,) if isinstance(source, str) else parameters(source) if source else ()
        for name in names or ():
            field = view.stream.logged.get(name)
            if isinstance(field, Category):
                other = ", other" if field.other else ""
                found[f"values of {name}"] = f"{', '.join(map(str, field.values))}{other}"
    return found


def _parameters(aggregate: Aggregate) -> dict[str, str]:
    """The parameters that are not as they would be without being given, whatever kinds there are."""
    found = {}
    for parameter in fields(aggregate):
        value = getattr(aggregate, parameter.name)
        if parameter.name in (*_LEFT_OUT, "kind") or value == parameter.default:
            continue
        is_duration = parameter.name in _DURATIONS
        found[parameter.name] = _duration(value) if is_duration else str(value)
    return found


def _duration(text: str) -> str:
    return duration_text(parse_duration(text))


def _source(source: Source) -> str:
    return source if isinstance(source, str) else _function(source)


def _function(function: Callable[..., Any]) -> str:
    """A function as text that differs when what it computes does: its source, and a digest of all it takes in."""
    identity = function_identity(function)
    text = identity[0] if isinstance(identity[0], str) else str(identity)
    return f"{text}  [{digest(canonical_json(identity), 4)}]"
