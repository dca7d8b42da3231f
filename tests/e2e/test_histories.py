"""A server keeps histories by key as events arrive; killed at any moment, what is read from them is what the log says."""

import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from sevenfold.cli.load import load_system
from sevenfold.clock import SystemClock, elapsed_s
from sevenfold.engines.offline import read_at
from sevenfold.errors import RunError
from sevenfold.features.frame import Spine
from sevenfold.features.plan import compile_plan
from sevenfold.loop.client import Client, admin_client
from sevenfold.loop.server_process import ServerProcess
from sevenfold.serving.histories import wanted_keys
from sevenfold.stores.history import History
from sevenfold.stores.log import position, read_stream
from sevenfold.stores.open import open_store
from sevenfold.types import Texts

pytestmark = pytest.mark.timeout(600)
Connect = Callable[[ServerProcess, Path], Client]
HEAD = 300
ARGUMENTS = ["--history-head", str(HEAD)]
GONE = "mary-somerville"


def send(client: Client, rng: np.random.Generator, begin: int, n: int = 150) -> None:
    """Some sales; the last is of who is forgotten."""
    rows = []
    for i in range(begin, begin + n):
        at_us = SystemClock().now_us() - int(rng.integers(0, 3 * 3_600_000_000))
        who = GONE if i == begin + n - 1 else f"c{rng.integers(20)}"
        row = {"line": f"{who}:{i}", "sold_at": str(np.datetime64(at_us, "us"))}
        row |= {"customer": who, "item": f"i{rng.integers(40)}", "basket": "b"}
        rows.append({**row, "pieces": int(rng.integers(1, 5)), "price": 2.5})
    client.post("/v1/events", {"stream": "sales", "events": rows})


def metric(server: ServerProcess, what: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics", timeout=20) as answer:
        text = answer.read().decode()
    for line in text.splitlines():
        if line.startswith(f'sevenfold_history{{what="{what}"}}'):
            return float(line.split()[-1])
    pytest.fail(f"no metric of {what}")


def check(stall: Path, home: Path) -> int:
    """Offline from the histories as they lie there is offline from the log, bit for bit; how many segments."""
    plan = compile_plan(load_system(str(stall)).features)
    history = History(home / "history", wanted_keys(plan))
    store = open_store(f"lmdb:{home / 'store'}", readonly=True)
    try:
        with store.read() as txn:
            events = read_stream(txn, "sales")
        assert events is not None
        rng = np.random.default_rng(len(events))
        t_us = rng.choice(events.known_us, 60) + rng.integers(0, 2, 60)
        customers = [*(f"c{i}" for i in rng.integers(21, size=59)), GONE]
        items = [f"i{i}" for i in rng.integers(41, size=60)]
        spine = Spine(t_us, {"customer": Texts.of(customers), "item": Texts.of(items)})
        expected = read_at(plan, plan.names, spine, {"sales": events})
        kept = history.at(store)
        found = read_at(plan, plan.names, spine, kept)
        assert found.values.tobytes() == expected.values.tobytes()
        assert found.states.tobytes() == expected.states.tobytes()
        return sum(len(segments) for segments in kept["sales"].segments.values())
    finally:
        store.close()


def children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()] if path.exists() else []


def has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def wait_for(what: str, reached: Callable[[], bool], seconds: float = 120) -> None:
    deadline = elapsed_s() + seconds
    while not reached():
        assert elapsed_s() < deadline, what
        time.sleep(0.05)


def test_histories_are_kept_while_events_arrive(
    stall: Path, tmp_path: Path, connect: Connect
) -> None:
    rng = np.random.default_rng(7)
    with ServerProcess(str(stall), tmp_path, ARGUMENTS) as server:
        client = connect(server, tmp_path)
        for batch in range(12):
            send(client, rng, batch * 150)
        wait_for("it stays behind", lambda: metric(server, "events_behind") < HEAD)
        assert metric(server, "segments") > 0
        assert metric(server, "events") > 0
        assert metric(server, "bytes") > 0
        assert check(stall, tmp_path) > 0
        admin = admin_client(tmp_path)
        admin.post("/v1/forget", {"entity": "customer", "key": GONE})
        wait_for("not forgotten", lambda: admin.get("/v1/forget")["open"] == 0)
        admin.close()

        def clean() -> bool:
            files = [path for path in (tmp_path / "history").rglob("*") if path.is_file()]
            with suppress(FileNotFoundError):  # a merge beside us
                held = any(GONE.encode() in path.read_bytes() for path in files)
                return not held and metric(server, "events_behind") < HEAD
            return False

        wait_for("who was forgotten is in a history", clean)
        assert check(stall, tmp_path) > 0
        keepers = children(server.pid)
    wait_for("the process outlives its server", lambda: all(map(has_ended, keepers)), 20)
    assert "Traceback" not in (tmp_path / "server.log").read_text()


def strike(pid: int, whole: bool, keepers: list[int]) -> None:
    """Kill a server, or the process that keeps its histories only; `keepers` takes what it had."""
    keepers += children(pid)
    for one in [pid] if whole else keepers:
        os.kill(one, signal.SIGKILL)


def test_no_kill_of_the_server_or_of_its_keeper_leaves_a_wrong_value(
    stall: Path, tmp_path: Path, connect: Connect
) -> None:
    rng, sent = np.random.default_rng(11), 0
    for kill in range(5):
        server = ServerProcess(str(stall), tmp_path, ARGUMENTS)
        server.start()
        keepers: list[int] = []
        timer = threading.Timer(
            float(rng.uniform(0.8, 3.0)), strike, (server.pid, kill % 2 == 0, keepers)
        )
        timer.start()
        client = connect(server, tmp_path)
        deadline = elapsed_s() + 60
        while timer.is_alive() and elapsed_s() < deadline:
            with suppress(RunError):
                send(client, rng, sent)
            sent += 150
        timer.join()
        server.kill()
        for keeper in keepers:
            wait_for("the process outlives its server", lambda one=keeper: has_ended(one), 20)
        check(stall, tmp_path)
    with ServerProcess(str(stall), tmp_path, ARGUMENTS) as server:
        client = connect(server, tmp_path)
        wait_for("it stays behind", lambda: metric(server, "events_behind") < HEAD)
        assert check(stall, tmp_path) > 0
    store = open_store(f"lmdb:{tmp_path / 'store'}", readonly=True)
    with store.read() as txn:
        assert position(txn) > 1_000
    store.close()
    # The command that reads as of then mends what is damaged, whoever made it.
    for file in (tmp_path / "history").glob("*/customer+item/*/field.price"):
        raw = bytearray(file.read_bytes())
        raw[len(raw) // 3] ^= 32
        file.write_bytes(raw)
    answer = filled(stall, tmp_path)
    assert answer["rows"] == 3
    assert not list((tmp_path / "history").rglob(".*"))
    check(stall, tmp_path)


def filled(stall: Path, home: Path) -> Any:
    spine = home / "spine.csv"
    lines = [f"2100-01-01T00:00:00Z,c{i},i{i}" for i in range(3)]
    spine.write_text("\n".join(["t,customer,item", *lines]))
    command = [sys.executable, "-m", "sevenfold", "features", str(stall), "--home", str(home)]
    command += ["--spine", str(spine), "--out", str(home / "out.parquet"), "--json"]
    done = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return msgspec.json.decode(done.stdout.splitlines()[-1])
