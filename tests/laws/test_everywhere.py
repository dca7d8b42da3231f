"""Rows of all kinds through the door of every store: oracle = offline = online = restarted = from histories, bit for bit.

Keys that are easily taken for one another, or for none; numbers at the ends of what a float64 holds; events late,
doubled, at one instant, and before their time.
"""

import itertools
import math
import os
import tempfile
import unicodedata
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sevenfold as sf
from sevenfold.clock import ManualClock
from sevenfold.engines.offline import read_at
from sevenfold.engines.online import OnlineEngine
from sevenfold.features.frame import FeatureFrame, Spine
from sevenfold.features.plan import compile_plan
from sevenfold.serving.histories import wanted_keys
from sevenfold.serving.ingest import Ingest
from sevenfold.stores.history import History
from sevenfold.stores.kv import Store
from sevenfold.stores.log import last_known_us, read_stream
from sevenfold.stores.memory import MemoryStore
from sevenfold.stores.open import open_store
from sevenfold.stores.tables import STATE
from sevenfold.testing.engine_suite import check_offline
from sevenfold.testing.strategies import Log
from sevenfold.types import Texts
from tests.laws.views import AGGREGATES, positive

pytestmark = pytest.mark.timeout(3_600)  # of the deep profile; the usual one takes some seconds
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
START_US = 1_700_000_000_000_000
MINUTE_US, DAY_US = 60_000_000, 86_400_000_000

user, item = sf.Entity("user"), sf.Entity("item")
stream = sf.Stream(
    "s", time="at", id="id", keys=[user, item], fields={"x": sf.Number(), "tag": sf.Id()}
)
FEATURES = [
    sf.aggregate(user, stream, *AGGREGATES, name="user"),
    sf.aggregate([user, item], stream, sf.count(windows=["1 h"]), sf.last("x"), name="pair"),
    sf.aggregate(item, stream, sf.sum("x", windows=["24 h"]), where=positive, name="item"),
    sf.aggregate(item, stream, sf.distinct("user", cap=4), sf.last("x"), name="whose"),
    sf.attribute(user, stream, "x", ttl="24 h", name="row"),
]
PLAN = compile_plan(FEATURES)

# Alike to a person, to a C string, to Unicode's normal forms, to a file name, to a number, to a null.
KEYS = (
    ("a", "A", "a ", " a", "a\n", "\ufeffa"),
    ("a\0", "a\x7f", "a\u0085", "a"),
    ("\u00e9", "e\u0301", "\u00c9"),
    ("\u00df", "ss", "\uff53\uff53"),
    ("1", "01", "1.0", "-0"),
    ("null", "None", "nan", "", "0"),
    ("\U0010ffff", "\U0001f375", "\ufffd", "\u200b"),
    ("k" * 256, "k" * 255, "k" * 257, "\u00e9" * 128, "\u00e9" * 129),
    ("user", "item", "a+b", "a/b", "../a", "a\x1fb"),
)
NUMBERS = (
    (0.0, -0.0, 5e-324, -5e-324, 2.2250738585072014e-308),
    (1.7976931348623157e308, -1.7976931348623157e308, 1e-308, 1.0),
    (1.0, 0.1, 1e16, -1e16, math.nan, None),
    (math.inf, -math.inf, 1.0, None),
)
DELAYS_US = (0, 0, 1, MINUTE_US, 60 * MINUTE_US, 40 * DAY_US)
AHEAD_US = (3_000_000, 60_000_000)
"""Within the clock's skew, and beyond."""


@st.composite
def arrivals(draw: st.DrawFn) -> list[tuple[int, list[dict[str, Any]]]]:
    """Batches of rows with the instants at which they arrive."""
    users = (*draw(st.sampled_from(KEYS)), *draw(st.sampled_from(((), (None,), ("\ud800",)))))
    items = draw(st.sampled_from(KEYS))
    numbers = st.sampled_from(draw(st.sampled_from(NUMBERS)))
    now_us, found, n = START_US, [], 0
    for _ in range(draw(st.integers(1, 4))):
        now_us += draw(st.sampled_from((1, 1_000_000, 61 * MINUTE_US, 8 * DAY_US)))
        rows = []
        for _ in range(draw(st.integers(1, 8))):
            ahead = draw(st.integers(0, 9)) == 0
            shift = draw(st.sampled_from(AHEAD_US)) if ahead else -draw(st.sampled_from(DELAYS_US))
            again = n > 0 and draw(st.integers(0, 5)) == 0
            rows.append(
                {
                    "id": f"e{draw(st.integers(0, n - 1)) if again else n}",
                    "at": now_us + shift,
                    "user": draw(st.sampled_from(users)),
                    "item": draw(st.sampled_from(items)),
                    "x": draw(numbers),
                    "tag": draw(st.sampled_from(("t", "\u00e9", "e\u0301", None))),
                }
            )
            n += not again
        found.append((now_us, rows))
    return found


def is_good(row: dict[str, Any], now_us: int) -> bool:
    """Whether a row can become an event, or be a second delivery of one: by the words of the definition."""
    keys = [row["user"], row["item"]]
    in_time = row["at"] - now_us <= 5_000_000
    return in_time and all(map(is_name, keys)) and (row["x"] is None or not math.isinf(row["x"]))


def is_name(key: str | None) -> bool:
    """Whether a text is a key: of 1 to 256 bytes of UTF-8, no control character, no half of a surrogate pair."""
    if not key or any(unicodedata.category(c) in ("Cc", "Cs") for c in key):
        return False
    return len(key.encode()) <= 256


class Place:
    """A store with what keeps it, which can be opened anew."""

    def __init__(self, name: str, again: Callable[[Store | None], Store]) -> None:
        self.name, self._again = name, again
        self.clock = ManualClock(START_US)
        self.store: Store | None = None
        self.reopen()

    def reopen(self) -> None:
        """As after a restart of the process."""
        self.store = self._again(self.store)
        self.engine = OnlineEngine(PLAN)
        self.ingest = Ingest(self.store, {"s": stream}, self.engine, self.clock)

    def close(self) -> None:
        if self.store is not None:
            self.store.close()


def durable(url: str) -> Callable[[Store | None], Store]:
    def again(store: Store | None) -> Store:
        if store is not None:
            store.close()
        return open_store(url)

    return again


def same(a: FeatureFrame, b: FeatureFrame) -> bool:
    return a.values.tobytes() == b.values.tobytes() and a.states.tobytes() == b.states.tobytes()


def test_every_store_and_way_gives_the_same(redis: Any) -> None:
    numbers = itertools.count()

    @settings(
        max_examples=max(settings.default.max_examples // 5, 10),
        suppress_health_check=list(HealthCheck),
    )
    @given(arrivals(), st.data())
    def holds(batches: list[tuple[int, list[dict[str, Any]]]], data: st.DataObject) -> None:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=MEMORY)))
            memory = MemoryStore()
            places = [
                Place("memory", lambda _: memory),
                Place("lmdb", durable(f"lmdb:{folder / 'store'}")),
                Place("redis", durable(redis.url(f"everywhere{next(numbers)}"))),
            ]
            for place in places:
                stack.callback(place.close)
            history = History(folder / "history", wanted_keys(PLAN), segment_events=3)
            for now_us, rows in batches:
                anew = data.draw(st.booleans(), label="restart")
                bad = [i for i, row in enumerate(rows) if not is_good(row, now_us)]
                for place in places:
                    if anew:
                        place.reopen()
                    place.clock.set(now_us)
                    result = place.ingest.accept("s", rows)
                    assert sorted({one.index for one in result.refused}) == bad
                    assert result.events + result.duplicates + len(bad) == len(rows)
                check(places, history, data)

    holds()


def check(places: list[Place], history: History, data: st.DataObject) -> None:
    """All stores hold the same and give the same, at the end of what they hold and before."""
    first, *others = places
    assert first.store is not None
    with first.store.read() as txn:
        events, states, t_us = (
            read_stream(txn, "s"),
            list(txn.scan(STATE)),
            last_known_us(txn) + 1,
        )
    if events is None:
        return
    users = [*dict.fromkeys(k for k in events.keys["user"].to_list() if k is not None), "nobody"]
    items = [*dict.fromkeys(k for k in events.keys["item"].to_list() if k is not None), "nothing"]
    pairs = list(itertools.product(users[-4:], items[-3:]))
    keys = {
        "user": Texts.of([one for one, _ in pairs]),
        "item": Texts.of([one for _, one in pairs]),
    }
    now = Spine(np.full(len(pairs), t_us), keys)
    expected = read_at(PLAN, PLAN.names, now, {"s": events})
    check_offline(FEATURES, Log(events, [len(events)], [(t_us, *pair) for pair in pairs[:3]]))
    for place in places:
        assert place.store is not None
        with place.store.read() as txn:
            assert list(txn.scan(STATE)) == states, place.name
            logged = read_stream(txn, "s")
            assert logged is not None
            assert logged.event_ids.to_list() == events.event_ids.to_list(), place.name
            assert logged.known_us.tolist() == events.known_us.tolist(), place.name
            online = place.engine.read(txn, PLAN.names, now)
        assert same(online, expected), place.name
    past = data.draw(st.lists(st.sampled_from(events.known_us.tolist()), min_size=1, max_size=3))
    then = Spine(
        np.repeat(past, len(pairs)),
        {name: Texts.of(texts.to_list() * len(past)) for name, texts in keys.items()},
    )
    lmdb = others[0].store
    assert lmdb is not None
    history.extend(lmdb, data.draw(st.integers(1, 8), label="head"))
    kept = history.at(lmdb)
    for spine in (now, then):
        whole = read_at(PLAN, PLAN.names, spine, {"s": events})
        assert same(read_at(PLAN, PLAN.names, spine, kept), whole)
        assert same(read_at(PLAN, PLAN.names, spine, kept, memory_bytes=300), whole)
