"""Aggregates over the events of a key, declared once for both engines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from sevenfold.spec.entity import Entity
from sevenfold.spec.field import Vector
from sevenfold.spec.quantity import Duration, Name, Positive, Share, Width
from sevenfold.spec.stream import RowFunction, Stream

__all__ = [
    "Aggregate",
    "AggregateKind",
    "FeatureView",
    "RowFunction",
    "Source",
    "aggregate",
    "attribute",
    "count",
    "decayed",
    "distinct",
    "first",
    "last",
    "last_k",
    "max",
    "mean",
    "min",
    "quantile",
    "since_last",
    "std",
    "sum",
    "top_k",
    "var",
]

Source: TypeAlias = str | RowFunction
"""What an aggregate reads of an event: a field by name, or a row-level function of fields."""


AggregateKind: TypeAlias = Literal[
    "age",
    "attribute",
    "count",
    "decayed",
    "distinct",
    "first",
    "last",
    "last_k",
    "max",
    "mean",
    "min",
    "quantile",
    "since_last",
    "std",
    "sum",
    "top_k",
    "var",
]


@dataclass(frozen=True, slots=True, eq=False)
class Aggregate:
    """One kind of aggregate over one source for some windows; no window means the lifetime."""

    kind: AggregateKind
    source: Source | None = None
    windows: tuple[Duration, ...] = ()
    hop: Duration | None = None
    half_life: Duration | None = None
    cap: int = 0
    nulls: bool = False
    k: Width = 1
    q: Share = 0.0
    error: Share = 0.0
    smallest: Positive = 1e-6
    largest: Positive = 1e9
    tracked: Width = 1
    name: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class FeatureView:
    """Features that share entities and stream: one state record a key.

    `where` is a row-level function giving the events that count; `owner` answers for the view.
    """

    entities: tuple[Entity, ...]
    stream: Stream
    aggregates: tuple[Aggregate, ...]
    name: Name
    where: RowFunction | None = None
    description: str = ""
    owner: str = ""


def aggregate(
    entity: Entity | Sequence[Entity],
    stream: Stream,
    *aggregates: Aggregate,
    name: str | None = None,
    where: RowFunction | None = None,
    description: str = "",
    owner: str = "",
) -> FeatureView:
    """A feature view: `aggregates` over the events of `stream`, for each key of `entity`.

    Several entities make a composite key. The features are named `{name}__{aggregate}`; the view's own
    name is, when not given, that of its entities.
    """
    entities = _listed(entity)
    view_name = "_x_".join(_names(*entities)) if name is None else name
    return FeatureView(entities, stream, tuple(aggregates), view_name, where, description, owner)


def attribute(
    entity: Entity | Sequence[Entity],
    table: Stream,
    *fields: str,
    ttl: str | None = None,
    age: bool = False,
    name: str | None = None,
    description: str = "",
    owner: str = "",
) -> FeatureView:
    """The newest values of `fields` of a table keyed by `entity`, its nulls included.

    Several entities make a composite key. A Vector is as many features, `..._1` to `..._{width}`. A value reads as null while there is none: MISSING before the
    first row and from a delete on, STALE when the row's time is `ttl` ago or longer. Without `ttl` a value
    stays for ever. With `age`, a feature more has the seconds since the time of the row, however old.
    """
    entities = _listed(entity)
    kinds = tuple(
        Aggregate(
            "attribute", field, () if ttl is None else (ttl,), name=field, k=_width(table, field)
        )
        for field in fields
    )
    if age:
        kinds += (Aggregate("age", fields[0] if fields else None, name="age"),)
    view_name = "_".join(_names(*entities, table)) if name is None else name
    return FeatureView(entities, table, kinds, view_name, None, description, owner)


def count(
    source: Source | None = None, *, windows: Sequence[str] = (), hop: str | None = None
) -> Aggregate:
    """The number of events, or of events whose `source` is not null. Empty window: 0."""
    return Aggregate("count", source, _listed(windows), hop)


def sum(source: Source, *, windows: Sequence[str] = (), hop: str | None = None) -> Aggregate:
    """The sum of `source`, compensated so that order does not matter. Empty window: 0."""
    return Aggregate("sum", source, _listed(windows), hop)


def mean(source: Source, *, windows: Sequence[str] = (), hop: str | None = None) -> Aggregate:
    """The mean of the non-null values of `source`. Empty window: null."""
    return Aggregate("mean", source, _listed(windows), hop)


def var(source: Source, *, windows: Sequence[str] = (), hop: str | None = None) -> Aggregate:
    """The population variance of the non-null values of `source`. Empty window: null.

    Merged by Chan's method in pairs of doubles, so that order and tiling do not matter.
    """
    return Aggregate("var", source, _listed(windows), hop)


def std(source: Source, *, windows: Sequence[str] = (), hop: str | None = None) -> Aggregate:
    """The population standard deviation, the root of `var`. Empty window: null."""
    return Aggregate("std", source, _listed(windows), hop)


def min(source: Source, *, windows: Sequence[str] = (), hop: str | None = None) -> Aggregate:
    """The smallest value of `source`. Empty window: null."""
    return Aggregate("min", source, _listed(windows), hop)


def max(source: Source, *, windows: Sequence[str] = (), hop: str | None = None) -> Aggregate:
    """The largest value of `source`. Empty window: null."""
    return Aggregate("max", source, _listed(windows), hop)


def first(source: Source, *, windows: Sequence[str] = (), hop: str | None = None) -> Aggregate:
    """The value of the oldest event by event time whose `source` is not null; ties as for `last`.

    Empty window: null.
    """
    return Aggregate("first", source, _listed(windows), hop)


def last(
    source: Source, *, windows: Sequence[str] = (), nulls: bool = False, hop: str | None = None
) -> Aggregate:
    """The value of the newest event by event time; ties: known later, then the larger id.

    Events where `source` is null are passed over unless `nulls`. Empty window: null.
    """
    return Aggregate("last", source, _listed(windows), hop, nulls=nulls)


def last_k(
    source: Source, k: int, *, windows: Sequence[str] = (), hop: str | None = None
) -> Aggregate:
    """The newest `k` values of `source` that are not null, newest first; ties as for `last`.

    They are k features, `..._1` the newest to `..._{k}`; those that the window does not have are null.
    """
    return Aggregate("last_k", source, _listed(windows), hop, k=k)


def since_last() -> Aggregate:
    """Seconds from the newest event to the instant of the read. No event: null."""
    return Aggregate("since_last")


def distinct(
    source: Source,
    *,
    windows: Sequence[str] = (),
    cap: int = 1024,
    error: float = 0.05,
    hop: str | None = None,
) -> Aggregate:
    """The number of different values of `source`, exact up to `cap`, then a HyperLogLog. Empty: 0.

    `error` is the relative standard error beyond the cap: two estimates of three lie within it. The state of
    an estimate is ESTIMATE, that of an exact count VALUE.
    """
    return Aggregate("distinct", source, _listed(windows), hop, cap=cap, error=error)


def quantile(
    source: Source,
    q: float,
    *,
    windows: Sequence[str] = (),
    error: float = 0.01,
    smallest: float = 1e-6,
    largest: float = 1e9,
    hop: str | None = None,
) -> Aggregate:
    """The value of `source` that a share `q` lies below, within the relative `error`. Empty window: null.

    Of n values in order it is that at place floor(q (n - 1)), from 0. Values nearer to zero than `smallest`
    count as 0, those beyond `largest` as `largest`: they bound the buckets a tile may have.
    """
    return Aggregate(
        "quantile",
        source,
        _listed(windows),
        hop,
        q=q,
        error=error,
        smallest=smallest,
        largest=largest,
    )


def top_k(
    source: Source,
    k: int,
    *,
    windows: Sequence[str] = (),
    tracked: int = 64,
    hop: str | None = None,
) -> Aggregate:
    """The `k` most frequent values of `source` with their counts; of equals the smaller. Empty: null.

    They are 2 k features, `..._1` and `..._1_count` to `..._{k}_count`, null where there are fewer. Exact
    while a window has at most `tracked` different values. When another would be counted, the one that ranks
    last is forgotten with its counts, and begins anew if it comes again.
    """
    return Aggregate("top_k", source, _listed(windows), hop, k=k, tracked=tracked)


def decayed(source: Source | None = None, *, half_life: str) -> Aggregate:
    """The sum of `source` (1 when not given) times 2^-(age / half_life). No event: 0."""
    return Aggregate("decayed", source, half_life=half_life)


def _names(*declared: Any) -> list[str]:
    """The names of entities and streams; what is neither, the checks refuse."""
    return [part.name for part in declared if isinstance(part, Entity | Stream)]


def _width(table: Any, field: Any) -> Any:
    """The numbers of a field; what is no field of a stream, the checks refuse."""
    fields = table.fields if isinstance(table, Stream) else None
    found = fields.get(field) if isinstance(fields, dict) and isinstance(field, str) else None
    return found.width if isinstance(found, Vector) else 1


def _listed(given: Any) -> tuple[Any, ...]:
    """What was given as a list, or the one thing in place of it; whether it is right, the checks say."""
    return tuple(given) if isinstance(given, list | tuple) else (given,)
