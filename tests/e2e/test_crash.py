"""A server killed at random moments has lost nothing that it acknowledged and doubled nothing.

`python -m pytest tests/e2e/test_crash.py --kills 50` kills it fifty times.
"""

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sevenfold.cli.load import load_system
from sevenfold.clock import SystemClock
from sevenfold.engines.offline import read_at
from sevenfold.engines.online import OnlineEngine
from sevenfold.errors import RunError
from sevenfold.features.frame import Spine
from sevenfold.features.plan import Plan, compile_plan
from sevenfold.loop.client import Client
from sevenfold.loop.server_process import ServerProcess
from sevenfold.serving.prediction_log import (
    Sealed,
    feature_names,
    find_prediction,
    read_predictions,
)
from sevenfold.stores.kv import Store, Transaction
from sevenfold.stores.log import blocks, position, read_stream
from sevenfold.stores.open import open_store
from sevenfold.types import Texts

pytestmark = pytest.mark.timeout(900)
Connect = Callable[[ServerProcess, Path], Client]

# What is refused depends on how fast the machine is; what is lost must not.
ANSWERS_ALL = ["--no-admission"]


@dataclass
class Traffic:
    """A client that remembers what it sent and what was acknowledged."""

    rng: np.random.Generator
    sent: set[str] = field(default_factory=set)
    known: set[str] = field(default_factory=set)
    answers: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    pending: tuple[str, dict[str, Any]] | None = None
    requests: int = 0
    name: str = ""

    def run(self, client: Client) -> None:
        """Send until the server dies; what it did not acknowledge goes first the next time."""
        while True:
            if self.pending is None:
                self.pending = self._next()
            path, body = self.pending
            try:
                answer = client.post(path, body)
            except RunError:
                return
            self._acknowledged(path, body, answer)
            self.pending = None

    def _next(self) -> tuple[str, dict[str, Any]]:
        if self.rng.random() < 0.4:
            self.requests += 1
            keys = {"customer": f"c{self.rng.integers(5)}"}
            return "/v1/recommend", {
                "request_id": f"{self.name}r{self.requests}",
                "keys": keys,
                "k": 5,
            }
        rows = [self._row() for _ in range(int(self.rng.integers(1, 40)))]
        return "/v1/events", {"stream": "sales", "events": rows}

    def _row(self) -> dict[str, Any]:
        fresh = not self.sent or self.rng.random() < 0.9
        name = f"{self.name}l{len(self.sent)}" if fresh else str(self.rng.choice(sorted(self.sent)))
        self.sent.add(name)
        at_us = SystemClock().now_us() - int(self.rng.integers(0, 3 * 3_600_000_000))
        return {
            "line": name,
            "sold_at": str(np.datetime64(at_us, "us")),
            "customer": f"c{self.rng.integers(5)}",
            "item": f"i{self.rng.integers(30)}",
            "pieces": int(self.rng.integers(1, 9)),
            "price": round(float(self.rng.lognormal(1)), 2),
            "basket": f"b{self.rng.integers(100)}",
        }

    def _acknowledged(self, path: str, body: dict[str, Any], answer: dict[str, Any]) -> None:
        if path == "/v1/events":
            assert answer["dead_letters"] == 0
            assert answer["events"] + answer["duplicates"] == len(body["events"])
            self.known.update(row["line"] for row in body["events"])
        else:
            self.answers[body["request_id"]] = answer["items"]


def kill_after(server: ServerProcess, seconds: float) -> threading.Timer:
    """A running timer that kills the server."""

    def kill() -> None:
        if server.pid:  # 0 would mean this process and its neighbours
            os.kill(server.pid, signal.SIGKILL)

    timer = threading.Timer(seconds, kill)
    timer.start()
    return timer


def log_ids(txn: Transaction) -> list[str]:
    """The ids of all events of the log."""
    return [name for _, batch in blocks(txn) for name in batch.event_ids.to_list()]


def replayed_state(txn: Transaction, plan: Plan) -> list[tuple[bytes, bytes]]:
    """The state table of a new store that has seen the log."""
    memory: Store = open_store("memory:")
    engine = OnlineEngine(plan)
    with memory.write() as into:
        for _, batch in blocks(txn):
            engine.apply(into, batch)
        return list(into.scan("state"))


def check_store(home: Path, plan: Plan, traffic: Traffic) -> None:
    """Nothing acknowledged is lost, nothing is doubled, the state is that of the log."""
    store = open_store(f"lmdb:{home / 'store'}", readonly=True)
    try:
        with store.read() as txn:
            ids = log_ids(txn)
            assert len(ids) == len(set(ids)) == position(txn)
            assert traffic.known <= set(ids) <= traffic.sent
            assert list(txn.scan("state")) == replayed_state(txn, plan)
            for name, items in traffic.answers.items():
                prediction = find_prediction(txn, name)
                assert prediction is not None, f"the answer to {name} is lost"
                assert prediction.slate() == [item["item"] for item in items]
            names = [prediction.request_id for prediction in read_predictions(txn)]
            assert len(names) == len(set(names)) <= traffic.requests
            check_vectors(txn, plan)
    finally:
        store.close()


def check_vectors(txn: Transaction, plan: Plan, sealed: Sealed | None = None) -> None:
    """Every vector that was logged is the one that the log gives for its instant, bit by bit."""
    events = read_stream(txn, "sales")
    answers = read_predictions(txn, sealed=sealed)
    predictions = [p for p in answers if p.logged and events is not None]
    if not predictions or events is None:
        return
    rows = [[p.items[row] for row in p.logged_rows()] for p in predictions]
    counts = [len(names) for names in rows]
    instants = np.repeat([p.t_us for p in predictions], counts)
    customers = np.repeat([p.keys["customer"] for p in predictions], counts)
    keys = {
        "customer": Texts.of(customers.tolist()),
        "item": Texts.of([name for names in rows for name in names]),
    }
    wanted = feature_names(txn, predictions[0].features)
    frame = read_at(plan, wanted, Spine(instants, keys), {"sales": events})
    logged = np.concatenate([p.logged_vectors() for p in predictions])
    np.testing.assert_array_equal(frame.vectors().view(np.uint32), logged.view(np.uint32))


def test_no_kill_loses_or_doubles_what_was_acknowledged(
    stall: Path, tmp_path: Path, connect: Connect, pytestconfig: pytest.Config
) -> None:
    kills = pytestconfig.getoption("--kills", 6)
    traffic = Traffic(np.random.default_rng(0))
    moments = np.random.default_rng(1)
    plan = compile_plan(load_system(str(stall)).features)
    for kill in range(kills):
        server = ServerProcess(str(stall), tmp_path, ANSWERS_ALL)
        server.start()
        timer = kill_after(server, float(moments.uniform(0, 1.2)))
        traffic.run(connect(server, tmp_path))
        timer.join()
        server.kill()
        check_store(tmp_path, plan, traffic)
        if kill % 3 == 1:
            die_at_start(stall, tmp_path, float(moments.uniform(0.2, 2)))
            check_store(tmp_path, plan, traffic)
    assert len(traffic.known) > 20 * kills
    assert len(traffic.answers) > kills
    with ServerProcess(str(stall), tmp_path, ANSWERS_ALL) as server:
        client = connect(server, tmp_path)
        for name, items in traffic.answers.items():
            keys = asked(tmp_path, name)
            again = client.post("/v1/recommend", {"request_id": name, "keys": keys, "k": 5})
            assert again["repeated"]
            assert again["items"] == items


@pytest.mark.parametrize("sync", ["always", "everysec"])
def test_no_kill_loses_an_answer_that_shared_its_write(
    stall: Path, tmp_path: Path, connect: Connect, sync: str
) -> None:
    """Eight clients at once: what is answered in one turn is written together, and none of it is given before that."""
    moments = np.random.default_rng(3)
    plan = compile_plan(load_system(str(stall)).features)
    everyone = [Traffic(np.random.default_rng(10 + n), name=f"c{n}") for n in range(8)]
    kills = 0
    # How many answers a second of a server gives is the machine's affair: it is killed until there are enough.
    while kills < 4 or len(together(everyone).answers) <= len(everyone):
        kills += 1
        assert kills <= 30, "thirty servers gave hardly any answers"
        server = ServerProcess(str(stall), tmp_path, [*ANSWERS_ALL, "--log-sync", sync])
        server.start()
        clients = [connect(server, tmp_path) for _ in everyone]
        pairs = zip(everyone, clients, strict=True)
        threads = [threading.Thread(target=one.run, args=(client,)) for one, client in pairs]
        timer = kill_after(server, float(moments.uniform(0.5, 1.5)))
        for thread in threads:
            thread.start()
        for thread in [*threads, timer]:
            thread.join(120)
            assert not thread.is_alive(), "a client hangs though its server is gone"
        server.kill()
        check_store(tmp_path, plan, together(everyone))


def together(everyone: list[Traffic]) -> Traffic:
    """What all of them sent and were told."""
    whole = Traffic(np.random.default_rng(0))
    for one in everyone:
        whole.sent |= one.sent
        whole.known |= one.known
        whole.answers |= one.answers
        whole.requests += one.requests
    return whole


def die_at_start(stall: Path, home: Path, seconds: float) -> None:
    """Kill a server that may not even be ready."""
    server = ServerProcess(str(stall), home, ANSWERS_ALL)
    timer = kill_after(server, seconds)
    with suppress(RunError):
        server.start()
    timer.join()
    server.kill()


def asked(home: Path, name: str) -> dict[str, str]:
    """The keys that a request named."""
    store = open_store(f"lmdb:{home / 'store'}", readonly=True)
    try:
        with store.read() as txn:
            prediction = find_prediction(txn, name)
            assert prediction is not None
            return prediction.keys
    finally:
        store.close()
