"""What is to be computed: every view's state layout, outputs and identity, and the request-time functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from sevenfold.algebra.layout import ATTRIBUTE, COUNT_ALL, DISTINCT, KINDS, Layout, Read, lay_out
from sevenfold.algebra.reads import QUANTILE, TOP_K, VECTOR
from sevenfold.algebra.sections import precision_of
from sevenfold.algebra.tiles import STATE_FORMAT
from sevenfold.errors import NotFoundError, Problem, SpecError
from sevenfold.features.definition import definition_hash, function_identity, source_identity
from sevenfold.spec.aggregate import Aggregate, FeatureView, RowFunction, Source
from sevenfold.spec.field import Category, Integer, Vector
from sevenfold.spec.naming import feature_names, state_name
from sevenfold.spec.on_demand import OnDemand, parameters
from sevenfold.spec.stream import Stream
from sevenfold.spec.table import Table
from sevenfold.spec.through import Through
from sevenfold.spec.units import default_hop_us, parse_duration

__all__ = ["KeyPart", "Plan", "Reading", "ViewPlan", "compile_plan", "row_views"]

_OF_ROWS = ("attribute", "age")


@dataclass(frozen=True, slots=True)
class KeyPart:
    """One of the three whole numbers that hold the 128-bit hash of a key-valued field, null as NaN.

    A link needs no more of a text than what its key is found by. The numbers have at most 43 bits, which a
    float64 holds exactly, so the state of a link is that of three attributes.
    """

    field: str
    part: int


@dataclass(frozen=True, slots=True, eq=False)
class ViewPlan:
    """One view, ready for the kernels.

    `numbers` and `marks` are the sources of its columns; `names` its features, one for each read of
    `layout`, or none when it holds the keys of a link; with `has_rows` it keeps the newest row of a table,
    whose deletes `delete` tells; with `kept` it keeps those fields of it as they are; `whole` are the places
    of sums of whole numbers; `vectors` the fields whose numbers, each as many as it says, are the columns
    after `numbers`; `view_id` is the 8 bytes before its keys in a store, different for every name and
    definition.
    """

    name: str
    entities: tuple[str, ...]
    stream: str
    where: RowFunction | None
    numbers: tuple[Source | KeyPart, ...]
    marks: tuple[Source, ...]
    layout: Layout
    names: tuple[str, ...]
    has_rows: bool
    delete: Source | None
    hashes: tuple[str, ...]
    view_id: bytes
    kept: tuple[str, ...] = ()
    whole: tuple[int, ...] = ()
    vectors: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """One view under the keys that are given, or under keys that are reached through links.

    `names` are its features with their `hashes`; `links` maps an entity of the view to the reading that
    holds its key; `entities` are those whose keys have to be given.
    """

    name: str
    view: ViewPlan
    names: tuple[str, ...]
    hashes: tuple[str, ...]
    entities: tuple[str, ...]
    links: Mapping[str, Reading] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Plan:
    """All views and request-time functions of a system.

    `views` are all that state is kept for, those of links and those reached by links alone among them;
    `readings` are how features are read of them. A plan without readings only keeps state.
    """

    views: tuple[ViewPlan, ...]
    on_demand: tuple[OnDemand, ...]
    readings: tuple[Reading, ...] = ()

    @cached_property
    def stored(self) -> tuple[str, ...]:
        """Every feature that is read of state."""
        return tuple(name for reading in self.readings for name in reading.names)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Every feature there is."""
        return (*self.stored, *(feature.name for feature in self.on_demand))

    @cached_property
    def entities(self) -> tuple[str, ...]:
        """Every entity whose key some feature needs."""
        return tuple(dict.fromkeys(e for reading in self.readings for e in reading.entities))

    @cached_property
    def streams(self) -> tuple[str, ...]:
        """Every stream that some view reads."""
        return tuple(dict.fromkeys(view.stream for view in self.views))

    @cached_property
    def on_demand_by_name(self) -> dict[str, OnDemand]:
        """The request-time functions by name."""
        return {feature.name: feature for feature in self.on_demand}

    @cached_property
    def reading_by_feature(self) -> dict[str, Reading]:
        """How each stored feature is read."""
        return {name: reading for reading in self.readings for name in reading.names}

    @cached_property
    def view_by_feature(self) -> dict[str, ViewPlan]:
        """The view that each stored feature is read of."""
        return {name: reading.view for name, reading in self.reading_by_feature.items()}

    @cached_property
    def feature_by_state(self) -> dict[str, str]:
        """The stored feature behind each input that is a state."""
        return {state_name(name): name for name in self.stored}

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
            if name in self.feature_by_state:
                visit(self.feature_by_state[name])
            ordered[name] = None

        for name in names:
            visit(name)
        return tuple(ordered)

    def readings_for(self, names: Iterable[str]) -> tuple[Reading, ...]:
        """What must be read for `names`, each after the links that lead to it."""
        ordered: dict[str, Reading] = {}

        def visit(reading: Reading) -> None:
            for link in reading.links.values():
                visit(link)
            ordered.setdefault(reading.name, reading)

        needed = set(self.inputs(names))
        for reading in self.readings:
            if not needed.isdisjoint(reading.names):
                visit(reading)
        return tuple(ordered.values())

    def definition_hashes(self, names: Iterable[str]) -> dict[str, str]:
        """The stable hash of each feature's definition, its inputs' included."""
        hashes: dict[str, str] = {}
        for name in self.inputs(names):
            reading = self.reading_by_feature.get(name)
            if reading is not None:
                hashes[name] = reading.hashes[reading.names.index(name)]
            elif name in self.feature_by_state:
                hashes[name] = definition_hash(["state", hashes[self.feature_by_state[name]]])
            elif name in self.on_demand_by_name:
                feature = self.on_demand_by_name[name]
                below = [hashes.get(i, i) for i in feature.inputs]
                hashes[name] = definition_hash([function_identity(feature.function), below])
            else:
                hashes[name] = definition_hash(["request", name])
        return {name: hashes[name] for name in names}


def compile_plan(
    features: Sequence[FeatureView | Through | OnDemand], streams: Iterable[Stream] = ()
) -> Plan:
    """The plan of the declared features; raises SpecError with every problem at once.

    With `streams` it also keeps the rows that their events are enriched from, which an ingest needs.
    """
    compiler = _Compiler()
    readings = tuple(compiler.reading(f, {}) for f in features if not isinstance(f, OnDemand))
    views = (*compiler.views.values(), *row_views(streams).values())
    plan = Plan(views, tuple(f for f in features if isinstance(f, OnDemand)), readings)
    problems = [
        *_twice("views", [v.name for v in views]),
        *_twice("features", plan.names),
        *_circles(plan.on_demand),
    ]
    if problems:
        raise SpecError(problems)
    return plan


class _Compiler:
    """Compiles each view and each link once, however many ways lead to it."""

    def __init__(self) -> None:
        self.views: dict[int | str, ViewPlan] = {}

    def reading(self, feature: FeatureView | Through, links: Mapping[str, Reading]) -> Reading:
        """How `feature` is read where the keys of some entities are reached by `links`."""
        if isinstance(feature, FeatureView):
            if id(feature) not in self.views:
                self.views[id(feature)] = _compile_view(feature)
            view = self.views[id(feature)]
            return _read_by(feature.name, view, view.names, view.hashes, links)
        link = self._link(feature, links)
        # Whether the link can be followed, the checks say; without an answer it leads nowhere.
        below = self.reading(feature.view, {**links, feature.reached or "": link})
        names = feature_names(feature)
        return replace(below, name=feature.name, names=names)

    def _link(self, feature: Through, links: Mapping[str, Reading]) -> Reading:
        table, ttl = feature.table, feature.ttl
        keys = "_x_".join(entity.name for entity in table.keys)
        name = ".".join([table.name, keys, feature.link, *([] if ttl is None else [ttl])])
        if name not in self.views:
            self.views[name] = _compile_link(name, feature)
        view = self.views[name]
        before = [links[entity].name for entity in view.entities if entity in links]
        return _read_by("/".join([*before, name]), view, (), view.hashes, links)


def _view_id(name: str, hashes: Sequence[str]) -> bytes:
    """The bytes before a view's keys: states of another format are under others, and are filled anew from the log."""
    return bytes.fromhex(definition_hash([name, hashes, STATE_FORMAT]))[:8]


def row_views(streams: Iterable[Stream]) -> dict[str, ViewPlan]:
    """The view that keeps the rows of each table that events of `streams` are enriched from, by table."""
    wanted: dict[str, tuple[Stream, set[str]]] = {}
    for stream in streams:
        for lookup in stream.enrich.values():
            wanted.setdefault(lookup.table.name, (lookup.table, set()))[1].add(lookup.field)
    return {
        name: _compile_rows(table, tuple(sorted(names))) for name, (table, names) in wanted.items()
    }


def _compile_rows(table: Stream, kept: tuple[str, ...]) -> ViewPlan:
    name, delete = f"{table.name}.rows", _deletes(table)
    entities = tuple(entity.name for entity in table.keys)
    of_rows = None if delete is None else _identity(table, delete)
    hashes = (definition_hash(["rows", entities, table.name, of_rows, kept]),)
    return ViewPlan(
        name,
        entities,
        table.name,
        None,
        (),
        (),
        lay_out([]),
        (),
        True,
        delete,
        hashes,
        _view_id(name, hashes),
        kept,
    )


def _read_by(
    name: str,
    view: ViewPlan,
    names: tuple[str, ...],
    hashes: tuple[str, ...],
    links: Mapping[str, Reading],
) -> Reading:
    own = {entity: links[entity] for entity in view.entities if entity in links}
    needed: list[str] = []
    for entity in view.entities:
        needed += own[entity].entities if entity in own else [entity]
    if own:
        ways = {entity: link.hashes for entity, link in own.items()}
        hashes = tuple(definition_hash(["through", ways, below]) for below in hashes)
    return Reading(name, view, names, hashes, tuple(dict.fromkeys(needed)), own)


def _compile_link(name: str, feature: Through) -> ViewPlan:
    """The view that keeps the key in a field of a table's newest row."""
    table, field_name = feature.table, feature.link
    delete = _deletes(table)
    entities = tuple(entity.name for entity in table.keys)
    ttl_us = parse_duration(feature.ttl) if feature.ttl else 0
    of_rows = None if delete is None else _identity(table, delete)
    meaning = ["link", entities, table.name, field_name, of_rows, ttl_us]
    hashes = (definition_hash(meaning),)
    return ViewPlan(
        name,
        entities,
        table.name,
        None,
        tuple(KeyPart(field_name, part) for part in range(3)),
        (),
        lay_out([Read(ATTRIBUTE, part, ttl_us, nulls=True) for part in range(3)]),
        (),
        True,
        delete,
        hashes,
        _view_id(name, hashes),
    )


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
    vectors = _vectors(view)
    reads: list[Read] = []
    hashes: list[str] = []
    whole: list[int] = []
    entities = tuple(entity.name for entity in view.entities)
    delete = _delete(view)
    rows = [_identity(view.stream, view.where)]
    rows += [] if delete is None else [_identity(view.stream, delete)]
    for aggregate in view.aggregates:
        for window in aggregate.windows or (None,):
            read = _read(aggregate, window, numbers, marks, vectors)
            reads.append(read)
            source = _identity(view.stream, aggregate.source)
            if aggregate.kind == "sum" and _is_whole(view, aggregate.source):
                whole.append(len(hashes))
            hashes += [
                definition_hash(
                    [entities, view.stream.name, *rows, source, [*_meaning(read), *further]]
                )
                for further in ([] if read.width == 1 else [i] for i in range(read.width))
            ]
    return ViewPlan(
        view.name,
        entities,
        view.stream.name,
        view.where,
        tuple(numbers),
        tuple(marks),
        lay_out(_behind(reads, len(numbers))),
        feature_names(view),
        any(aggregate.kind in _OF_ROWS for aggregate in view.aggregates),
        delete,
        tuple(hashes),
        # With its name: two views of one definition keep two states, or each event would count twice.
        _view_id(view.name, hashes),
        whole=tuple(whole),
        vectors=tuple(vectors.items()),
    )


def _vectors(view: FeatureView) -> dict[str, int]:
    """The vectors that are read as attributes, by field, with their widths."""
    found = {}
    for aggregate in view.aggregates:
        if aggregate.kind == "attribute" and isinstance(aggregate.source, str):
            field = view.stream.fields.get(aggregate.source)
            if isinstance(field, Vector):
                found[aggregate.source] = field.width
    return found


def _behind(reads: Sequence[Read], n: int) -> list[Read]:
    """The reads with the columns of vectors behind the n others."""
    return [replace(r, column=r.column + n) if r.kind == VECTOR else r for r in reads]


def _is_whole(view: FeatureView, source: Source | None) -> bool:
    return isinstance(source, str) and isinstance(view.stream.fields.get(source), Integer)


def _delete(view: FeatureView) -> Source | None:
    """Which rows are deletes to the attributes of a view; to other aggregates a delete is a row."""
    of_rows = any(aggregate.kind in _OF_ROWS for aggregate in view.aggregates)
    return _deletes(view.stream) if of_rows else None


def _deletes(table: Stream) -> Source | None:
    return table.delete if isinstance(table, Table) else None


def _identity(stream: Stream, source: Source | None) -> Any:
    """What a source computes, with the values behind the numbers of every category that it reads."""
    if source is None:
        return None
    names = (source,) if isinstance(source, str) else parameters(source) or ()
    fields = {name: stream.logged.get(name) for name in names}
    categories = {
        n: [list(f.values), f.other] for n, f in fields.items() if isinstance(f, Category)
    }
    return [source_identity(source), categories]


def _meaning(read: Read) -> list[Any]:
    meaning = [
        read.kind,
        read.window_us,
        read.hop_us,
        read.half_life_us,
        read.cap,
        read.nulls,
    ]
    if read.kind == DISTINCT:
        return [*meaning, precision_of(read.error)]
    if read.kind == QUANTILE:
        return [*meaning, float(read.q), *map(float, read.buckets)]
    if read.kind == VECTOR:
        return [*meaning, read.k]
    return [*meaning, read.tracked] if read.kind == TOP_K else meaning


def _read(
    aggregate: Aggregate,
    window: str | None,
    numbers: list[Source],
    marks: list[Source],
    vectors: Mapping[str, int],
) -> Read:
    kind = KINDS[aggregate.kind]
    if aggregate.kind == "attribute" and aggregate.source in vectors:
        names = list(vectors)
        first = sum(vectors[name] for name in names[: names.index(str(aggregate.source))])
        ttl_us = parse_duration(window) if window else 0
        return Read(VECTOR, first, ttl_us, nulls=True, k=vectors[str(aggregate.source)])
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
    if window_us and aggregate.kind not in _OF_ROWS:
        hop_us = parse_duration(aggregate.hop) if aggregate.hop else default_hop_us(window_us)
    return Read(
        kind,
        column,
        window_us,
        hop_us,
        parse_duration(aggregate.half_life) if aggregate.half_life else 0,
        aggregate.cap,
        aggregate.nulls or aggregate.kind in _OF_ROWS,
        aggregate.k,
        aggregate.q,
        aggregate.error,
        aggregate.smallest,
        aggregate.largest,
        aggregate.tracked,
    )
