"""A population scored beside a server that answers from the table, killed at it: the old table or the new one, never both."""

import subprocess
import sys
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
from sevenfold.serving.slate_table import Slate, served_table, slates_of, tables_in_making
from sevenfold.stores.kv import Store
from sevenfold.stores.open import open_store
from sevenfold.stores.tables import META, SLATES

pytestmark = pytest.mark.timeout(300)
Connect = Callable[[ServerProcess, Path], Client]
PEOPLE = [f"c{i}" for i in range(3_000)]


@pytest.fixture
def system(stall: Path, tmp_path: Path) -> Path:
    """The stall, answering from the table."""
    path = tmp_path / "batched.py"
    text = stall.read_text("utf-8")
    assert text.count("        limit=60,\n") == 1
    text = text.replace(
        "        limit=60,\n", '        limit=60,\n        mode="batch", max_age="1 h",\n'
    )
    path.write_text(text, "utf-8")
    return path


def begin(system: Path, home: Path, people: Path, *more: str) -> "subprocess.Popen[bytes]":
    """`sevenfold score` at work."""
    command = [sys.executable, "-m", "sevenfold", "score", str(system), "--home", str(home)]
    command += ["--population", str(people), "--json", *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process: "subprocess.Popen[bytes]") -> dict[str, Any]:
    """What it says at its end."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err.decode()
    said: dict[str, Any] = msgspec.json.decode(out.splitlines()[-1])
    return said


class Looking:
    """Asks for people while a population is scored, and compares each answer with the tables that it may be of."""

    def __init__(self, client: Client, store: Store) -> None:
        self._client, self._store = client, store
        self._rng = np.random.default_rng(1)
        self.answers = 0
        self.tables: dict[int, dict[str, Slate]] = {}

    def learn(self) -> int:
        """Take in the table that is served; its instant."""
        with self._store.read() as txn:
            table = served_table(txn)
        assert table is not None
        slates = slates_of(self._store, table.number)
        self.tables[table.as_of_us] = {slate.keys["customer"]: slate for slate in slates}
        return table.as_of_us

    def ask(self, said: dict[int, list[Any]]) -> None:
        """One answer: of a table that is known, or of one that came since, to be compared later (in `said`)."""
        who = PEOPLE[self._rng.integers(len(PEOPLE))]
        self.answers += 1
        body = {"request_id": f"look{self.answers}", "keys": {"customer": who}}
        answer = self._client.post("/v1/recommend", body)
        assert (answer["rung"], answer["degraded"]) == ("batch", {})
        assert answer["age_s"] >= 0
        said.setdefault(answer["as_of"], []).append((who, answer["items"]))

    def check(self, said: dict[int, list[Any]]) -> None:
        """Each was that of one table, whole."""
        for as_of_us, answers in said.items():
            for who, items in answers:
                slate = self.tables[as_of_us][who]
                assert [one["item"] for one in items] == slate.items[:10]
                assert [one["score"] for one in items] == np.frombuffer(slate.scores).tolist()[:10]


def making(store: Store) -> int:
    """How many keys of a table that is being written are done; -1 when none is."""
    with store.read() as txn:
        return max((table.done for table in tables_in_making(txn)), default=-1)


def test_killed_at_any_instant_one_whole_table_is_served(
    system: Path, tmp_path: Path, connect: Connect
) -> None:
    home, people = tmp_path / "home", tmp_path / "people.csv"
    home.mkdir()
    people.write_text("customer\n" + "\n".join(PEOPLE) + "\n", "utf-8")
    with ServerProcess(str(system), home) as server:
        client = connect(server, home)
        sell(client)
        first = finish(begin(system, home, people))
        assert (first["keys"], first["slates"], first["resumed"]) == (3_000, 3_000, 0)
        store = open_store(f"lmdb:{home / 'store'}", readonly=True)
        try:
            looking = Looking(client, store)
            looking.learn()
            said: dict[int, list[Any]] = {}
            as_of_us = SystemClock().now_us()
            again = "--as-of", str(as_of_us)
            for done in (0, 1_024):
                process = begin(system, home, people, *again)
                kill_at(process, store, done)
                looking.ask(said)
            last = begin(system, home, people, *again)
            while last.poll() is None:
                looking.ask(said)
            done = finish(last)
            assert done["as_of_us"] == as_of_us
            assert looking.learn() == as_of_us
            looking.ask(said)
            looking.check(said)
            assert as_of_us in said
            nothing_is_left_over(store)
            with urllib.request.urlopen(
                f"http://127.0.0.1:{server.port}/metrics", timeout=20
            ) as answer:
                lines = answer.read().decode().splitlines()
            assert f"sevenfold_table_number {float(done['table'])}" in lines
        finally:
            store.close()


def kill_at(process: "subprocess.Popen[bytes]", store: Store, done: int) -> None:
    """Kill it when so many keys of its table are done, at the latest when it has ended."""
    try:
        wait_until(lambda: making(store) >= done or process.poll() is not None)
    finally:
        process.kill()
        process.communicate()


def nothing_is_left_over(store: Store) -> None:
    """The store holds the slates of one table, and no note of another."""
    with store.read() as txn:
        assert txn.count(SLATES) == len(PEOPLE)
        notes = [key for key, _ in txn.scan(META, b"slates/", b"slates0")]
        assert notes == [b"slates/last"]


def sell(client: Client) -> None:
    """Some sales, so that there is something to recommend."""
    rng, now_us = np.random.default_rng(5), SystemClock().now_us()
    rows = [
        {
            "line": f"l{i}",
            "sold_at": str(np.datetime64(now_us - int(rng.integers(0, 3 * 3_600_000_000)), "us")),
            "customer": PEOPLE[rng.integers(50)],
            "item": f"i{rng.integers(40)}",
            "basket": "b",
            "pieces": int(rng.integers(1, 5)),
            "price": 2.5,
        }
        for i in range(400)
    ]
    client.post("/v1/events", {"stream": "sales", "events": rows})


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait, at most two minutes."""
    end_s = elapsed_s() + 120
    while not holds():
        assert elapsed_s() < end_s, "it did not come"
