"""Features as of then: for every row of a spine, from the events visible at its instant."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from sevenfold.algebra.grouping import bucket, group, match
from sevenfold.algebra.replay import replay
from sevenfold.errors import InputError
from sevenfold.features.assemble import ViewValues, assemble
from sevenfold.features.columns import key_hashes, view_columns
from sevenfold.features.frame import FeatureFrame, Spine
from sevenfold.features.plan import Plan, ViewPlan
from sevenfold.types import EventBatch, Ints

__all__ = ["read_at"]


def read_at(
    plan: Plan,
    names: Sequence[str],
    spine: Spine,
    events: Mapping[str, EventBatch],
    progress: Callable[[str], None] | None = None,
) -> FeatureFrame:
    """The features `names` of every row of `spine`, in its order: never a lost or a doubled row.

    `events` holds each stream's events in log order. Only events of the spine's keys are walked, each once
    a view. Raises NotFoundError for an unknown feature and InputError for a missing key or stream.
    """
    plan.require(names)
    by_view: dict[str, ViewValues] = {}
    by_time = _time_order(spine.t_us)
    for view in plan.views_for(names):
        _require(view, spine, events)
        if progress is not None:
            progress(view.name)
        by_view[view.name] = _read_view(view, spine, events[view.stream], by_time)
    return assemble(plan, names, spine, by_view)


def _time_order(t_us: Ints) -> Ints:
    if len(t_us) < 2 or bool(np.all(t_us[1:] >= t_us[:-1])):
        return np.arange(len(t_us), dtype=np.int64)
    return np.argsort(t_us, kind="stable").astype(np.int64)


def _require(view: ViewPlan, spine: Spine, events: Mapping[str, EventBatch]) -> None:
    missing = [entity for entity in view.entities if entity not in spine.keys]
    if missing:
        raise InputError(
            f"$.{missing[0]}: features of {view.name!r} need the key of {missing[0]!r}; "
            f"the spine has {', '.join(spine.keys) or 'no keys'}"
        )
    if view.stream not in events:
        raise InputError(
            f"features of {view.name!r} need the events of stream {view.stream!r}; "
            f"given are {', '.join(events) or 'none'}"
        )


def _read_view(view: ViewPlan, spine: Spine, batch: EventBatch, by_time: Ints) -> ViewValues:
    hashes = np.broadcast_to(key_hashes(view.entities, spine.keys), (len(spine), 2))
    ids, firsts = group(np.ascontiguousarray(hashes))
    columns = view_columns(view, batch)
    wanted = match(hashes[firsts], columns.hashes)
    return replay(
        view.layout,
        bucket(wanted, len(firsts)),
        columns.arrays(),
        bucket(ids, len(firsts), by_time),
        spine.t_us,
    )
