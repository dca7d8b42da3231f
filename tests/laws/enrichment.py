"""Clicks that are enriched from a table of ads, and every way in which they can come in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

import sevenfold as sf
from sevenfold.clock import SystemClock
from sevenfold.engines.offline import read_at
from sevenfold.engines.online import OnlineEngine
from sevenfold.features.frame import Spine
from sevenfold.features.plan import compile_plan
from sevenfold.serving.ingest import Ingest
from sevenfold.stores.log import last_known_us, read_stream
from sevenfold.stores.memory import MemoryStore
from sevenfold.stores.tables import STATE
from sevenfold.testing import oracle
from sevenfold.types import EventBatch, Texts

_MIN_US = 60_000_000
_START_US = 400 * 24 * 60 * _MIN_US

user, ad, campaign = sf.Entity("user"), sf.Entity("ad"), sf.Entity("campaign")
ads = sf.Table(
    "ads",
    ad,
    {
        "campaign": sf.Id(),
        "bid": sf.Number(),
        "kind": sf.Category(["video", "text"]),
        "slogan": sf.Text(),
    },
    time="at",
    known="known",
    id="id",
    delete="gone",
)
clicks = sf.Stream(
    "clicks",
    time="at",
    known="known",
    id="id",
    keys=[user, ad, campaign],
    optional_keys=[ad],
    fields={"depth": sf.Number()},
    enrich={
        "campaign": sf.Lookup(ads, "campaign"),
        "bid_then": sf.Lookup(ads, "bid", ttl="3599.5 s"),
        "kind": sf.Lookup(ads, "kind"),
        "slogan": sf.Lookup(ads, "slogan", ttl="3599.5 s"),
    },
)
STREAMS = {"clicks": clicks, "ads": ads}
FEATURES = [
    sf.aggregate(campaign, clicks, sf.count(windows=["1 d"]), sf.sum("bid_then")),
    sf.aggregate(ad, clicks, sf.last("kind"), sf.distinct("slogan"), name="of_ad"),
]
PLAN = compile_plan(FEATURES, STREAMS.values())
Row = tuple[str, dict[str, Any]]
"""A stream and a row of it."""


@dataclass(frozen=True)
class History:
    """Rows in the order in which they became known, those of tables last at one instant; and where to cut."""

    rows: list[Row]
    cuts: list[int]


@st.composite
def histories(draw: st.DrawFn, largest: int = 24) -> History:
    """Rows of both streams with ties, late rows, deletes and nulls."""
    n = draw(st.integers(1, largest))
    known_us = _START_US
    rows: list[Row] = []
    for i in range(n):
        known_us += draw(st.sampled_from((0, 0, 1, _MIN_US, 60 * _MIN_US)))
        at = known_us - draw(st.sampled_from((0, 0, 1, _MIN_US, 90 * _MIN_US)))
        row = {"id": f"{i:03d}", "at": at, "known": known_us}
        if draw(st.booleans()):
            row |= {"user": "u", "ad": draw(st.sampled_from(("a", "a", "b", None))), "depth": 1.0}
            rows.append(("clicks", row))
        else:
            row |= {
                "ad": draw(st.sampled_from(("a", "a", "b"))),
                "campaign": draw(st.sampled_from(("c1", "c2", None))),
                "bid": draw(st.sampled_from((0.1, 0.2, None))),
                "kind": draw(st.sampled_from(("video", "text", None))),
                "slogan": draw(st.sampled_from(("Täglich frisch", "", None))),
                "gone": draw(st.sampled_from((False, False, None, True))),
            }
            rows.append(("ads", row))
    rows.sort(key=lambda row: (row[1]["known"], row[0] == "ads"))
    cuts = sorted(draw(st.sets(st.integers(1, n), max_size=4)) | {n})
    return History(rows, cuts)


def together(history: History) -> MemoryStore:
    """All rows in one call."""
    return _taken([history.rows])


def in_parts(history: History) -> MemoryStore:
    """Some rows a call, by another process each time."""
    return _taken(
        [history.rows[a:b] for a, b in zip([0, *history.cuts[:-1]], history.cuts, strict=True)]
    )


def one_by_one(history: History) -> MemoryStore:
    """A row a call."""
    store, ingest = MemoryStore(), None
    for stream, row in history.rows:
        ingest = ingest or _ingest(store)
        ingest.accept(stream, [row], history=True)
    return store


WAYS: tuple[Callable[[History], MemoryStore], ...] = (together, in_parts, one_by_one)


def check_enrichment(history: History) -> None:
    """However the rows come in, every event has what the table said strictly before it became known."""
    found = []
    for way in WAYS:
        store = way(history)
        with store.read() as txn:
            logged = [read_stream(txn, name) for name in ("clicks", "ads")]
            states = list(txn.scan(STATE))
            t_us = last_known_us(txn) + 1
        events, rows = (oracle.events_of(batch) if batch else [] for batch in logged)
        found.append({event.event_id: _values(event) for event in events})
        for event in events:
            expected = {
                name: oracle.looked_up(one, event, rows) for name, one in clicks.enrich.items()
            }
            assert _values(event) == expected, f"{way.__name__}: {event.event_id} of {history.rows}"
        batches = {batch.stream: batch for batch in logged if batch}
        assert states == _replayed(batches), f"{way.__name__}: the log replays to other states"
        _check_features(store, batches, t_us)
    assert found[0] == found[1] == found[2], "ways of coming in differ"


def _taken(parts: Sequence[Sequence[Row]]) -> MemoryStore:
    store = MemoryStore()
    for part in parts:
        rows: dict[str, list[Any]] = {}
        for stream, row in part:
            rows.setdefault(stream, []).append(row)
        _ingest(store).accept_together(rows, history=True)
    return store


def _ingest(store: MemoryStore) -> Ingest:
    return Ingest(store, STREAMS, OnlineEngine(PLAN), SystemClock())


def _values(event: oracle.OracleEvent) -> dict[str, Any]:
    fields = {name: event.fields.get(name) for name in clicks.enrich if name != "campaign"}
    return {"campaign": event.keys.get("campaign"), **fields}


def _replayed(batches: dict[str, EventBatch]) -> list[tuple[bytes, bytes]]:
    store, engine = MemoryStore(), OnlineEngine(PLAN)
    with store.write() as txn:
        for batch in batches.values():
            engine.apply(txn, batch)
        return list(txn.scan(STATE))


def _check_features(store: MemoryStore, batches: dict[str, EventBatch], t_us: int) -> None:
    if "clicks" not in batches:
        return
    keys = {"campaign": Texts.of(["c1", "c2"]), "ad": Texts.of(["a", "b"])}
    spine = Spine(np.array([t_us, t_us]), keys)
    offline = read_at(PLAN, PLAN.names, spine, batches)
    with store.read() as txn:
        online = OnlineEngine(PLAN).read(txn, PLAN.names, spine)
    np.testing.assert_array_equal(online.values, offline.values)
    for row, key in enumerate(zip(("c1", "c2"), ("a", "b"), strict=True)):
        asked = oracle.OracleRow(t_us, dict(zip(("campaign", "ad"), key, strict=True)))
        events = {name: oracle.events_of(batch) for name, batch in batches.items()}
        for name, value in oracle.read_at(FEATURES, asked, events).items():
            got = offline.column(name)[row]
            assert abs(got - value.value) <= value.slack or np.isnan(got) == np.isnan(
                value.value
            ), name
