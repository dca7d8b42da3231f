"""What is to be computed: every view's state layout, outputs and identity, and the request-time functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sevenfold.algebra.layout import ATTRIBUTE, COUNT_ALL, DISTINCT, KINDS, Layout, Read, lay_out
from sevenfold.errors import NotFoundError, Problem, SpecError
from sevenfold.features.definition import definition_hash, function_identity, source_identity
from sevenfold.spec.aggregate import Aggregate, FeatureView, RowFunction, Source
from sevenfold.spec.field import Category
from sevenfold.spec.naming import feature_names
from sevenfold.spec.on_demand import OnDemand, parameters
from sevenfold.spec.table import Table
from sevenfold.spec.units import default_hop_us, parse_duration

__all__ = ["Plan", "ViewPlan", "compile_plan"]


@dataclass(frozen=True, slots=True, eq=False)
class ViewPlan:
    """One view, ready for the kernels.

    `numbers` and `marks` are the sources of its columns; `names` its features, one for each read of
    `layout`; `delete` says which rows of its
    table are deletes; `view_id` the 8 bytes before its keys in a store, different for every name and definition.
    """

    name: str
    entities: tuple[str, ...]
    stream: str
    where: RowFunction | None
    numbers: tuple[Source, ...]
    marks: tuple[Source, ...]
    layout: Layout
    names: tuple[str, ...]
    delete: Source | None
    hashes: tuple[str, ...]
    view_id: bytes

    @property
    def has_rows(self) -> bool:
        """Whether it keeps the newest row of a table: attributes."""
        return bool((self.layout.tables.reads[:, 0] == ATTRIBUTE).any())


@dataclass(frozen=True, eq=False)
class Plan:
    """All views and request-time functions of a system."""

    views: tuple[ViewPlan, ...]
    on_demand: tuple[OnDemand, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Every feature there is."""
        stored = [name for view in self.views for name in view.names]
        return (*stored, *(feature.name for feature in self.on_demand))

    @cached_property
    def entities(self) -> tuple[str, ...]:
        """Every entity that some view is keyed by."""
        return tuple(dict.fromkeys(e for view in self.views for e in view.entities))

    @cached_property
    def streams(self) -> tuple[str, ...]:
        """Every stream that some view reads."""
        return tuple(dict.fromkeys(view.stream for view in self.views))

    @cached_property
    def on_demand_by_name(self) -> dict[str, OnDemand]:
        """The request-time functions by name."""
        return {feature.name: feature for feature in self.on_demand}

    @cached_property
    def view_by_feature(self) -> dict[str, ViewPlan]:
        """The view that computes each stored feature."""
        return {name: view for view in self.views for name in view.names}

    def require(self, names: Iterable[str]) -> None:
        """Raise NotFoundError unless all of `names` are features."""
        known = set(self.names)
        missing = [name for name in names if name not in known]
        if missing:
            raise NotFoundError(
                f"no feature named {', '.join(map(repr, missing))}; there are {', '.join(sorted(known))}"
            )

    def inputs(self, names: Iterable[str]) -> tuple[str, ...]:
        """`names` and everything they are computed from, each after its inputs."""
        ordered: dict[str, None] = {}

        def visit(name: str) -> None:
            if name in ordered:
                return
            feature = self.on_demand_by_name.get(name)
            for needed in feature.inputs if feature else ():
                visit(needed)
            ordered[name] = None

        for name in names:
            visit(name)
        return tuple(ordered)

    def views_for(self, names: Iterable[str]) -> tuple[ViewPlan, ...]:
        """The views that must be read for `names`."""
        needed = {
            id(self.view_by_feature[n]) for n in self.inputs(names) if n in self.view_by_feature
        }
        return tuple(view for view in self.views if id(view) in needed)

    def definition_hashes(self, names: Iterable[str]) -> dict[str, str]:
        """The stable hash of each feature's definition, its inputs' included."""
        hashes: dict[str, str] = {}
        for name in self.inputs(names):
            view = self.view_by_feature.get(name)
            if view is not None:
                hashes[name] = view.hashes[view.names.index(name)]
            elif name in self.on_demand_by_name:
                feature = self.on_demand_by_name[name]
                below = [hashes.get(i, i) for i in feature.inputs]
                hashes[name] = definition_hash([function_identity(feature.function), below])
            else:
                hashes[name] = definition_hash(["request", name])
        return {name: hashes[name] for name in names}


def compile_plan(features: Sequence[FeatureView | OnDemand]) -> Plan:
    """The plan of the declared features; raises SpecError with every problem at once."""
    views = tuple(_compile_view(f) for f in features if isinstance(f, FeatureView))
    plan = Plan(views, tuple(f for f in features if isinstance(f, OnDemand)))
    problems = [
        *_twice("views", [v.name for v in views]),
        *_twice("features", plan.names),
        *_circles(plan.on_demand),
    ]
    if problems:
        raise SpecError(problems)
    return plan


def _twice(what: str, names: Sequence[str]) -> list[Problem]:
    remedy = "give one of the views or aggregates another name"
    return [
        Problem("$.features", f"two {what} are named {name!r}", remedy)
        for name, times in Counter(names).items()
        if times > 1
    ]


def _circles(on_demand: Sequence[OnDemand]) -> list[Problem]:
    """One problem for all functions that wait for one another, or for such a one."""
    waiting = {feature.name: feature for feature in on_demand}
    ready = [""]
    while ready:
        ready = [name for name, f in waiting.items() if not waiting.keys() & set(f.inputs)]
        for name in ready:
            del waiting[name]
    if not waiting:
        return []
    names = ", ".join(sorted(waiting))
    return [Problem("$.features", f"{names} need one another in a circle", "break the circle")]


def _compile_view(view: FeatureView) -> ViewPlan:
    numbers: list[Source] = []
    marks: list[Source] = []
    reads, hashes = [], []
    entities = tuple(entity.name for entity in view.entities)
    delete = _delete(view)
    rows = [_identity(view, view.where), *([] if delete is None else [_identity(view, delete)])]
    for aggregate in view.aggregates:
        for window in aggregate.windows or (None,):
            read = _read(aggregate, window, numbers, marks)
            reads.append(read)
            meaning = [
                read.kind,
                read.window_us,
                read.hop_us,
                read.half_life_us,
                read.cap,
                read.nulls,
            ]
            hashes.append(
                definition_hash(
                    [entities, view.stream.name, *rows, _identity(view, aggregate.source), meaning]
                )
            )
    return ViewPlan(
        view.name,
        entities,
        view.stream.name,
        view.where,
        tuple(numbers),
        tuple(marks),
        lay_out(reads),
        feature_names(view),
        delete,
        tuple(hashes),
        # With its name: two views of one definition keep two states, or each event would count twice.
        bytes.fromhex(definition_hash([view.name, hashes]))[:8],
    )


def _delete(view: FeatureView) -> Source | None:
    """Which rows are deletes to the attributes of a view; to other aggregates a delete is a row."""
    of_rows = any(aggregate.kind == "attribute" for aggregate in view.aggregates)
    return view.stream.delete if of_rows and isinstance(view.stream, Table) else None


def _identity(view: FeatureView, source: Source | None) -> Any:
    """What a source computes, with the values behind the numbers of every category that it reads."""
    if source is None:
        return None
    names = (source,) if isinstance(source, str) else parameters(source) or ()
    fields = {name: view.stream.fields.get(name) for name in names}
    categories = {
        n: [list(f.values), f.other] for n, f in fields.items() if isinstance(f, Category)
    }
    return [source_identity(source), categories]


def _read(
    aggregate: Aggregate, window: str | None, numbers: list[Source], marks: list[Source]
) -> Read:
    kind = KINDS[aggregate.kind]
    columns = marks if kind == DISTINCT else numbers
    if kind == KINDS["count"] and aggregate.source is None:
        kind = COUNT_ALL
    column = -1
    if aggregate.source is not None:
        if aggregate.source not in columns:
            columns.append(aggregate.source)
        column = columns.index(aggregate.source)
    window_us = parse_duration(window) if window else 0
    hop_us = 0
    if window_us and aggregate.kind != "attribute":
        hop_us = parse_duration(aggregate.hop) if aggregate.hop else default_hop_us(window_us)
    return Read(
        kind,
        column,
        window_us,
        hop_us,
        parse_duration(aggregate.half_life) if aggregate.half_life else 0,
        aggregate.cap,
        aggregate.nulls or aggregate.kind == "attribute",
    )
