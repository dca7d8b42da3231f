"""Streams that come in together leave what their runs would have left, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sevenfold as sf
from sevenfold.clock import SystemClock
from sevenfold.engines.online import OnlineEngine
from sevenfold.features.plan import compile_plan
from sevenfold.serving.ingest import Ingest
from sevenfold.serving.runs import runs
from sevenfold.sources.validate import Validator
from sevenfold.stores.kv import Transaction
from sevenfold.stores.log import raise_frontier
from sevenfold.stores.memory import MemoryStore
from sevenfold.stores.tables import LOG, META, STATE
from sevenfold.types import EventBatch

START_US = 400 * 86_400 * 1_000_000
user, ad = sf.Entity("user"), sf.Entity("ad")
ads = sf.Table(
    "ads",
    ad,
    {"bid": sf.Number(), "slogan": sf.Text()},
    time="at",
    known="known",
    id="id",
    delete="gone",
    horizon="2 s",
)
clicks = sf.Stream(
    "clicks",
    time="at",
    known="known",
    id="id",
    keys=[user, ad],
    optional_keys=[ad],
    fields={"depth": sf.Number()},
    enrich={"bid": sf.Lookup(ads, "bid"), "slogan": sf.Lookup(ads, "slogan", ttl="3 s")},
    horizon="2 s",
)
views = sf.Stream("views", time="at", known="known", id="id", keys=[user], fields={"x": sf.Text()})
STREAMS = {stream.name: stream for stream in (ads, clicks, views)}
FEATURES = [
    sf.aggregate(user, clicks, sf.count(windows=["1 min"]), sf.sum("bid")),
    sf.aggregate(user, views, sf.count(), sf.last("x"), name="seen"),
    sf.aggregate(ad, clicks, sf.distinct("slogan"), name="of_ad"),
]
PLAN = compile_plan(FEATURES, STREAMS.values())
Rows = list[tuple[str, dict[str, object]]]
Drawn = tuple[str, int, int, int, str | None]

row = st.tuples(
    st.sampled_from(sorted(STREAMS)),
    st.sampled_from((0, 0, 1, 2, 1_000_000, 2_000_000)),  # known so long after the one before
    st.sampled_from((0, 0, 1, 3_000_000)),  # and so long after it happened
    st.integers(0, 9),  # names the event
    st.sampled_from(("a", "b", None)),
)


def rows_of(drawn: list[Drawn]) -> Rows:
    known_us, rows = START_US, []
    for i, (stream, later, late, number, key) in enumerate(drawn):
        known_us += later
        one: dict[str, object] = {"id": f"e{number}", "at": known_us - late, "known": known_us}
        if stream == "ads":
            text = None if i % 5 == 2 else f"say {i}"
            one |= {"ad": key or "a", "bid": float(i), "slogan": text, "gone": i % 7 == 3}
        elif stream == "clicks":
            one |= {"user": f"u{number % 2}", "ad": key, "depth": None if i % 3 else 1.0}
        else:
            one |= {"user": key or "u0", "x": None if i % 4 == 1 else "ä" * (i % 3)}
        rows.append((stream, one))
    return rows


def opened(store: MemoryStore, told: list[EventBatch]) -> Ingest:
    class Listener:
        def observe(self, batch: EventBatch) -> None:
            told.append(batch)

    return Ingest(store, STREAMS, OnlineEngine(PLAN), SystemClock(), [Listener()])


def as_given(part: Rows) -> dict[str, list[dict[str, object]]]:
    given: dict[str, list[dict[str, object]]] = {}
    for stream, one in part:
        given.setdefault(stream, []).append(one)
    return given


def by_runs(ingest: Ingest, store: MemoryStore, part: Rows) -> Iterator[EventBatch]:
    """Each run logged and applied before the next."""
    batches = [
        Validator(STREAMS[name]).rows(rows, None, None).batch
        for name, rows in as_given(part).items()
    ]
    found = runs(batches, {"ads"})
    ends = [*found.starts[1:], len(found.which)]
    with store.write() as txn:
        for begin, end in zip(found.starts, ends, strict=True):
            run = found.parts[found.which[begin]].take(found.place[begin:end])
            yield ingest._take(txn, run)[0]


def contents(txn: Transaction) -> list[object]:
    """The log to the byte, but for its random name; the states; where the log ends."""
    ends = [txn.get(META, name) for name in (b"position", b"last_known_us")]
    return [list(txn.scan(LOG)), list(txn.scan(STATE)), ends]


def as_texts(batches: list[EventBatch]) -> list[tuple[object, ...]]:
    return [
        (batch.stream, batch.event_ids.to_list(), batch.known_us.tolist())
        for batch in batches
        if len(batch)
    ]


TURNS = [("views", 0, 0, 1, None), ("clicks", 0, 0, 2, "a"), ("ads", 0, 0, 3, "a")] * 4
SPECIAL = {
    "streams take turns at one instant": (TURNS, [5], 0),
    "a second delivery between two runs": (
        [("clicks", 0, 0, 2, "a"), ("views", 1, 0, 1, None), ("clicks", 0, 0, 2, "a"), TURNS[2]],
        [],
        0,
    ),
    "events come to one instant": ([("clicks", 1, 0, n, "a") for n in (9, 3, 7)], [2], 5),
    "rows of one time": (
        [("ads", 0, 0, 1, "a"), ("ads", 1, 1, 2, "a"), ("clicks", 1, 0, 3, "a")],
        [],
        0,
    ),
}


@pytest.mark.parametrize("what", SPECIAL)
def test_special_histories_leave_what_their_runs_do(what: str) -> None:
    require_same(*SPECIAL[what])


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(row, min_size=1, max_size=24),
    st.lists(st.integers(1, 24), max_size=2),
    st.sampled_from((0, 1, 5, 2_500_000)),
)
def test_the_log_and_the_states_are_those_of_one_run_after_the_other(
    drawn: list[Drawn], cuts: list[int], read_after_us: int
) -> None:
    require_same(drawn, cuts, read_after_us)


def require_same(drawn: list[Drawn], cuts: list[int], read_after_us: int) -> None:
    """Fail unless all at once, by parts cut at `cuts`, leave what one run after the other does."""
    rows, stores, told = rows_of(drawn), (MemoryStore(), MemoryStore()), ([], [])
    doors = [opened(store, heard) for store, heard in zip(stores, told, strict=True)]
    for store in stores:  # somebody has read: nothing becomes known before it any more
        with store.write() as txn:
            raise_frontier(txn, START_US + read_after_us)
    bounds = sorted({0, len(rows), *(cut for cut in cuts if cut < len(rows))})
    for begin, end in pairwise(bounds):
        part = rows[begin:end]
        results = doors[0].accept_together(as_given(part), history=True)
        kept = list(by_runs(doors[1], stores[1], part))
        told[1].extend(kept)
        for name, result in results.items():
            n = sum(len(batch) for batch in kept if batch.stream == name)
            assert (result.events, result.events + result.duplicates) == (
                n,
                len(as_given(part)[name]),
            )
    found = []
    for store in stores:
        with store.read() as txn:
            found.append(contents(txn))
    assert found[0] == found[1]
    assert as_texts(told[0]) == as_texts(told[1])


@pytest.mark.parametrize("given", [{}, {"views": []}, {"views": [], "ads": []}])
def test_nothing_comes_in_together(given: dict[str, list[object]]) -> None:
    results = opened(MemoryStore(), []).accept_together(given, history=True)
    assert [(result.events, result.position) for result in results.values()] == [(0, 0)] * len(
        given
    )


def test_a_block_of_each_run_whatever_is_refused_between() -> None:
    """Runs of one stream with a second delivery of another between them stay two blocks."""
    store = MemoryStore()
    drawn = [("views", 1, 0, 1, None), ("clicks", 1, 0, 2, "a"), ("views", 1, 0, 3, None)]
    drawn += [("clicks", 1, 0, 2, "a"), ("views", 1, 0, 4, None), ("views", 1, 0, 5, None)]
    opened(store, []).accept_together(as_given(rows_of(drawn)), history=True)
    with store.read() as txn:
        keys = [int.from_bytes(key, "big") for key, _ in txn.scan(LOG)]
    assert keys == [0, 1, 2, 3]
    assert np.all(np.diff(keys) == 1)
