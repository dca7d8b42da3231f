"""What each feature means, in words: the law of the semantics with the declaration's numbers in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from sevenfold.spec.aggregate import Aggregate, AggregateKind, FeatureView, Source
from sevenfold.spec.naming import endings, feature_names
from sevenfold.spec.on_demand import OnDemand
from sevenfold.spec.table import Table
from sevenfold.spec.through import Through
from sevenfold.spec.units import default_hop_us, duration_text, parse_duration

__all__ = ["meanings"]

_TIES = "of several at one time that which became known last, then that of the larger id"


def meanings(declared: Sequence[FeatureView | Through | OnDemand]) -> dict[str, str]:
    """One sentence for each feature, by name."""
    found: dict[str, str] = {}
    for feature in declared:
        if isinstance(feature, OnDemand):
            found[feature.name] = _function(feature)
        else:
            found |= zip(feature_names(feature), _sentences(feature, {}), strict=True)
    return found


def _function(feature: OnDemand) -> str:
    said = f": {feature.description}" if feature.description else ""
    return f"computed from {', '.join(feature.inputs)}, all at the same t{said}"


def _sentences(feature: FeatureView | Through, reached: Mapping[str, str]) -> Iterator[str]:
    if isinstance(feature, Through):
        table = feature.table
        by = " and ".join(_key(entity.name, reached) for entity in table.keys)
        fresh = (
            "" if feature.ttl is None else f", while that row is younger than {_text(feature.ttl)}"
        )
        row = f"the newest row of {table.name} of {by}"
        way = f"the {feature.reached} (in {feature.link} of {row}, as visible at t{fresh})"
        below = {**reached, feature.reached or "": way}
        yield from _sentences(feature.view, below)
        return
    for aggregate in feature.aggregates:
        for window in aggregate.windows or (None,):
            for ending in endings(aggregate):
                yield _sentence(feature, aggregate, window, ending, reached)


def _sentence(
    view: FeatureView,
    aggregate: Aggregate,
    window: str | None,
    ending: str,
    reached: Mapping[str, str],
) -> str:
    what, empty = _KINDS[aggregate.kind](aggregate, ending)
    keys = " and ".join(_key(entity.name, reached) for entity in view.entities)
    if aggregate.kind in ("attribute", "age"):
        return f"{what} of {view.stream.name} of {keys} that is visible at t{_life(view, aggregate, window)}"
    where = "" if view.where is None else f", for which {_source(view.where)} holds,"
    over = f"over the events of {view.stream.name} of {keys}{where} that became known before t"
    return f"{what}, {over}{_window(aggregate, window)}; {empty} when there is none"


def _window(aggregate: Aggregate, window: str | None) -> str:
    """The bounds of a window, as section 3 of the semantics has them."""
    if window is None:
        return ""
    w = _text(window)
    hop = duration_text(default_hop_us(parse_duration(window)))
    h = hop if aggregate.hop is None else _text(aggregate.hop)
    return (
        f" and happened at floor((t - {w}) / {h}) * {h} or later: "
        f"no event younger than {w} is left out, none older than {w} and {h} is in"
    )


def _life(view: FeatureView, aggregate: Aggregate, window: str | None) -> str:
    deletes = isinstance(view.stream, Table) and view.stream.delete is not None
    gone = "MISSING before the first row" + (" and from a delete on" if deletes else "")
    if aggregate.kind == "age" or window is None:
        return f"; {gone}"
    return f", while t is less than {_text(window)} after its time, then STALE; {gone}"


def _key(entity: str, reached: Mapping[str, str]) -> str:
    return reached.get(entity, f"the row's {entity}")


def _of(aggregate: Aggregate) -> str:
    return "" if aggregate.source is None else _source(aggregate.source)


def _source(source: Source) -> str:
    return (
        source if isinstance(source, str) else f"{getattr(source, '__name__', 'a function')}(...)"
    )


def _text(duration: str) -> str:
    return duration_text(parse_duration(duration))


def _count(a: Aggregate, _: str) -> tuple[str, str]:
    return f"the number of events{f' whose {_of(a)} is not null' if a.source else ''}", "0"


def _decayed(a: Aggregate, _: str) -> tuple[str, str]:
    half = _text(a.half_life or "1 s")
    what = f"the sum of {_of(a)}, each" if a.source else "the number of events, each"
    return f"{what} weighed by 2^-(age / {half})", "0"


def _last(a: Aggregate, _: str) -> tuple[str, str]:
    nulls = "null or not" if a.nulls else "passing over nulls"
    return f"the {_of(a)} of the newest event by event time, {nulls}, {_TIES}", "null"


def _first(a: Aggregate, _: str) -> tuple[str, str]:
    return f"the {_of(a)} of the oldest event by event time, passing over nulls, {_TIES}", "null"


def _last_k(a: Aggregate, ending: str) -> tuple[str, str]:
    place = ending.removeprefix("_")
    return f"number {place} of the newest {a.k} values of {_of(a)}, newest first, {_TIES}", "null"


def _distinct(a: Aggregate, _: str) -> tuple[str, str]:
    beyond = f"then an ESTIMATE with a relative standard error of {a.error:g}"
    return f"the number of different values of {_of(a)}, exact up to {a.cap}, {beyond}", "0"


def _quantile(a: Aggregate, _: str) -> tuple[str, str]:
    return f"the {_of(a)} that a share of {a.q:g} lies below, within {a.error:.3g} of it", "null"


def _top_k(a: Aggregate, ending: str) -> tuple[str, str]:
    place = ending.removeprefix("_").removesuffix("_count")
    often = "how often it is there of" if ending.endswith("_count") else "the value that is"
    ties = f"of equals the smaller, exact up to {a.tracked} different values"
    return f"{often} number {place} of the {a.k} most frequent values of {_of(a)}, {ties}", "null"


def _row(a: Aggregate, ending: str) -> tuple[str, str]:
    place = f"number {ending.removeprefix('_')} of " if ending else ""
    return f"{place}the {_of(a)}, null or not, in the newest row by event time, {_TIES},", ""


def _plain(words: str, empty: str) -> Callable[[Aggregate, str], tuple[str, str]]:
    return lambda a, _: (words.format(_of(a)), empty)


_KINDS: dict[AggregateKind, Callable[[Aggregate, str], tuple[str, str]]] = {
    "age": _plain("the seconds to t from the time of the newest row", ""),
    "attribute": _row,
    "count": _count,
    "decayed": _decayed,
    "distinct": _distinct,
    "first": _first,
    "last": _last,
    "last_k": _last_k,
    "max": _plain("the largest {}", "null"),
    "mean": _plain("the mean of {}, nulls left out", "null"),
    "min": _plain("the smallest {}", "null"),
    "quantile": _quantile,
    "since_last": _plain("the seconds to t from the newest event", "null"),
    "std": _plain("the population standard deviation of {}, nulls left out", "null"),
    "sum": _plain("the sum of {}", "0"),
    "top_k": _top_k,
    "var": _plain("the population variance of {}, nulls left out", "null"),
}
