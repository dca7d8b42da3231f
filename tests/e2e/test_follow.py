"""A follower killed at random moments goes on with nothing lost and nothing twice, from a folder and a database."""

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sevenfold.cli.load import load_system
from sevenfold.features.plan import compile_plan
from sevenfold.stores.log import blocks, position
from sevenfold.stores.open import open_store
from tests.e2e.test_crash import log_ids, replayed_state

pytestmark = pytest.mark.timeout(600)
Put = Callable[[list[dict[str, Any]]], None]
BEGIN = np.datetime64("2024-01-01T00:00:00", "s")


def sale(i: int) -> dict[str, Any]:
    """Line i of the stall, one every second."""
    return {
        "line": f"l{i}",
        "sold_at": f"{BEGIN + i}Z",
        "customer": f"c{i % 5}",
        "item": f"i{i % 30}",
        "pieces": 1 + i % 7,
        "price": i % 90 / 4,
        "basket": f"b{i // 3}",
    }


def folder_source(place: Path) -> tuple[str, Put]:
    """A folder, and what puts rows into it: whole files, renamed when they are finished."""
    folder = place / "incoming"
    folder.mkdir()

    def put(rows: list[dict[str, Any]]) -> None:
        name = f"{rows[0]['line'][1:]:>09}.jsonl"
        (folder / f".{name}").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / f".{name}").rename(folder / name)

    return f"folder:{folder}?settle=0 s", put


def database_source(place: Path) -> tuple[str, Put]:
    """A table, and what puts rows into it."""
    path = place / "shop.db"
    names = list(sale(0))
    with sqlite3.connect(path) as made:
        made.execute("pragma journal_mode = wal")
        made.execute(f"create table sales ({', '.join(names)}, primary key (line))")
    made.close()

    def put(rows: list[dict[str, Any]]) -> None:
        connection = sqlite3.connect(path, timeout=30)
        with connection:
            marks = ", ".join(f":{name}" for name in names)
            connection.executemany(f"insert into sales values ({marks})", rows)
        connection.close()

    return f"sqlite:{path}?table=sales&cursor=sold_at&overlap=20 s", put


def end_of(home: Path) -> int:
    """How many events the log has."""
    if not (home / "store" / "data.mdb").exists():
        return 0
    store = open_store(f"lmdb:{home / 'store'}", readonly=True)
    try:
        with store.read() as txn:
            return position(txn)
    finally:
        store.close()


def await_end(home: Path, wanted: int, process: "subprocess.Popen[bytes]") -> None:
    """Wait until the log has so many events."""
    until = time.monotonic() + 60
    while end_of(home) < wanted:
        assert process.poll() is None, "the follower has ended"
        assert time.monotonic() < until, f"{end_of(home)} of {wanted} events after a minute"
        time.sleep(0.05)


@pytest.mark.parametrize("make", [folder_source, database_source])
def test_no_kill_loses_or_doubles_a_row(
    make: Callable[[Path], tuple[str, Put]], stall: Path, tmp_path: Path
) -> None:
    address, put = make(tmp_path)
    home = tmp_path / "home"
    command = [sys.executable, "-m", "sevenfold", "ingest", str(stall), "sales", address]
    command += ["--home", str(home), "--follow", "0.01", "--json"]
    rng = np.random.default_rng(7)
    sent = 0
    for _ in range(4):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        await_end(home, sent, process)
        until = time.monotonic() + float(rng.uniform(0.3, 1.5))
        while time.monotonic() < until:
            n = int(rng.integers(1, 200))
            put([sale(i) for i in range(sent, sent + n)])
            sent += n
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    await_end(home, sent, process)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert json.loads(said.splitlines()[-1])["position"] == sent
    plan = compile_plan(load_system(str(stall)).features)
    store = open_store(f"lmdb:{home / 'store'}", readonly=True)
    try:
        with store.read() as txn:
            assert sorted(log_ids(txn)) == sorted(f"l{i}" for i in range(sent))
            assert list(txn.scan("state")) == replayed_state(txn, plan)
            assert sum(len(batch) for _, batch in blocks(txn)) == sent > 100
    finally:
        store.close()
