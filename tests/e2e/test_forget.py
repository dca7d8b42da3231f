"""One customer leaves a home, by a server and by hand, each killed at it, and no file holds a byte of them."""

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from sevenfold.cli.load import load_system
from sevenfold.clock import SystemClock
from sevenfold.engines.online import OnlineEngine
from sevenfold.features.plan import compile_plan
from sevenfold.loop.client import Client, admin_client
from sevenfold.loop.server_process import ServerProcess
from sevenfold.serving.audit import audit_all
from sevenfold.serving.definition import Definition
from sevenfold.stores.history import History
from sevenfold.stores.log import blocks, position
from sevenfold.stores.open import open_store

pytestmark = pytest.mark.timeout(600)
Connect = Callable[[ServerProcess, Path], Client]
GONE = ["hildegard-von-bingen", "ada-of-the-analytical-engine"]
PEOPLE = [*GONE, *(f"c{i}" for i in range(20))]


def fill(client: Client, batches: int) -> int:
    """Sales and answers of everybody; how many events."""
    rng, sent = np.random.default_rng(5), 0
    for batch in range(batches):
        rows = []
        for _ in range(400):
            who = PEOPLE[rng.integers(len(PEOPLE))]
            at_us = SystemClock().now_us() - int(rng.integers(0, 3 * 3_600_000_000))
            row = {"line": f"{who}:{sent}", "sold_at": str(np.datetime64(at_us, "us"))}
            row |= {"customer": who, "item": f"i{rng.integers(40)}", "basket": "b"}
            rows.append({**row, "pieces": int(rng.integers(1, 5)), "price": 2.5})
            sent += 1
        rows.append({**rows[0], "line": "bad", "pieces": "many"})
        client.post("/v1/events", {"stream": "sales", "events": rows})
        who = PEOPLE[batch % len(PEOPLE)]
        client.post("/v1/recommend", {"request_id": f"{who}/{batch}", "keys": {"customer": who}})
    return sent


def make_history(stall: Path, home: Path) -> None:
    """Have the past kept by key in files of its own."""
    wanted = {
        "sales": [view.entities for view in compile_plan(load_system(str(stall)).features).views]
    }
    store = open_store(f"lmdb:{home / 'store'}", readonly=True)
    History(home / "history", wanted).extend(store, 1)
    store.close()
    assert [
        path for path in (home / "history").rglob("*") if path.is_file() and path.stat().st_size
    ]


def forget(stall: Path, home: Path, key: str, kill_after_s: float | None = None) -> Any:
    """What `sevenfold forget` answers; None when it was killed."""
    command = [sys.executable, "-m", "sevenfold", "forget", str(stall), "--home", str(home)]
    command += ["--entity", "customer", "--key", key, "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    timer = threading.Timer(kill_after_s or 120, process.kill)
    timer.start()
    out, err = process.communicate()
    timer.cancel()
    if process.returncode == -9:
        return None
    assert process.returncode == 0, err
    return msgspec.json.decode(out.splitlines()[-1])


def check(stall: Path, home: Path, gone: list[str], events: int) -> None:
    """States are a replay of the log, vectors of others are what it says, and it names nobody of `gone`."""
    definition = Definition(load_system(str(stall)))
    plan = compile_plan(definition.system.features)
    store, fresh = open_store(f"lmdb:{home / 'store'}", readonly=True), open_store("memory:")
    try:
        with store.read() as txn, fresh.write() as into:
            assert position(txn) == events
            for _, batch in blocks(txn):
                OnlineEngine(plan).apply(into, batch)
                assert not set(gone) & set(batch.keys["customer"].to_list())
            assert list(into.scan("state")) == list(txn.scan("state"))
            totals = list(audit_all(txn, definition, 1.0))[-1]
            assert totals.different == 0
            assert totals.compared > 100
    finally:
        store.close()


def test_killed_or_not_it_is_done_and_no_file_holds_the_key(
    stall: Path, tmp_path: Path, connect: Connect
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with ServerProcess(str(stall), home) as server:
        client = connect(server, home)
        events = fill(client, 60)
        body = {"entity": "customer", "key": GONE[0]}
        admin = admin_client(home)
        assert admin.post("/v1/forget", body)["open"] == 1
        admin.close()
        server.kill()
    with ServerProcess(str(stall), home) as server:
        client = connect(server, home)
        admin = admin_client(home)
        while admin.get("/v1/forget")["open"]:
            client.post("/v1/recommend", {"request_id": "between", "keys": {"customer": "c1"}})
        assert admin.get("/v1/forget")["events"] > 0
        admin.close()
        ask = {"request_id": "again", "keys": {"customer": GONE[0]}}
        client.post("/v1/features", {"rows": [{**ask["keys"], "item": "i1"}]})
    check(stall, home, GONE[:1], events)
    make_history(stall, home)
    moments = np.random.default_rng(1)
    for _ in range(4):
        forget(stall, home, GONE[1], float(moments.uniform(0.3, 2.5)))
    done = forget(stall, home, GONE[1])
    assert done["compacted"]
    check(stall, home, GONE, events)
    assert not list((home / "history").glob("*/*"))
    for path in home.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        for name in GONE:
            assert name.encode() not in content, path
    with ServerProcess(str(stall), home) as server:
        client = connect(server, home)
        answer = client.post("/v1/recommend", {"request_id": "last", "keys": {"customer": "c2"}})
        assert answer["items"]
