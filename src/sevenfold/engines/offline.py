"""Features as of then: for every row of a spine, from the events visible at its instant."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from sevenfold.algebra.layout import Groups, Slices
from sevenfold.algebra.lookup import Numbers, is_lookup, lookup
from sevenfold.algebra.replay import replay
from sevenfold.engines.histories import KeyedHistory, reads_of
from sevenfold.engines.spine_keys import SpineKeys
from sevenfold.engines.threads import each_part
from sevenfold.errors import InputError
from sevenfold.features.assemble import Frame, Room, ViewValues, assemble
from sevenfold.features.exact import require_exact
from sevenfold.features.frame import FeatureFrame, Spine
from sevenfold.features.keyed import KeyedEvents, key_events
from sevenfold.features.plan import Plan, ViewPlan
from sevenfold.stores.history import StreamHistory, cuts
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
    threads: int = 1,
) -> FeatureFrame:
    """The features `names` of every row of `spine`, in its order: never a lost or a doubled row.

    `events` holds each stream's events in log order, or its history, of which about `memory_bytes` are held
    at a time. Only events of the spine's keys are walked, each once a view, by `threads` threads that share
    the keys; neither changes a bit of the answer. Raises NotFoundError for an unknown feature and InputError for a missing key or stream, and for a sum of whole numbers beyond 2^53.
    """
    plan.require(names)
    found: dict[str, ViewValues] = {}
    keys, bounds = SpineKeys(spine), (memory_bytes, max(threads, 1))
    frame = Frame(names, len(spine))
    for reading in plan.readings_for(names):
        view = reading.view
        _require(view, events)
        source = events[view.stream]
        wanted = keys.of(reading, found, in_order=not isinstance(source, EventBatch))
        if progress is not None:
            progress(reading.name)
        room = frame.room(reading.names, view.layout.n_reads)
        _read_view(view, source, wanted, spine.t_us, room, bounds)
        found[reading.name] = room.values.T, room.states.T
        require_exact(reading, found[reading.name][0])
    return assemble(plan, names, spine, found, frame)


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
    out: Room,
    bounds: tuple[int, int],
) -> None:
    """Write the values of a view, some keys at a time; each has its own rows of the answer."""
    hashes, reads = keys
    memory_bytes, threads = bounds
    if isinstance(source, EventBatch):
        keyed = key_events(view, source, hashes)
        fill = _filler(view, keyed, threads)
        at_once = -(-(len(keyed.known_us) + len(reads.rows)) // threads)
        sizes = keyed.slices.ends - keyed.slices.begins + np.diff(reads.starts)

        def part(low: int, high: int) -> None:
            begins, ends = keyed.slices
            fill(Slices(begins[low:high], ends[low:high]), reads_of(reads, low, high), t_us, out)

        each_part(part, cuts(sizes, max(at_once, 1)), threads)
    else:
        kept = KeyedHistory.of(view, source, hashes)

        def kept_part(low: int, high: int) -> None:
            keyed = kept.part(low, high)
            some = reads_of(reads, low, high)
            _filler(view, keyed, 1)(keyed.slices, some, t_us, out)

        each_part(kept_part, kept.cuts(memory_bytes, threads), threads)


def _filler(
    view: ViewPlan, keyed: KeyedEvents, threads: int
) -> Callable[[Slices, Groups, Ints, Room], None]:
    """What fills the rows of some keys; several threads may call it at once."""
    if not is_lookup(view.layout):
        columns = keyed.columns(view)
        return lambda slices, reads, t_us, out: replay(
            view.layout, slices, columns, reads, t_us, out
        )
    number: Callable[[int], Numbers] = partial(keyed.number, view)
    if threads > 1:  # else each is made when it is wanted, and let go of
        made = [number(i) for i in range(len(view.numbers))]
        number = made.__getitem__
    times = keyed.event_us, keyed.known_us
    return lambda slices, reads, t_us, out: lookup(
        view.layout, slices, times, number, reads, t_us, out
    )
