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
from sevenfold.engines.histories import in_key_order, keyed_parts
from sevenfold.errors import InputError
from sevenfold.features.assemble import ViewValues, assemble
from sevenfold.features.exact import require_exact
from sevenfold.features.frame import FeatureFrame, Spine
from sevenfold.features.keyed import KeyedEvents, key_events
from sevenfold.features.plan import Plan, Reading, ViewPlan
from sevenfold.features.reach import reading_hashes
from sevenfold.stores.history import StreamHistory
from sevenfold.types import EventBatch, Ints

__all__ = ["MEMORY_BYTES", "read_at"]

Hashes = npt.NDArray[np.uint64]
MEMORY_BYTES = 1 << 30
"""What a read of kept histories holds of their events at a time."""


def read_at(
    plan: Plan,
    names: Sequence[str],
    spine: Spine,
    events: Mapping[str, EventBatch | StreamHistory],
    progress: Callable[[str], None] | None = None,
    memory_bytes: int = MEMORY_BYTES,
) -> FeatureFrame:
    """The features `names` of every row of `spine`, in its order: never a lost or a doubled row.

    `events` holds each stream's events in log order, or its history, of which about `memory_bytes` are held
    at a time. Only events of the spine's keys are walked, each once a view. Raises NotFoundError for an
    unknown feature and InputError for a missing key or stream, and for a sum of whole numbers beyond 2^53.
    """
    plan.require(names)
    found: dict[str, ViewValues] = {}
    keys = _SpineKeys(spine)
    for reading in plan.readings_for(names):
        view = reading.view
        _require(view, events)
        source = events[view.stream]
        wanted = keys.of(reading, found, in_order=not isinstance(source, EventBatch))
        if progress is not None:
            progress(reading.name)
        found[reading.name] = _read_view(view, source, wanted, spine.t_us, memory_bytes)
        require_exact(reading, found[reading.name][0])
    return assemble(plan, names, spine, found)


class _SpineKeys:
    """The rows of a spine by key and time, worked out once for all that is read under the same keys."""

    def __init__(self, spine: Spine) -> None:
        self._spine = spine
        self._by_time = _time_order(spine.t_us)
        self._known: dict[tuple[str, ...], tuple[Hashes, Groups]] = {}
        self._in_order: set[tuple[str, ...]] = set()

    def of(
        self, reading: Reading, found: Mapping[str, ViewValues], in_order: bool
    ) -> tuple[Hashes, Groups]:
        """The different keys, uint64 (g, 2), and the rows of each in order of time.

        With `in_order` the keys are in the order of segments, else in any.
        """
        links = reading.links
        ways = tuple(links[e].name if e in links else e for e in reading.view.entities)
        if ways not in self._known:
            hashes = reading_hashes(reading, self._spine, found)
            each = np.ascontiguousarray(np.broadcast_to(hashes, (len(self._spine), 2)))
            ids, firsts = group(each)
            self._known[ways] = each[firsts], bucket(ids, len(firsts), self._by_time)
        if in_order and ways not in self._in_order:
            self._known[ways] = in_key_order(*self._known[ways])
            self._in_order.add(ways)
        return self._known[ways]


def _time_order(t_us: Ints) -> Ints:
    if len(t_us) < 2 or bool(np.all(t_us[1:] >= t_us[:-1])):
        return np.arange(len(t_us), dtype=np.int64)
    return np.argsort(t_us, kind="stable").astype(np.int64)


def _require(view: ViewPlan, events: Mapping[str, object]) -> None:
    if view.stream not in events:
        raise InputError(
            f"features of {view.name!r} need the events of stream {view.stream!r}; "
            f"given are {', '.join(events) or 'none'}"
        )


def _read_view(
    view: ViewPlan,
    source: EventBatch | StreamHistory,
    keys: tuple[Hashes, Groups],
    t_us: Ints,
    memory_bytes: int,
) -> ViewValues:
    hashes, reads = keys
    out = _room(view, len(t_us))
    if isinstance(source, EventBatch):
        _fill(view, key_events(view, source, hashes), reads, t_us, out)
    else:
        for keyed, some_reads in keyed_parts(view, source, hashes, reads, memory_bytes):
            _fill(view, keyed, some_reads, t_us, out)
    return out


def _room(view: ViewPlan, n: int) -> ViewValues:
    width = view.layout.n_reads
    if is_lookup(view.layout):  # written a column at a time
        return np.empty((width, n), dtype=np.float64).T, np.empty((width, n), dtype=np.uint8).T
    return np.empty((n, width), dtype=np.float64), np.empty((n, width), dtype=np.uint8)


def _fill(view: ViewPlan, keyed: KeyedEvents, reads: Groups, t_us: Ints, out: ViewValues) -> None:
    if is_lookup(view.layout):
        times = keyed.event_us, keyed.known_us
        lookup(view.layout, keyed.slices, times, partial(keyed.number, view), reads, t_us, out)
    else:
        replay(view.layout, keyed.slices, keyed.columns(view), reads, t_us, out)
