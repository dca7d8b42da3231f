"""What a change will cost is measured on the log itself."""

import numpy as np
import pytest

import sevenfold as sf
from sevenfold.features.plan import Plan, ViewPlan, compile_plan
from sevenfold.serving.backfill import fill
from sevenfold.serving.estimate import estimate
from sevenfold.stores.kv import Store
from sevenfold.stores.log import append
from sevenfold.stores.open import open_store
from sevenfold.types import EventBatch, Texts

user, item = sf.Entity("user"), sf.Entity("item")
stream = sf.Stream("s", time="at", keys=[user, item], fields={"x": sf.Number()})
other = sf.Stream("o", time="at", keys=[user], fields={})
PLAN: Plan = compile_plan(
    [
        sf.aggregate(user, stream, sf.count(windows=["1 h"]), sf.sum("x")),
        sf.aggregate([user, item], stream, sf.last("x")),
        sf.aggregate(user, other, sf.count(), name="others"),
    ]
)


def filled_store(n: int, per_batch: int = 5_000) -> Store:
    """A log of n events of which a tenth are of another stream."""
    store, rng = open_store("memory:"), np.random.default_rng(3)
    with store.write() as txn:
        for first in range(0, n, per_batch):
            size = min(per_batch, n - first)
            t_us = (np.arange(size) + first + 1) * 1_000_000
            users = Texts.of([f"u{i}" for i in rng.integers(0, 3_000, size)])
            items = Texts.of([f"i{i}" for i in rng.integers(0, 50, size)])
            ids = Texts.of([f"e{first + i}" for i in range(size)])
            of_other = first // per_batch % 10 == 9
            keys = {"user": users} if of_other else {"user": users, "item": items}
            fields = {} if of_other else {"x": rng.normal(size=size)}
            name = "o" if of_other else "s"
            append(txn, EventBatch(name, t_us, t_us, ids, keys, fields))
    return store


def truth(store: Store, view: ViewPlan) -> tuple[int, int]:
    """Keys and bytes of a view's states after filling it."""
    while not fill(store, [view], 100_000).complete:
        pass
    with store.read() as txn:
        sizes = [len(k) + len(v) for k, v in txn.scan("state") if k.startswith(view.view_id)]
    return len(sizes), sum(sizes)


def test_a_short_log_is_tried_as_a_whole() -> None:
    store = filled_store(20_000, per_batch=1_000)
    for cost, view in zip(estimate(store, PLAN.views), PLAN.views, strict=True):
        assert cost.exact
        assert cost.events == (2_000 if view.stream == "o" else 18_000)
        assert (cost.keys, cost.bytes) == truth(store, view)
        assert cost.seconds > 0


def test_a_long_log_is_sampled_and_what_grows_is_followed() -> None:
    store = filled_store(300_000)
    for cost, view in zip(estimate(store, PLAN.views), PLAN.views, strict=True):
        assert not cost.exact
        keys, size = truth(store, view)
        assert 0.9 * keys < cost.keys < 2.5 * keys
        assert 0.9 * size < cost.bytes < 2.5 * size
    assert estimate(store, PLAN.views)[0].events == pytest.approx(270_000, rel=0.1)


def test_an_empty_log_costs_nothing() -> None:
    (cost,) = estimate(open_store("memory:"), PLAN.views[:1])
    assert (cost.events, cost.keys, cost.bytes, cost.exact) == (0, 0, 0, True)
