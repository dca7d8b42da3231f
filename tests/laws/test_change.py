"""Whatever comes between (events, kills, changes of mind), the states that serve are those of a replay of the log."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import sevenfold as sf
from sevenfold.clock import ManualClock
from sevenfold.engines.online import OnlineEngine
from sevenfold.features.plan import Plan, compile_plan
from sevenfold.serving.backfill import Filled, backfill, expire, fill, free, kept_views, leave_out
from sevenfold.serving.ingest import Ingest
from sevenfold.stores.kv import Store
from sevenfold.stores.log import blocks
from sevenfold.stores.open import open_store

user, item = sf.Entity("user"), sf.Entity("item")
stream = sf.Stream(
    "s", time="at", id="name", keys=[user, item], fields={"x": sf.Number()}, timezone="UTC"
)
PLANS = [
    compile_plan(views)
    for views in (
        [sf.aggregate(user, stream, sf.count(windows=["1 h"]), sf.sum("x"))],
        [
            sf.aggregate(user, stream, sf.count(windows=["1 h"]), sf.sum("x")),
            sf.aggregate(item, stream, sf.last("x"), sf.decayed("x", half_life="1 h")),
        ],
        [
            sf.aggregate(user, stream, sf.count(windows=["2 h"]), sf.sum("x")),
            sf.aggregate([user, item], stream, sf.distinct("x", windows=["1 h"])),
        ],
    )
]
START_US = 1_700_000_000_000_000


class Home:
    """A store, the process that writes to it and a change that is under way."""

    def __init__(self) -> None:
        self.store = open_store("memory:")
        self.clock = ManualClock(START_US)
        self.sent = 0
        self.start(0)

    def start(self, plan: int) -> None:
        """A new process with a definition."""
        self.serving, self.target = plan, plan
        engine = OnlineEngine(PLANS[plan])
        self.ingest = Ingest(self.store, {"s": stream}, engine, self.clock)

    def sell(self, seeds: list[int]) -> None:
        """Events, some of them hours late."""
        self.clock.advance(600_000_000)
        rows: list[dict[str, Any]] = []
        for seed in seeds:
            at_us = self.clock.now_us() - seed * 60_000_000
            row = {"name": f"n{self.sent}", "at": str(np.datetime64(at_us, "us")), "x": seed / 4}
            rows.append({**row, "user": f"u{seed % 3}", "item": f"i{seed % 5}"})
            self.sent += 1
        self.ingest.accept("s", rows)

    def step(self, limit: int) -> None:
        """A slice of work towards the target; the switch when it is the last."""
        if self.target == self.serving:
            wanted = {view.view_id for view in PLANS[self.serving].views}
            expire(self.store, wanted, self.clock.now_us(), 1_200_000_000)
            free(self.store, limit)
            return
        filled = fill(self.store, PLANS[self.target].views, limit)
        assert filled.complete == (filled.done == filled.total)
        if filled.complete:
            with self.store.write() as txn:
                leave_out(txn, {view.view_id for view in PLANS[self.target].views})
            self.serving = self.target
            self.ingest.use({"s": stream}, OnlineEngine(PLANS[self.serving]))


def states(store: Store, plan: Plan) -> list[tuple[bytes, bytes]]:
    """The states of a plan's views."""
    names = {view.view_id for view in plan.views}
    with store.read() as txn:
        return [(key, value) for key, value in txn.scan("state") if key[:8] in names]


def replayed(store: Store, plan: Plan) -> list[tuple[bytes, bytes]]:
    """Those states as a new store that has seen the log has them."""
    fresh = open_store("memory:")
    with store.read() as txn, fresh.write() as into:
        for _, batch in blocks(txn):
            OnlineEngine(plan).apply(into, batch)
    return states(fresh, plan)


OPERATIONS = st.one_of(
    st.tuples(st.just("sell"), st.lists(st.integers(0, 300), max_size=6)),
    st.tuples(st.just("step"), st.integers(1, 9)),
    st.tuples(st.just("aim"), st.integers(0, 2)),
    st.tuples(st.just("start"), st.integers(0, 2)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(OPERATIONS, max_size=30))
def test_what_serves_is_always_a_replay_of_the_log(operations: list[tuple[str, Any]]) -> None:
    home = Home()
    for name, value in operations:
        if name == "aim":
            home.target = value
        else:
            getattr(home, name)(value)
        plan = PLANS[home.serving]
        with home.store.read() as txn:
            assert kept_views(txn) == {view.view_id for view in plan.views}
        assert states(home.store, plan) == replayed(home.store, plan)
    assert backfill(home.store, PLANS[home.serving]) == ()
    while not fill(home.store, PLANS[2].views, 4).complete:
        pass
    assert states(home.store, PLANS[2]) == replayed(home.store, PLANS[2])
    assert fill(home.store, PLANS[2].views, 4) == Filled(home.sent, home.sent, complete=True)
