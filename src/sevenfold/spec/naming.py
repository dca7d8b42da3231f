"""The names of features."""

from __future__ import annotations

from sevenfold.errors import TimeError
from sevenfold.spec.aggregate import Aggregate, FeatureView
from sevenfold.spec.units import duration_text, parse_duration

__all__ = ["feature_names"]


def feature_names(view: FeatureView) -> tuple[str, ...]:
    """The names of a view's features: `{view}__{kind}[_{source}][_{half-life}][_{window}]`."""
    return tuple(
        f"{view.name}__{_ending(aggregate, window)}"
        for aggregate in view.aggregates
        for window in aggregate.windows or (None,)
    )


def _ending(aggregate: Aggregate, window: str | None) -> str:
    if aggregate.kind == "attribute":
        return str(aggregate.name)
    parts = [aggregate.name or aggregate.kind]
    if aggregate.source is not None and aggregate.name is None:
        source = aggregate.source
        parts.append(source if isinstance(source, str) else getattr(source, "__name__", "value"))
    parts += [_short(text) for text in (aggregate.half_life, window) if text is not None]
    return "_".join(parts)


def _short(duration: str) -> str:
    try:
        return duration_text(parse_duration(duration))
    except TimeError:  # refused by the checks, which want to name the feature all the same
        return str(duration)
