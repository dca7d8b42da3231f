"""The laws of the two engines, as functions that raise AssertionError with the numbers when one is broken.

Each takes the declared features, whose keys are `user` and `item` and whose stream is that of `logs()`, and
a log. `LAWS` holds them all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from sevenfold.engines.offline import read_at
from sevenfold.engines.online import OnlineEngine
from sevenfold.features.frame import FeatureFrame, Spine
from sevenfold.features.plan import Plan, compile_plan
from sevenfold.spec.aggregate import FeatureView
from sevenfold.spec.on_demand import OnDemand
from sevenfold.spec.through import Through
from sevenfold.stores.kv import Store
from sevenfold.stores.log import arrange, fresh
from sevenfold.stores.memory import MemoryStore
from sevenfold.stores.tables import STATE
from sevenfold.testing import oracle
from sevenfold.testing.strategies import Log, Read
from sevenfold.types import EventBatch, Texts

__all__ = [
    "LAWS",
    "check_cuts",
    "check_duplicates",
    "check_kept",
    "check_offline",
    "check_online",
    "check_rows",
    "check_spine",
    "check_unseen",
]

Features = Sequence[FeatureView | Through | OnDemand]

PRICE = 2.5
"""The request field `price` of every read."""

_FOR_EVER_US = 1 << 60


def check_offline(features: Features, log: Log) -> None:
    """The offline engine gives what the oracle gives, for every read."""
    plan = compile_plan(features)
    _compare("offline", features, log, _offline(plan, log.batch, log.reads), log.reads)


def check_online(features: Features, log: Log) -> None:
    """The online engine, fed in batches with reads between them, gives what both others give, bit for bit."""
    check_kept(features, log, MemoryStore(), lambda store: store)


def check_kept(features: Features, log: Log, store: Store, again: Callable[[Store], Store]) -> None:
    """What an empty `store` keeps of the log, opened `again` before every read, is what both others give.

    The law of `check_online` over any store: oracle, offline, online and restarted agree bit for bit, and the
    states in it are the bytes that a store in memory has.
    """
    plan = compile_plan(features)
    for begin, end in _parts(log):
        with store.write() as txn:
            OnlineEngine(plan).apply(txn, log.batch.take(np.arange(begin, end)))
        store = again(store)
        engine = OnlineEngine(plan)
        for read in _reads_between(log, end):
            with store.read() as txn:
                online = engine.read(txn, plan.names, _spine([read]))
            _compare("online", features, log, online, [read])
            _same("online and offline", online, _offline(plan, log.batch, [read]))
    with store.read() as txn:
        kept = list(txn.scan(STATE))
    assert kept == _states(plan, [log.batch]), "the states are not those of a store in memory"


def check_rows(features: Features, log: Log) -> None:
    """Keys read together, and one key read for all rows, give what each gives alone, bit for bit."""
    plan = compile_plan(features)
    engine, store = OnlineEngine(plan), MemoryStore()
    t_us = int(log.batch.known_us[-1]) + 1
    users, items = ["nobody", "a", "b", "a"], ["x", "y", "y", "x"]
    rows = [(t_us, user, item) for user, item in zip(users, items, strict=True)]
    shared = [(t_us, "a", item) for item in items]
    one = Spine(_spine(shared).t_us, {"user": Texts.of(["a"]), "item": Texts.of(items)}, _fields())
    with store.write() as txn:
        engine.apply(txn, log.batch)
        alone = [engine.read(txn, plan.names, _spine([row])) for row in rows]
        _same("keys together and alone", engine.read(txn, plan.names, _spine(rows)), _stack(alone))
        one_key = engine.read(txn, plan.names, one)
        _same("one key for all", one_key, engine.read(txn, plan.names, _spine(shared)))
    _same(
        "offline with one key for all", read_at(plan, plan.names, one, _events(log.batch)), one_key
    )


def check_cuts(features: Features, log: Log) -> None:
    """However the log is cut into batches, the states are the same bytes."""
    plan = compile_plan(features)
    whole = _states(plan, [log.batch])
    parts = _states(plan, [log.batch.take(np.arange(*part)) for part in _parts(log)])
    assert whole == parts, f"states differ when the log is cut at {log.cuts}"


def check_duplicates(features: Features, log: Log) -> None:
    """Events delivered twice at once, and all once more with every later batch, leave the same bytes."""
    plan = compile_plan(features)
    store = MemoryStore()
    accepted = []
    for begin, end in _parts(log):
        part = log.batch.take(np.arange(begin, end))
        again = EventBatch.concat([log.batch.take(np.arange(begin)), part, part])
        delivered = arrange(again, int(part.known_us[0]))
        with store.write() as txn:
            ids, known_us = delivered.event_ids, delivered.known_us
            accepted.append(
                delivered.take(fresh(txn, delivered.stream, ids, known_us, _FOR_EVER_US))
            )
    assert sum(map(len, accepted)) == len(log.batch), "duplicates were accepted or events refused"
    assert _states(plan, [log.batch]) == _states(plan, accepted), "duplicates change the states"


def check_spine(features: Features, log: Log) -> None:
    """No row of a spine is lost, doubled or moved, and each is what it is alone, bit for bit."""
    plan = compile_plan(features)
    frame = _offline(plan, log.batch, log.reads)
    order = [*reversed(range(len(log.reads))), 0]
    moved = _offline(plan, log.batch, [log.reads[i] for i in order])
    _same(
        "a moved spine", moved, FeatureFrame(frame.names, frame.values[order], frame.states[order])
    )
    alone = [_offline(plan, log.batch, [read]) for read in log.reads]
    _same("rows together and alone", frame, _stack(alone))


def check_unseen(features: Features, log: Log) -> None:
    """Events that become known at `t` or later change no bit of a value at `t`; nor do those of other keys.

    Of other keys than the one that is read; what a link leads to is not known here.
    """
    plan = compile_plan(features)
    own = [name for name in plan.stored if not plan.reading_by_feature[name].links]
    users, items = (np.array(log.batch.keys[name].to_list()) for name in ("user", "item"))
    for t_us, user, item in log.reads:
        known, of_keys = log.batch.known_us < t_us, (users == user) | (items == item)
        spine, events = _spine([(t_us, user, item)]), _events(log.batch)
        for names, seen in ((plan.names, known), (own, known & of_keys)):
            bare = read_at(plan, names, spine, _events(log.batch.take(seen)))
            _same(f"what is seen at {t_us} and all", bare, read_at(plan, names, spine, events))


LAWS: tuple[Callable[[Features, Log], None], ...] = (
    check_online,
    check_offline,
    check_unseen,
    check_duplicates,
    check_cuts,
    check_rows,
    check_spine,
)


def _parts(log: Log) -> list[tuple[int, int]]:
    return list(zip([0, *log.cuts[:-1]], log.cuts, strict=True))


def _reads_between(log: Log, end: int) -> list[Read]:
    """The reads that a live system could make once `end` events are applied and no more are known."""
    last = int(log.batch.known_us[end - 1])
    following = int(log.batch.known_us[end]) if end < len(log.batch) else _FOR_EVER_US
    reads = [*log.reads, (last + 1, "a", "x")]
    return [read for read in reads if last < read[0] <= following]


def _states(plan: Plan, batches: Sequence[EventBatch]) -> list[tuple[bytes, bytes]]:
    engine, store = OnlineEngine(plan), MemoryStore()
    for batch in batches:
        with store.write() as txn:
            engine.apply(txn, batch)
    with store.read() as txn:
        return list(txn.scan(STATE))


def _spine(reads: Sequence[Read]) -> Spine:
    users = Texts.of([user for _, user, _ in reads])
    items = Texts.of([item for _, _, item in reads])
    t_us = np.array([t for t, _, _ in reads], dtype=np.int64)
    return Spine(t_us, {"user": users, "item": items}, _fields())


def _fields() -> dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    return {"price": np.array([PRICE])}


def _events(batch: EventBatch) -> dict[str, EventBatch]:
    return {batch.stream: batch}


def _offline(plan: Plan, batch: EventBatch, reads: Sequence[Read]) -> FeatureFrame:
    return read_at(plan, plan.names, _spine(reads), _events(batch))


def _stack(frames: Sequence[FeatureFrame]) -> FeatureFrame:
    return FeatureFrame(
        frames[0].names,
        np.concatenate([frame.values for frame in frames]),
        np.concatenate([frame.states for frame in frames]),
    )


def _compare(
    who: str, features: Features, log: Log, frame: FeatureFrame, reads: Sequence[Read]
) -> None:
    events = {log.batch.stream: oracle.events_of(log.batch)}
    assert frame.values.shape == (len(reads), len(frame.names))
    for row, (t_us, user, item) in enumerate(reads):
        asked = oracle.OracleRow(t_us, {"user": user, "item": item}, {"price": PRICE})
        expected = oracle.read_at(features, asked, events)
        assert expected.keys() == set(frame.names)
        for column, name in enumerate(frame.names):
            got, state = float(frame.values[row, column]), int(frame.states[row, column])
            assert _agree(got, state, expected[name]), (
                f"{who}: {name} of {user}, {item} at {t_us} is {got!r} (state {state}), "
                f"by definition {expected[name].value!r} (state {expected[name].state})"
            )


def _agree(got: float, state: int, expected: oracle.OracleValue) -> bool:
    if state != expected.state or np.isnan(got) != np.isnan(expected.value):
        return False
    return bool(np.isnan(got)) or abs(got - expected.value) <= expected.slack


def _same(what: str, a: FeatureFrame, b: FeatureFrame) -> None:
    assert a.values.shape == b.values.shape, f"{what} differ in rows"
    null = np.isnan(a.values) & np.isnan(b.values)
    differ = ((a.values.view(np.int64) != b.values.view(np.int64)) & ~null) | (a.states != b.states)
    assert not differ.any(), (
        f"{what} differ in {[a.names[c] for c in np.flatnonzero(differ.any(axis=0))]}: "
        f"{a.values[differ]} and {b.values[differ]}"
    )
