"""The laws of the two engines, as functions that raise AssertionError with the numbers when one is broken."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sevenfold.engines.offline import read_at
from sevenfold.engines.online import OnlineEngine
from sevenfold.features.frame import FeatureFrame, Spine
from sevenfold.features.plan import Plan, compile_plan, feature_names
from sevenfold.spec.aggregate import FeatureView
from sevenfold.stores.memory import MemoryStore
from sevenfold.testing.oracle import OracleValue, events_of, value_at
from sevenfold.testing.strategies import Log
from sevenfold.types import EventBatch, Texts

__all__ = ["check_cuts", "check_offline", "check_online", "check_spine"]


def check_offline(views: Sequence[FeatureView], log: Log) -> None:
    """The offline engine gives what the oracle gives, for every read."""
    plan = compile_plan(views)
    frame = _offline(plan, log.batch, log.reads)
    _compare("offline", views, log, frame, log.reads)


def check_online(views: Sequence[FeatureView], log: Log) -> None:
    """The online engine, fed in batches with reads between them, gives what both others give, bit for bit."""
    plan = compile_plan(views)
    engine, store = OnlineEngine(plan), MemoryStore()
    begin = 0
    for cut in log.cuts:
        with store.write() as txn:
            engine.apply(txn, log.batch.take(np.arange(begin, cut)))
        begin = cut
        last = int(log.batch.known_us[cut - 1])
        following = log.batch.known_us[cut] if cut < len(log.batch) else None
        reads = [
            read
            for read in log.reads
            if read[0] > last and (following is None or read[0] <= following)
        ]
        reads.append((last + 1, "a", "x"))
        if following is not None and following < last + 1:
            continue
        for read in reads:
            with store.read() as txn:
                online = engine.read(txn, plan.names, _spine([read]))
            _compare("online", views, log, online, [read])
            _same("online and offline", online, _offline(plan, log.batch, [read]))


def check_cuts(views: Sequence[FeatureView], log: Log) -> None:
    """However the log is cut into batches, the states are the same bytes."""
    plan = compile_plan(views)
    whole, parts = _states(plan, log.batch, [len(log.batch)]), _states(plan, log.batch, log.cuts)
    assert whole == parts, f"states differ when the log is cut at {log.cuts}"


def check_spine(views: Sequence[FeatureView], log: Log) -> None:
    """No row of a spine is lost, doubled or moved: a permuted, repeated spine gives permuted, repeated rows."""
    plan = compile_plan(views)
    frame = _offline(plan, log.batch, log.reads)
    order = [*reversed(range(len(log.reads))), 0]
    moved = _offline(plan, log.batch, [log.reads[i] for i in order])
    expected = FeatureFrame(frame.names, frame.values[order], frame.states[order])
    _same("a moved spine", moved, expected)


def _states(plan: Plan, batch: EventBatch, cuts: Sequence[int]) -> list[tuple[bytes, bytes]]:
    engine, store = OnlineEngine(plan), MemoryStore()
    begin = 0
    for cut in cuts:
        with store.write() as txn:
            engine.apply(txn, batch.take(np.arange(begin, cut)))
        begin = cut
    with store.read() as txn:
        return list(txn.scan("state"))


def _spine(reads: Sequence[tuple[int, str, str]]) -> Spine:
    return Spine(
        np.array([t for t, _, _ in reads], dtype=np.int64),
        {
            "user": Texts.of([user for _, user, _ in reads]),
            "item": Texts.of([i for _, _, i in reads]),
        },
    )


def _offline(plan: Plan, batch: EventBatch, reads: Sequence[tuple[int, str, str]]) -> FeatureFrame:
    return read_at(plan, plan.names, _spine(reads), {batch.stream: batch})


def _compare(
    who: str,
    views: Sequence[FeatureView],
    log: Log,
    frame: FeatureFrame,
    reads: Sequence[tuple[int, str, str]],
) -> None:
    events = events_of(log.batch)
    for view in views:
        names = iter(feature_names(view))
        for aggregate in view.aggregates:
            for window in aggregate.windows or (None,):
                column = frame.names.index(next(names))
                for row, (t_us, user, item) in enumerate(reads):
                    keys = {"user": user, "item": item}
                    key = [keys[entity.name] for entity in view.entities]
                    expected = value_at(view, aggregate, window, events, key, t_us)
                    got = float(frame.values[row, column])
                    state = int(frame.states[row, column])
                    assert _agree(got, state, expected), (
                        f"{who}: {frame.names[column]} of {key} at {t_us} is {got!r} (state {state}), "
                        f"by definition {expected.value!r} (state {expected.state})"
                    )


def _agree(got: float, state: int, expected: OracleValue) -> bool:
    if state != expected.state:
        return False
    if np.isnan(expected.value) or np.isnan(got):
        return bool(np.isnan(expected.value) and np.isnan(got))
    return abs(got - expected.value) <= expected.slack


def _same(what: str, a: FeatureFrame, b: FeatureFrame) -> None:
    bits_a, bits_b = a.values.view(np.int64), b.values.view(np.int64)
    null = np.isnan(a.values) & np.isnan(b.values)
    differ = ((bits_a != bits_b) & ~null) | (a.states != b.states)
    assert not differ.any(), (
        f"{what} differ in {[a.names[c] for c in np.flatnonzero(differ.any(axis=0))]}: "
        f"{a.values[differ]} and {b.values[differ]}"
    )
