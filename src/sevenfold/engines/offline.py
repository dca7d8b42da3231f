"""Features as of then: for every row of a spine, from the events visible at its instant."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from sevenfold.algebra.grouping import bucket, group
from sevenfold.algebra.layout import Groups
from sevenfold.algebra.lookup import is_lookup, lookup
from sevenfold.algebra.replay import replay
from sevenfold.errors import InputError
from sevenfold.features.assemble import ViewValues, assemble
from sevenfold.features.frame import FeatureFrame, Spine
from sevenfold.features.keyed import KeyedEvents, key_events
from sevenfold.features.plan import Plan, Reading, ViewPlan
from sevenfold.features.reach import reading_hashes
from sevenfold.types import EventBatch, Ints

__all__ = ["read_at"]

Hashes = npt.NDArray[np.uint64]


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
    found: dict[str, ViewValues] = {}
    keys = _SpineKeys(spine)
    for reading in plan.readings_for(names):
        view = reading.view
        hashes, reads = keys.of(reading, found)
        _require(view, events)
        if progress is not None:
            progress(reading.name)
        keyed = key_events(view, events[view.stream], hashes)
        found[reading.name] = _read_view(view, keyed, reads, spine.t_us)
    return assemble(plan, names, spine, found)


class _SpineKeys:
    """The rows of a spine by key and time, worked out once for all that is read under the same keys."""

    def __init__(self, spine: Spine) -> None:
        self._spine = spine
        self._by_time = _time_order(spine.t_us)
        self._known: dict[tuple[str, ...], tuple[Hashes, Groups]] = {}

    def of(self, reading: Reading, found: Mapping[str, ViewValues]) -> tuple[Hashes, Groups]:
        """The different keys, uint64 (g, 2), and the rows of each in order of time."""
        links = reading.links
        ways = tuple(links[e].name if e in links else e for e in reading.view.entities)
        if ways not in self._known:
            hashes = reading_hashes(reading, self._spine, found)
            each = np.ascontiguousarray(np.broadcast_to(hashes, (len(self._spine), 2)))
            ids, firsts = group(each)
            self._known[ways] = each[firsts], bucket(ids, len(firsts), self._by_time)
        return self._known[ways]


def _time_order(t_us: Ints) -> Ints:
    if len(t_us) < 2 or bool(np.all(t_us[1:] >= t_us[:-1])):
        return np.arange(len(t_us), dtype=np.int64)
    return np.argsort(t_us, kind="stable").astype(np.int64)


def _require(view: ViewPlan, events: Mapping[str, EventBatch]) -> None:
    if view.stream not in events:
        raise InputError(
            f"features of {view.name!r} need the events of stream {view.stream!r}; "
            f"given are {', '.join(events) or 'none'}"
        )


def _read_view(view: ViewPlan, keyed: KeyedEvents, reads: Groups, t_us: Ints) -> ViewValues:
    n, width = len(t_us), view.layout.n_reads
    if is_lookup(view.layout):
        # A column at a time: each lies together.
        out = np.empty((width, n), dtype=np.float64).T, np.empty((width, n), dtype=np.uint8).T
        times = keyed.event_us, keyed.known_us
        lookup(view.layout, keyed.slices, times, partial(keyed.number, view), reads, t_us, out)
        return out
    out = np.empty((n, width), dtype=np.float64), np.empty((n, width), dtype=np.uint8)
    replay(view.layout, keyed.slices, keyed.columns(view), reads, t_us, out)
    return out
