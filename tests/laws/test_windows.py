"""Windows and hops that nobody would choose: oracle = offline = online = restarted = from merged segments = Redis, bit for bit.

The other laws read one declaration with many aggregates. Here the declaration is drawn too: windows from a microsecond to
months, hops that divide neither their window nor one another nor a day, several of them over one state.
"""

import itertools
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sevenfold as sf
from sevenfold.engines.offline import read_at
from sevenfold.features.frame import Spine
from sevenfold.features.plan import compile_plan
from sevenfold.serving.histories import wanted_keys
from sevenfold.spec.aggregate import Aggregate, FeatureView
from sevenfold.stores.history import History
from sevenfold.stores.kv import Store
from sevenfold.stores.log import append, arrange, floor_us, read_stream
from sevenfold.stores.memory import MemoryStore
from sevenfold.stores.open import open_store
from sevenfold.testing.engine_suite import check_cuts, check_kept, check_offline
from sevenfold.testing.strategies import Log, logs
from sevenfold.types import Texts
from tests.laws.views import item, positive, stream, user

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
UNITS_US = (1, 1_000, 1_000_000, 60_000_000, 3_600_000_000, 86_400_000_000)
MOST_TILES = 60
KINDS: dict[str, Any] = {
    "count": lambda **spans: sf.count(**spans),
    "count_x": lambda **spans: sf.count("x", **spans),
    "sum": lambda **spans: sf.sum("x", **spans),
    "mean": lambda **spans: sf.mean("x", **spans),
    "var": lambda **spans: sf.var("x", **spans),
    "std": lambda **spans: sf.std("x", **spans),
    "min": lambda **spans: sf.min("x", **spans),
    "max": lambda **spans: sf.max("x", **spans),
    "first": lambda **spans: sf.first("x", **spans),
    "last": lambda **spans: sf.last("x", **spans),
    "last_nulls": lambda **spans: sf.last("x", nulls=True, **spans),
    "last_k": lambda **spans: sf.last_k("x", 3, **spans),
    "distinct": lambda **spans: sf.distinct("tag", cap=2, error=0.2, **spans),
    "quantile": lambda **spans: sf.quantile(
        "x", 0.7, error=0.1, smallest=0.2, largest=1e15, **spans
    ),
    "top_k": lambda **spans: sf.top_k("x", 2, tracked=3, **spans),
}
Span = tuple[int, int]


@st.composite
def spans(draw: st.DrawFn) -> Span:
    """A window and its hop in microseconds: round ones and ones that are a little more or less."""
    window = draw(st.sampled_from(UNITS_US)) * draw(st.integers(1, 40))
    window = max(window + draw(st.sampled_from((0, 0, -1, 1, 7, 1_003))), 1)
    least = -(-window // MOST_TILES)
    hop = draw(st.one_of(st.integers(least, window), st.sampled_from((window, -(-window // 7)))))
    return window, max(hop, least)


@st.composite
def declarations(draw: st.DrawFn) -> tuple[list[FeatureView], list[Span]]:
    """Views over one stream, and all spans that are in them; a kind has one window or several over one hop."""
    views, seen = [], []
    for n, entities in enumerate((user, [user, item])):
        found: dict[str, Aggregate] = {}
        for kind in draw(st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=4)):
            window, hop = draw(spans())
            longer = sorted({window, *draw(st.sampled_from(((), (2 * window + 1,))))})
            seen += [(one, hop) for one in longer]
            texts = [f"{one} us" for one in longer]
            found[kind] = KINDS[kind](windows=texts, hop=f"{hop} us")
        # Of one kind of moments only one may have a window's name; the last drawn stays.
        where = positive if draw(st.booleans()) else None
        views.append(sf.aggregate(entities, stream, *found.values(), name=f"view{n}", where=where))
    return views, seen


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[FeatureView], Log]:
    """A declaration, and a log that is read where its windows begin and end."""
    views, seen = draw(declarations())
    return views, draw(logs(largest=16, windows_us=seen))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases(), st.data())
def test_any_windows_and_hops_are_kept_and_read_alike(
    case: tuple[list[FeatureView], Log], data: st.DataObject
) -> None:
    views, log = case
    check_offline(views, log)
    check_kept(views, log, MemoryStore(), lambda store: store)
    check_cuts(views, log)
    check_merged(views, log, data)


def test_any_windows_and_hops_outlive_a_restart_in_every_store(redis: Any) -> None:
    numbers = itertools.count()

    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    @given(cases())
    def holds(case: tuple[list[FeatureView], Log]) -> None:
        with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
            for url in (f"lmdb:{folder}/store", redis.url(f"windows{next(numbers)}")):
                check_reopened(*case, url)

    holds()


def check_reopened(views: list[FeatureView], log: Log, url: str) -> None:
    """The law over a store that is opened anew before every read."""
    with ExitStack() as stack:
        opened: list[Store] = []

        def again(store: Store | None = None) -> Store:
            if store is not None:
                store.close()
            opened.append(open_store(url))
            return opened[-1]

        stack.callback(lambda: opened[-1].close())
        check_kept(views, log, again(), again)


def check_merged(views: list[FeatureView], log: Log, data: st.DataObject) -> None:
    """Segments that were built and merged on the way give what the events themselves give, in any parts."""
    plan, store = compile_plan(views), MemoryStore()
    size = data.draw(st.integers(1, 6), label="events of a segment")
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        history = History(Path(folder), wanted_keys(plan), segment_events=size, merge_events=2)
        for begin, end in itertools.pairwise([0, *log.cuts]):
            with store.write() as txn:
                append(txn, arrange(log.batch.take(np.arange(begin, end)), floor_us(txn)))
            history.extend(store, data.draw(st.integers(1, 4), label="head"))
        with store.read() as txn:
            events = read_stream(txn, "s")
        assert events is not None
        keys = {
            "user": Texts.of([one for _, one, _ in log.reads]),
            "item": Texts.of([one for _, _, one in log.reads]),
        }
        rows = Spine(np.array([t_us for t_us, _, _ in log.reads], dtype=np.int64), keys)
        expected = read_at(plan, plan.names, rows, {"s": events})
        kept = history.at(store)
        for memory, threads in ((1 << 30, 1), (1, 1), (1 << 30, 3)):
            found = read_at(plan, plan.names, rows, kept, None, memory, threads)
            assert found.values.tobytes() == expected.values.tobytes()
            assert found.states.tolist() == expected.states.tolist()
