"""The engines' law over the durable stores: oracle = offline = online = restarted, in LMDB and in Redis."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from sevenfold.engines.offline import read_at
from sevenfold.engines.online import OnlineEngine
from sevenfold.features.frame import Spine
from sevenfold.features.plan import compile_plan
from sevenfold.stores.log import append
from sevenfold.stores.open import open_store
from sevenfold.testing.engine_suite import check_kept
from sevenfold.testing.strategies import logs
from sevenfold.types import US_PER_S, EventBatch, Texts
from tests.laws.views import FEATURES, VIEWS

ROOT = Path(__file__).resolve().parents[3]
USERS, ITEMS = ["a", "b", "c", "nobody"], ["x", "y", "z", "x"]
READER = """
import json, sys
import numpy as np
from sevenfold.engines.online import OnlineEngine
from sevenfold.features.frame import Spine
from sevenfold.features.plan import compile_plan
from sevenfold.stores.log import last_known_us, position
from sevenfold.stores.open import open_store
from sevenfold.types import Texts
from tests.laws.views import VIEWS

store, plan = open_store(sys.argv[1], readonly=True), compile_plan(VIEWS)
engine, keys = OnlineEngine(plan), {"user": Texts.of(USERS), "item": Texts.of(ITEMS)}
at = -1
while at < END:
    with store.read() as txn:
        seen, t_us = position(txn), last_known_us(txn) + 1
        frame = engine.read(txn, plan.names, Spine(np.full(len(USERS), t_us), keys))
        assert position(txn) == seen
    if seen > max(at, 0):
        print(json.dumps([seen, t_us, frame.values.tobytes().hex(), frame.states.tobytes().hex()]), flush=True)
    at = seen
store.close()
"""


@pytest.fixture(params=["lmdb", "redis"])
def url(request, tmp_path: Path):
    """Gives the URL of the n-th store, empty."""
    if request.param == "lmdb":
        return lambda n: f"lmdb:{tmp_path / str(n)}"
    redis = request.getfixturevalue("redis")
    return lambda n: redis.url(f"laws{n}")


def test_the_law_of_the_engines(url) -> None:
    numbers = count()

    @settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
    @given(logs())
    def holds(log) -> None:
        address = url(next(numbers))
        opened = []

        def again(store=None):
            if store is not None:
                store.close()
            opened.append(open_store(address))
            return opened[-1]

        try:
            check_kept(FEATURES, log, again(), again)
        finally:
            opened[-1].close()

    holds()


def test_another_process_reads_features_while_this_one_ingests(url) -> None:
    """Each of its answers is, bit for bit, what the offline engine says of the events up to its position."""
    plan = compile_plan(VIEWS)
    events = arrivals(3_000)
    store = open_store(url("beside"))
    source = f"USERS, ITEMS, END = {USERS!r}, {ITEMS!r}, {len(events)}\n{READER}"
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    with subprocess.Popen(
        [sys.executable, "-c", source, url("beside")],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as reader:
        answers = []
        try:
            assert reader.stdout is not None
            for rows in np.array_split(np.arange(len(events)), 60):
                batch = events.take(rows)
                with store.write() as txn:
                    append(txn, batch)
                    OnlineEngine(plan).apply(txn, batch)
                if not answers:  # the first ones wait for it to be there
                    answers.append(reader.stdout.readline())
            answers += list(reader.stdout)
            assert reader.wait(60) == 0
        finally:
            reader.kill()
    store.close()
    assert len(answers) > 3
    keys = {"user": Texts.of(USERS), "item": Texts.of(ITEMS)}
    for position, t_us, values, states in map(json.loads, answers):
        spine = Spine(np.full(len(USERS), t_us), keys)
        frame = read_at(plan, plan.names, spine, {"s": events.take(np.arange(position))})
        assert frame.states.tobytes().hex() == states, position
        assert frame.values.tobytes().hex() == values, position


def arrivals(n: int) -> EventBatch:
    """Events of three users and items, a third of them late, in log order."""
    rng = np.random.default_rng(11)
    known = np.sort(rng.integers(0, 40 * 86_400, n)) * US_PER_S + np.arange(n)
    late = np.where(rng.random(n) < 0.3, rng.integers(0, 3_600, n) * US_PER_S, 0)
    x = np.where(rng.random(n) < 0.1, np.nan, rng.normal(size=n))
    return EventBatch(
        "s",
        known - late,
        known,
        Texts.of([str(i) for i in range(n)]),
        {
            "user": Texts.of(rng.choice(USERS[:3], n).tolist()),
            "item": Texts.of(rng.choice(ITEMS[:3], n).tolist()),
        },
        {"x": x, "tag": Texts.of(rng.choice(["p", "q", "r"], n).tolist())},
    )
