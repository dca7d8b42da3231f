"""A job of a server that is killed at it: the next goes on, and every slate is there, as an answer would be."""

import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from sevenfold.clock import SystemClock, elapsed_s
from sevenfold.loop.client import Client
from sevenfold.loop.server_process import ServerProcess
from sevenfold.serving.job_records import read_jobs
from sevenfold.stores.open import open_store
from sevenfold.stores.tables import SLATES

pytestmark = pytest.mark.timeout(300)
Connect = Callable[[ServerProcess, Path], Client]
KEYS = [{"customer": f"c{i}"} for i in range(400)]
MANY = [{"customer": f"c{i}"} for i in range(10_000)]
"""More than are done by the time that the job is cancelled, however fast the machine."""


def sell(client: Client) -> None:
    """Some sales, so that there is something to recommend."""
    rng, now_us = np.random.default_rng(5), SystemClock().now_us()
    rows = [
        {
            "line": f"l{i}",
            "sold_at": str(np.datetime64(now_us - int(rng.integers(0, 3 * 3_600_000_000)), "us")),
            "customer": f"c{rng.integers(50)}",
            "item": f"i{rng.integers(40)}",
            "basket": "b",
            "pieces": int(rng.integers(1, 5)),
            "price": 2.5,
        }
        for i in range(400)
    ]
    client.post("/v1/events", {"stream": "sales", "events": rows})


def wait_for(what: str, client: Client, name: str, holds: Callable[[Any], bool]) -> dict[str, Any]:
    """How a job is once that holds; it has two minutes."""
    end_s = elapsed_s() + 120
    while not holds(told := client.get(f"/v1/jobs/{name}")):
        assert elapsed_s() < end_s, f"{what} did not come: {told}"
        time.sleep(0.01)
    return told


def test_a_job_outlives_its_server(stall: Path, tmp_path: Path, connect: Connect) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with ServerProcess(str(stall), home) as server:
        client = connect(server, home)
        sell(client)
        for name, keys in (("long", KEYS), ("gone", MANY)):
            told = client.post("/v1/jobs", {"keys": keys, "k": 3, "job_id": name})
            assert told["state"] == "queued"
        begun = wait_for("a first step", client, "long", lambda told: told["done"] > 0)
        server.kill()
    # The next has two processes: whichever is asked, the one that owns the store does the work.
    with ServerProcess(str(stall), home, ["--workers", "2"]) as server:
        client = connect(server, home)
        told = client.get("/v1/jobs/long")
        assert told["done"] >= begun["done"]  # what was told was on disk
        asked = 0
        while told["state"] != "done":  # answers are given beside it
            asked += 1
            answer = client.post(
                "/v1/recommend", {"request_id": f"r{asked}", "keys": KEYS[asked % 50]}
            )
            assert len(answer["items"]) == 10
            told = client.get("/v1/jobs/long")
            assert told["state"] in ("running", "done"), told
        assert (told["total"], told["pages"]) == (400, 4)
        request = urllib.request.Request(
            f"http://127.0.0.1:{server.port}/v1/jobs/gone",
            method="DELETE",
            headers={"Authorization": f"Bearer {(home / 'token').read_text().strip()}"},
        )
        with urllib.request.urlopen(request, timeout=20) as reply:
            assert msgspec.json.decode(reply.read())["state"] == "cancelled"
        found = [
            one
            for page in range(1, 5)
            for one in client.get(f"/v1/jobs/long/pages/{page}")["slates"]
        ]
        assert [one["keys"] for one in found] == KEYS
        assert all(len(one["items"]) == 3 for one in found)
        wait_for_the_cancelled_to_be_freed(home)


def wait_for_the_cancelled_to_be_freed(home: Path) -> None:
    """The slates of the cancelled job go beside the answers; those of the other stay."""
    end_s = elapsed_s() + 60
    store = open_store(f"lmdb:{home / 'store'}", readonly=True)
    try:
        while True:
            with store.read() as txn:
                states = {record.id: record.state for record in read_jobs(txn)}
                if txn.count(SLATES) == len(KEYS):
                    break
            assert elapsed_s() < end_s, "they are still there"
            time.sleep(0.01)
    finally:
        store.close()
    assert states == {"long": "done", "gone": "cancelled"}
