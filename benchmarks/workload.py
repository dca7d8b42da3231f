"""The rows of the offline benchmark, as our engine takes them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

import sevenfold as sf
from sevenfold.features.frame import Spine
from sevenfold.features.plan import Plan, compile_plan
from sevenfold.stores.history import StreamHistory
from sevenfold.stores.segment import Segment, write_segment
from sevenfold.types import EventBatch, Floats, Ints, Texts

VIEWS, COLUMNS = 3, 5
DAY_US = 86_400_000_000
WINDOWS = ("1 h", "24 h", "7 d", "30 d")


@dataclass(frozen=True)
class Workload:
    """Labels and events as columns; keys are whole numbers."""

    label_key: Ints
    label_us: Ints
    keys: list[Ints]
    event_us: list[Ints]
    columns: list[list[Floats]]


def make(labels: int, events: int, keys: int, seed: int) -> Workload:
    """Uniform random keys and instants over 90 days; events of a view have different instants."""
    rng = np.random.default_rng(seed)
    instants = [np.sort(rng.choice(90 * DAY_US, events, replace=True)) for _ in range(VIEWS)]
    return Workload(
        rng.integers(0, keys, labels),
        rng.integers(30 * DAY_US, 90 * DAY_US, labels),
        [rng.integers(0, keys, events) for _ in range(VIEWS)],
        instants,
        [[rng.normal(size=events) for _ in range(COLUMNS)] for _ in range(VIEWS)],
    )


def plans() -> tuple[Plan, Plan]:
    """The plan of the last values, and that of the windows."""
    user = sf.Entity("user")
    fields = {f"x{i}": sf.Number() for i in range(COLUMNS)}
    streams = [sf.Stream(f"s{v}", time="at", keys=[user], fields=fields) for v in range(VIEWS)]
    last = [
        sf.aggregate(user, stream, *(sf.last(name) for name in fields), name=stream.name)
        for stream in streams
    ]
    kinds = (sf.sum, sf.mean, sf.min, sf.max)
    windowed = [
        sf.aggregate(
            user,
            stream,
            sf.count(windows=WINDOWS),
            *(kind("x0", windows=WINDOWS) for kind in kinds),
            name=stream.name,
        )
        for stream in streams
    ]
    return compile_plan(last), compile_plan(windowed)


def ours_input(work: Workload) -> tuple[Spine, dict[str, EventBatch]]:
    """The workload as our engine takes it; the keys become text once, as they are in a log."""
    spine = Spine(work.label_us, {"user": digits(work.label_key)})
    events = {}
    for v in range(VIEWS):
        n = len(work.keys[v])
        empty = Texts(np.empty(0, np.uint8), np.zeros(n + 1, np.int64), np.ones(n, np.bool_))
        events[f"s{v}"] = EventBatch(
            f"s{v}",
            work.event_us[v],
            work.event_us[v],
            empty,
            {"user": digits(work.keys[v])},
            {f"x{i}": work.columns[v][i] for i in range(COLUMNS)},
        )
    return spine, events


def digits(numbers: Ints) -> Texts:
    """Whole numbers as text of eight digits."""
    width = 8
    out = np.empty((len(numbers), width), dtype=np.uint8)
    rest = numbers.copy()
    for place in range(width - 1, -1, -1):
        out[:, place] = ord("0") + rest % 10
        rest //= 10
    offsets = np.arange(len(numbers) + 1, dtype=np.int64) * width
    return Texts(out.reshape(-1), offsets, np.ones(len(numbers), np.bool_))


def keep(folder: Path, events: dict[str, EventBatch]) -> dict[str, StreamHistory]:
    """The events as one segment a stream."""
    user = ("user",)
    kept = {}
    for name, batch in events.items():
        place = folder / name / f"{0:020d}-{len(batch):020d}"
        segment = Segment.open(place) if place.exists() else write_segment(place, name, user, batch)
        kept[name] = StreamHistory(name, {user: (segment,)}, {user: None})
    return kept
