"""The names of features."""

from __future__ import annotations

from sevenfold.errors import TimeError
from sevenfold.spec.aggregate import Aggregate, FeatureView
from sevenfold.spec.through import Through
from sevenfold.spec.units import duration_text, parse_duration

__all__ = ["endings", "feature_names", "state_name"]


def feature_names(view: FeatureView | Through) -> tuple[str, ...]:
    """The names of a view's features: `{view}__{kind}[_{source}][_{half-life}][_{window}][_{place}]`.

    Features reached through a link have the endings of the view and the name of what reaches them.
    """
    below = view
    while isinstance(below, Through):
        below = below.view
    return tuple(
        f"{view.name}__{_ending(aggregate, window)}{ending}"
        for aggregate in below.aggregates
        for window in aggregate.windows or (None,)
        for ending in endings(aggregate)
    )


def endings(aggregate: Aggregate) -> tuple[str, ...]:
    """What the name of each output of an aggregate ends with: nothing for the only one."""
    if aggregate.kind == "last_k" or (aggregate.kind == "attribute" and aggregate.k > 1):
        return tuple(f"_{i}" for i in range(1, aggregate.k + 1))
    if aggregate.kind == "top_k":
        return tuple(f"_{i}{what}" for i in range(1, aggregate.k + 1) for what in ("", "_count"))
    return ("",)


def state_name(feature: str) -> str:
    """The input of a request-time function that is the state of a stored feature, as VectorState has it."""
    return f"{feature}__state"


def _ending(aggregate: Aggregate, window: str | None) -> str:
    if aggregate.kind in ("attribute", "age"):
        return str(aggregate.name)
    parts = [aggregate.name or _kind(aggregate)]
    if aggregate.source is not None and aggregate.name is None:
        source = aggregate.source
        parts.append(source if isinstance(source, str) else getattr(source, "__name__", "value"))
    parts += [_short(text) for text in (aggregate.half_life, window) if text is not None]
    return "_".join(parts)


def _kind(aggregate: Aggregate) -> str:
    if aggregate.kind in ("last_k", "top_k"):
        return f"{aggregate.kind[:-2]}_{aggregate.k}"
    if aggregate.kind == "quantile":
        return f"quantile_{100 * aggregate.q:.10g}".replace(".", "_")
    return aggregate.kind


def _short(duration: str) -> str:
    try:
        return duration_text(parse_duration(duration))
    except TimeError:  # refused by the checks, which want to name the feature all the same
        return str(duration)
