"""Features now: the state of a store is worth what the log says, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sevenfold as sf
from sevenfold.engines.offline import read_at
from sevenfold.engines.online import OnlineEngine
from sevenfold.errors import InputError, NotFoundError, StoreError
from sevenfold.features.frame import Spine
from sevenfold.features.plan import Plan, compile_plan
from sevenfold.stores.kv import Store
from sevenfold.stores.memory import MemoryStore
from sevenfold.types import US_PER_S, EventBatch, Texts

Log = dict[str, EventBatch]
KEYS = {
    "user": Texts.of(["u0", "u1", "u2", None, "u1", "nobody"]),
    "item": Texts.of(["i0", "i1", None, "i2", "i2", "i0"]),
}


def spine(t_us: int) -> Spine:
    return Spine(np.full(6, t_us, dtype=np.int64), KEYS, {"budget": np.array([100.0])})


def in_order(events: Log, cuts: list[int]) -> list[EventBatch]:
    """The log as it is ingested: every stream's batches between the cuts (instants), in order."""
    edges = [0, *sorted(cuts), 1 << 62]
    return [
        batch.take((batch.known_us >= begin) & (batch.known_us < end))
        for begin, end in pairwise(edges)
        for batch in events.values()
    ]


def hold_against_the_log(
    plan: Plan, store: Store, events: Log, cuts: list[int], reads: list[int]
) -> None:
    engine = OnlineEngine(plan)
    batches = in_order(events, [*cuts, *reads])
    done = 0
    for t_us in sorted(reads):
        with store.write() as txn:
            while done < len(batches) and (
                not len(batches[done]) or batches[done].known_us[-1] < t_us
            ):
                engine.apply(txn, batches[done])
                done += 1
        with store.read() as txn:
            now = engine.read(txn, plan.names, spine(t_us))
        then = read_at(plan, plan.names, spine(t_us), events)
        assert now.names == then.names == plan.names
        np.testing.assert_array_equal(now.states, then.states)
        assert now.values.tobytes() == then.values.tobytes()


instants = st.integers(0, 5 * 3600).map(lambda seconds: seconds * US_PER_S)


@given(
    st.integers(0, 10_000),
    st.integers(0, 80),
    st.lists(instants, max_size=5),
    st.lists(instants, min_size=1, max_size=4),
)
def test_now_is_what_then_will_say(
    plan: Plan, log: Callable[[int, int], Log], seed: int, n: int, cuts: list[int], reads: list[int]
) -> None:
    hold_against_the_log(plan, MemoryStore(), log(seed, n), cuts, reads)


@pytest.mark.parametrize("seed", range(3))
def test_any_store_will_do(
    plan: Plan, store: Store, log: Callable[[int, int], Log], seed: int
) -> None:
    edges = (np.arange(1, 5) * 3600 * US_PER_S).tolist()
    hold_against_the_log(plan, store, log(seed, 400), [e - 1_000_000 for e in edges], edges)


def test_one_key_serves_all_rows_of_a_request(
    plan: Plan, store: Store, log: Callable[[int, int], Log]
) -> None:
    engine, t_us = OnlineEngine(plan), np.full(3, 20_000 * US_PER_S)
    names = ["user__count", "user_x_item__count_1h", "dear__sum_price_1h", "share"]
    items, budget = Texts.of(["i0", "i1", "i2"]), {"budget": np.array([5.0])}
    with store.write() as txn:
        for batch in log(4, 200).values():
            engine.apply(txn, batch)
        one = engine.read(
            txn, names, Spine(t_us, {"user": Texts.of(["u1"]), "item": items}, budget)
        )
        three = engine.read(
            txn, names, Spine(t_us, {"user": Texts.of(["u1"] * 3), "item": items}, budget)
        )
        none = engine.read(
            txn, names, Spine(t_us[:0], {"user": Texts.of(["u1"]), "item": Texts.of([])}, budget)
        )
    assert one.values.tobytes() == three.values.tobytes()
    assert none.values.shape == (0, 4)


def test_two_views_of_one_definition_do_not_count_twice(
    store: Store, log: Callable[[int, int], Log]
) -> None:
    user = sf.Entity("user")
    stream = sf.Stream("profiles", time="at", keys=[user], fields={"age": sf.Number()})
    twice = compile_plan([sf.aggregate(user, stream, sf.count(), name=name) for name in ("a", "b")])
    events = log(1, 60)
    engine = OnlineEngine(twice)
    with store.write() as txn:
        engine.apply(txn, events["profiles"])
        frame = engine.read(txn, twice.names, spine(20_000 * US_PER_S))
    users = events["profiles"].keys["user"].to_list()
    assert frame.values[:3].tolist() == [
        [users.count(u), users.count(u)] for u in ("u0", "u1", "u2")
    ]


def test_another_stream_and_no_events_leave_the_store_as_it_is(
    plan: Plan, log: Callable[[int, int], Log]
) -> None:
    store, engine, events = MemoryStore(), OnlineEngine(plan), log(1, 40)["sales"]
    with store.write() as txn:
        engine.apply(
            txn, EventBatch("other", events.event_us, events.known_us, events.event_ids, {}, {})
        )
        engine.apply(txn, events.take(np.zeros(40, dtype=np.bool_)))
        assert txn.count("state") == 0


def test_a_batch_in_which_nothing_counts_is_fine(
    plan: Plan, store: Store, log: Callable[[int, int], Log]
) -> None:
    events = log(1, 40)["sales"]
    nobody = {name: Texts.of([None] * 40) for name in events.keys}
    silent = {**events.fields, "price": np.full(40, np.nan)}
    engine = OnlineEngine(plan)
    with store.write() as txn:
        for keys, fields in (
            (nobody, events.fields),
            ({**events.keys, "user": nobody["user"]}, silent),
        ):
            engine.apply(
                txn,
                EventBatch(
                    "sales", events.event_us, events.known_us, events.event_ids, keys, fields
                ),
            )
        assert txn.count("state") == 0


def test_what_is_missing_is_named(plan: Plan) -> None:
    engine, store = OnlineEngine(plan), MemoryStore()
    t_us = np.array([1])
    with store.read() as txn:
        with pytest.raises(NotFoundError, match="no feature named 'nope'"):
            engine.read(txn, ["nope"], Spine(t_us, {}))
        with pytest.raises(
            InputError,
            match=r"\$\.user: features of 'user' need the key of 'user'; given are no keys",
        ):
            engine.read(txn, ["user__count"], Spine(t_us, {}))


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[:-1],
        lambda raw: raw[:-8],
        lambda raw: raw[:8],
        lambda raw: raw + bytes(8),
        lambda raw: bytes([255]) * len(raw),
        lambda raw: bytes([127]) * len(raw),
        lambda raw: raw + raw,
    ],
    ids=[
        "a byte short",
        "a word short",
        "a word alone",
        "a word long",
        "minus ones",
        "huge counts",
        "doubled",
    ],
)
def test_a_damaged_state_is_refused(
    plan: Plan, store: Store, log: Callable[[int, int], Log], damage: Callable[[bytes], bytes]
) -> None:
    engine, events = OnlineEngine(plan), log(1, 200)["sales"]
    with store.write() as txn:
        engine.apply(txn, events)
        for key, raw in list(txn.scan("state")):
            txn.put("state", key, damage(raw))
    with (
        store.read() as txn,
        pytest.raises(StoreError, match=r"the state of view 'user' .* is not one .* rebuild"),
    ):
        engine.read(txn, ["user__count"], spine(20_000 * US_PER_S))
    with pytest.raises(StoreError, match="the store is damaged"), store.write() as txn:
        engine.apply(txn, events)
