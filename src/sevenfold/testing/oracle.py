"""What a feature's value means, by brute force: no tiles, no state, no kernel.

For every key, instant and aggregate it looks at every event again. Sums are exact fractions; windows, visibility and
ties are the words of the definition, written once more and sharing no code with the engines.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from sevenfold.spec.aggregate import Aggregate, FeatureView, RowFunction, Source
from sevenfold.spec.field import Integer, Vector
from sevenfold.spec.naming import endings, feature_names, state_name
from sevenfold.spec.on_demand import OnDemand
from sevenfold.spec.stream import Lookup, Stream
from sevenfold.spec.table import Table
from sevenfold.spec.through import Through
from sevenfold.spec.units import default_hop_us, parse_duration
from sevenfold.testing.sketched import different, quantile_of, ranked
from sevenfold.types import EventBatch, Texts, VectorState

__all__ = [
    "OracleEvent",
    "OracleRow",
    "OracleValue",
    "events_of",
    "looked_up",
    "read_at",
    "value_at",
]

_EPSILON = 2.0**-53
_SMALLEST = 2.0**-1074
_MOST = 1.7976931348623157e308
_BEYOND = Fraction(2) ** 1024 - Fraction(2) ** 970
"""From here on a number is rounded to infinity."""


@dataclass(frozen=True, slots=True)
class OracleEvent:
    """One event as a row."""

    event_us: int
    known_us: int
    event_id: str
    keys: Mapping[str, str | None]
    fields: Mapping[str, float | str | None]


@dataclass(frozen=True, slots=True)
class OracleValue:
    """A value with its state; `slack` is how far rounding may take an engine from it, 0 for exact kinds."""

    value: float
    state: int
    slack: float = 0.0


@dataclass(frozen=True, slots=True)
class OracleRow:
    """One row of a spine."""

    t_us: int
    keys: Mapping[str, str]
    fields: Mapping[str, float] = field(default_factory=dict)


def events_of(batch: EventBatch) -> list[OracleEvent]:
    """The rows of a batch; NaN is null. A vector is its first number, and each of them as `name[i]`."""
    keys = {name: column.to_list() for name, column in batch.keys.items()}
    fields = {}
    for name, column in batch.fields.items():
        if isinstance(column, Texts):
            fields[name] = column.to_list()
        elif column.ndim == 1:
            fields[name] = column.tolist()
        else:
            fields[name] = column[:, 0].tolist()
            for i in range(column.shape[1]):
                fields[f"{name}[{i}]"] = column[:, i].tolist()
    return [
        OracleEvent(
            int(batch.event_us[i]),
            int(batch.known_us[i]),
            event_id or "",
            {name: column[i] for name, column in keys.items()},
            {name: _null(column[i]) for name, column in fields.items()},
        )
        for i, event_id in enumerate(batch.event_ids.to_list())
    ]


def read_at(
    features: Sequence[FeatureView | Through | OnDemand],
    row: OracleRow,
    events: Mapping[str, Sequence[OracleEvent]],
) -> dict[str, OracleValue]:
    """Every feature of one row of a spine, by name; `events` are those of each stream, in any order."""
    values: dict[str, OracleValue] = {}
    for feature in features:
        if not isinstance(feature, OnDemand):
            found = _view(feature, row.keys, events, row.t_us)
            values |= dict(zip(feature_names(feature), found, strict=True))
    for name in list(values):
        values[state_name(name)] = OracleValue(float(values[name].state), VectorState.VALUE)
    waiting = {feature.name: feature for feature in features if isinstance(feature, OnDemand)}
    while waiting:
        name = next(n for n, f in waiting.items() if not waiting.keys() & set(f.inputs))
        values[name] = _on_demand(waiting.pop(name), row, values)
    return {name: value for name, value in values.items() if not name.endswith(state_name(""))}


def _view(
    feature: FeatureView | Through,
    keys: Mapping[str, str | None],
    events: Mapping[str, Sequence[OracleEvent]],
    t_us: int,
) -> list[OracleValue]:
    if isinstance(feature, Through):
        table = feature.table
        rows = _visible(None, keys, [e.name for e in table.keys], events[table.name], t_us)
        reached = None
        if rows:
            newest = max(rows, key=_age_order)
            old = feature.ttl and t_us - newest.event_us >= parse_duration(feature.ttl)
            if not old and not _is_delete(table, newest):
                reached = _value(feature.link, newest)
        return _view(feature.view, {**keys, str(feature.reached): _text(reached)}, events, t_us)
    key = [keys[entity.name] for entity in feature.entities]
    seen = events[feature.stream.name]
    return [
        value_at(feature, aggregate, window, seen, key, t_us, place)
        for aggregate in feature.aggregates
        for window in aggregate.windows or (None,)
        for place in range(len(endings(aggregate)))
    ]


def looked_up(
    lookup: Lookup, event: OracleEvent, rows: Sequence[OracleEvent]
) -> float | str | None:
    """What an event is enriched with: the field of the row known strictly before the event became known."""
    table, t_us = lookup.table, event.known_us
    seen = _visible(None, event.keys, [entity.name for entity in table.keys], rows, t_us)
    if not seen:
        return None
    newest = max(seen, key=_age_order)
    if lookup.ttl and t_us - newest.event_us >= parse_duration(lookup.ttl):
        return None
    return None if _is_delete(table, newest) else _value(lookup.field, newest)


def value_at(
    view: FeatureView,
    aggregate: Aggregate,
    window: str | None,
    events: Iterable[OracleEvent],
    key: Sequence[str | None],
    t_us: int,
    place: int = 0,
) -> OracleValue:
    """The value of one aggregate of `view` for `key` at `t_us`, from all events there are.

    Of several values of one aggregate it is that at `place`. Raises OverflowError for a sum of whole
    numbers beyond 2^53.
    """
    names = [entity.name for entity in view.entities]
    wanted = dict(zip(names, key, strict=True))
    seen = _visible(view.where, wanted, names, events, t_us)
    if not seen:
        return _empty(aggregate, VectorState.MISSING)
    if aggregate.kind in ("attribute", "age"):
        return _attribute(view, aggregate, window, seen, t_us, place)
    if aggregate.kind == "since_last":
        newest = max(event.event_us for event in seen)
        return OracleValue((t_us - newest) / 1e6, VectorState.VALUE)
    if aggregate.kind == "decayed":
        return _decayed(aggregate, seen, t_us)
    found = _windowed(aggregate, window, seen, t_us, place)
    if aggregate.kind == "sum" and isinstance(aggregate.source, str):
        of_integers = isinstance(view.stream.fields.get(aggregate.source), Integer)
        if of_integers and abs(found.value) > 2**53:
            raise OverflowError(f"a sum of {aggregate.source} is no exact whole number any more")
    return found


def _visible(
    where: RowFunction | None,
    keys: Mapping[str, str | None],
    names: Sequence[str],
    events: Iterable[OracleEvent],
    t_us: int,
) -> list[OracleEvent]:
    """The events of one key that are visible; a key with a part that is null has none."""
    return [
        event
        for event in events
        if event.known_us < t_us
        and all(keys[name] is not None and event.keys[name] == keys[name] for name in names)
        and (where is None or bool(_call(where, event)))
    ]


def _windowed(
    aggregate: Aggregate, window: str | None, seen: Sequence[OracleEvent], t_us: int, place: int
) -> OracleValue:
    inside = list(seen)
    hop = 0
    if window is not None:
        width = parse_duration(window)
        hop = parse_duration(aggregate.hop) if aggregate.hop else default_hop_us(width)
        begin = math.floor(Fraction(t_us - width, hop)) * hop
        inside = [event for event in seen if begin <= event.event_us < t_us]
    if aggregate.kind == "count" and aggregate.source is None:
        return OracleValue(float(len(inside)), VectorState.VALUE)
    if aggregate.kind == "top_k":
        return _top(aggregate, window, seen, hop, t_us, place)
    if aggregate.kind in ("last", "last_k", "first"):
        return _in_age_order(aggregate, inside, place)
    values = [value for event in inside if (value := _value(aggregate.source, event)) is not None]
    if aggregate.kind == "count":
        return OracleValue(float(len(values)), VectorState.VALUE)
    if aggregate.kind == "distinct":
        number, is_rough = different(values, aggregate.cap, aggregate.error)
        return OracleValue(number, VectorState.ESTIMATE if is_rough else VectorState.VALUE)
    tiles = _tiles(aggregate.source, inside, hop)
    return _of_numbers(aggregate, [float(value) for value in values], tiles)


def _of_numbers(
    aggregate: Aggregate, numbers: Sequence[float], tiles: Sequence[Sequence[float]]
) -> OracleValue:
    if not numbers:
        return _empty(aggregate, VectorState.NULL)
    if aggregate.kind in ("min", "max"):
        extreme = min(numbers) if aggregate.kind == "min" else max(numbers)
        return OracleValue(extreme, VectorState.VALUE)
    if aggregate.kind == "quantile":
        exact = quantile_of(aggregate, numbers)
        return OracleValue(exact, VectorState.VALUE, aggregate.error * abs(exact) * (1 + 1e-9))
    if _goes_beyond(tiles):
        return OracleValue(math.nan, VectorState.NULL)
    if aggregate.kind == "sum":
        return _of(_exact(numbers), numbers)
    if aggregate.kind == "mean":
        return _of(_exact(numbers) / len(numbers), numbers)
    return _spread(aggregate, numbers)


def _top(
    aggregate: Aggregate,
    window: str | None,
    seen: Sequence[OracleEvent],
    hop: int,
    t_us: int,
    place: int,
) -> OracleValue:
    """The value or the count at `place` among the most frequent; which are tracked depends on all events."""
    known = [
        (event.event_us, event.known_us, float(value))
        for event in sorted(seen, key=_log_order)
        if (value := _value(aggregate.source, event)) is not None
    ]
    width = parse_duration(window) if window else 0
    tail = (t_us - width) // hop * hop if hop else 0
    order = ranked(known, aggregate.tracked, width, hop, tail)
    if place // 2 >= len(order):
        return _empty(aggregate, VectorState.NULL)
    return OracleValue(float(order[place // 2][place % 2]), VectorState.VALUE)


def _in_age_order(aggregate: Aggregate, inside: Sequence[OracleEvent], place: int) -> OracleValue:
    """The value at `place` from the newest, or that of the oldest for a first value."""
    rows = [
        event for event in inside if aggregate.nulls or _value(aggregate.source, event) is not None
    ]
    rows.sort(key=_age_order, reverse=True)
    if aggregate.kind == "first":
        # Of those at the oldest instant, too, the one known latest.
        rows = [event for event in rows if event.event_us == rows[-1].event_us]
    value = _value(aggregate.source, rows[place]) if place < len(rows) else None
    if value is None:
        return _empty(aggregate, VectorState.NULL)
    return OracleValue(float(value), VectorState.VALUE)


def _tiles(source: Source | None, inside: Sequence[OracleEvent], hop: int) -> list[list[float]]:
    """The numbers by hop in time order, inside one in log order; a lifetime is one hop."""
    tiles: dict[int, list[float]] = {}
    for event in sorted(inside, key=_log_order):
        value = _value(source, event)
        if value is not None:
            tiles.setdefault(event.event_us // hop if hop else 0, []).append(float(value))
    return [tiles[start] for start in sorted(tiles)]


def _goes_beyond(tiles: Sequence[Sequence[float]]) -> bool:
    """Whether a sum on the way, inside a hop or over hops, is beyond float64: then it is no number."""
    whole = Fraction(0)
    for tile in tiles:
        part = Fraction(0)
        for x in tile:
            part += Fraction(x)
            if abs(part) >= _BEYOND:
                return True
        whole += part
        if abs(whole) >= _BEYOND:
            return True
    return False


def _spread(aggregate: Aggregate, numbers: Sequence[float]) -> OracleValue:
    """The population variance or its root, from exact fractions."""
    n = len(numbers)
    mean = _exact(numbers) / n
    apart = [abs(Fraction(x) - mean) for x in numbers]
    squares = sum((d * d for d in apart), Fraction(0))
    if squares >= _BEYOND:
        return OracleValue(math.nan, VectorState.NULL)
    variance = squares / n
    # A mean is good to 2^-100 of the numbers an event, so each deviation is; then the squares are.
    off = n * Fraction(max(map(abs, numbers))) / 2**100
    error = sum((2 * d * off + off * off for d in apart), Fraction(0)) * 4
    slack = 4 * _EPSILON * float(variance) + _rounded(error) + 8 * n * _SMALLEST
    if aggregate.kind == "var":
        return OracleValue(float(variance), VectorState.VALUE, slack)
    root = math.sqrt(variance)
    # The root of a number that is off by the slack.
    rough = math.sqrt(float(variance) + slack) - math.sqrt(max(float(variance) - slack, 0.0))
    return OracleValue(root, VectorState.VALUE, rough + 4 * _EPSILON * root)


def _attribute(
    view: FeatureView,
    aggregate: Aggregate,
    ttl: str | None,
    seen: Sequence[OracleEvent],
    t_us: int,
    place: int,
) -> OracleValue:
    newest = max(seen, key=_age_order)
    if _is_delete(view.stream, newest):
        return _empty(aggregate, VectorState.MISSING)
    if aggregate.kind == "age":
        return OracleValue((t_us - newest.event_us) / 1e6, VectorState.VALUE)
    if ttl is not None and not t_us - newest.event_us < parse_duration(ttl):
        return _empty(aggregate, VectorState.STALE)
    is_vector = isinstance(view.stream.fields.get(str(aggregate.source)), Vector)
    name = f"{aggregate.source}[{place}]"
    value = newest.fields[name] if is_vector else _value(aggregate.source, newest)
    if value is None:
        return _empty(aggregate, VectorState.NULL)
    return OracleValue(float(np.float32(value) if is_vector else value), VectorState.VALUE)


def _is_delete(table: Stream, row: OracleEvent) -> bool:
    if not isinstance(table, Table) or table.delete is None:
        return False
    value = _value(table.delete, row)
    return value is not None and value != 0


def _decayed(aggregate: Aggregate, seen: Sequence[OracleEvent], t_us: int) -> OracleValue:
    half_life = parse_duration(aggregate.half_life)
    numbers: list[tuple[int, float | str]] = []
    for event in sorted(seen, key=_log_order):
        x = 1.0 if aggregate.source is None else _value(aggregate.source, event)
        if x is not None:
            numbers.append((event.event_us, x))
    for known in range(1, len(numbers) + 1):
        newest = max(event_us for event_us, _ in numbers[:known])
        at_newest = [_faded(x, newest - at, half_life) for at, x in numbers[:known]]
        if abs(_exact(at_newest)) >= _BEYOND:
            return OracleValue(math.nan, VectorState.NULL)
    terms = [_faded(x, t_us - at, half_life) for at, x in numbers]
    # An engine may decay a term at each later event and at the read: a power good to 2 epsilon, a product
    # and an addition, each time; rounding the ages, in all, to one epsilon a half-life; 4 are the oracle's.
    # What has decayed below the smallest normal number is good to that many steps of the smallest at all.
    steps = 4 * (len(terms) + 1) + 4
    weighed = sum(
        abs(Fraction(term)) * (steps + (t_us - at) // half_life + 1)
        for term, (at, _) in zip(terms, numbers, strict=True)
    )
    slack = len(terms) * steps * _SMALLEST + _rounded(Fraction(weighed) * Fraction(_EPSILON))
    return OracleValue(float(_exact(terms)), VectorState.VALUE, slack)


def _faded(x: float | str, age_us: int, half_life: int) -> float:
    # Whole half-lives only move the exponent, so an old event is as exact as a new one.
    whole, rest = divmod(age_us, half_life)
    return math.ldexp(float(x) * 2.0 ** -(rest / half_life), -whole)


def _rounded(bound: Fraction) -> float:
    """A bound as a float, the largest one where it is beyond."""
    return float(min(bound, Fraction(_MOST)))


def _on_demand(feature: OnDemand, row: OracleRow, values: Mapping[str, OracleValue]) -> OracleValue:
    """What the function gives for one row; it is not held to a number when an input has slack."""
    given: dict[str, Any] = {"request_time": row.t_us, **row.fields}
    given |= {name: value.value for name, value in values.items()}
    arguments = [np.array([given[name]]) for name in feature.inputs]
    result = float(np.asarray(feature.function(*arguments), dtype=np.float64).reshape(-1)[0])
    exact = all(values[name].slack == 0 for name in feature.inputs if name in values)
    state = VectorState.NULL if math.isnan(result) else VectorState.VALUE
    return OracleValue(result, state, 0.0 if exact else math.inf)


def _log_order(event: OracleEvent) -> tuple[int, bytes]:
    return event.known_us, event.event_id.encode()


def _age_order(event: OracleEvent) -> tuple[int, int, bytes]:
    return event.event_us, event.known_us, event.event_id.encode()


def _empty(aggregate: Aggregate, state: int) -> OracleValue:
    if aggregate.kind in ("count", "sum", "distinct", "decayed"):
        return OracleValue(0.0, VectorState.VALUE)
    return OracleValue(math.nan, state)


def _exact(numbers: Sequence[float]) -> Fraction:
    return sum((Fraction(x) for x in numbers), Fraction(0))


def _of(exact: Fraction, numbers: Sequence[float]) -> OracleValue:
    # A compensated sum errs by 2^-106 of its terms at each of at most 3 additions an event, and is rounded at
    # the end; a mean is rounded once more; so is the exact value, to a float.
    terms = sum((abs(Fraction(x)) for x in numbers), Fraction(0))
    lost = _rounded(len(numbers) * terms / 2**100)
    slack = _SMALLEST + 3 * _EPSILON * abs(float(exact)) + lost
    return OracleValue(float(exact), VectorState.VALUE, slack)


def _value(source: Source | None, event: OracleEvent) -> float | str | None:
    if source is None:
        return None
    if isinstance(source, str):
        return event.keys[source] if source in event.keys else event.fields[source]
    number = float(_call(source, event))
    return number if math.isfinite(number) else None


def _call(function: RowFunction, event: OracleEvent) -> Any:
    names = inspect.signature(function).parameters
    arguments = [np.array([np.nan if (x := event.fields[n]) is None else x]) for n in names]
    return np.asarray(function(*arguments)).reshape(-1)[0]


def _text(value: float | str | None) -> str | None:
    return value if isinstance(value, str) else None


def _null(value: float | str | None) -> float | str | None:
    return None if isinstance(value, float) and math.isnan(value) else value
