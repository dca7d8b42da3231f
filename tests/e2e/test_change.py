"""A server takes over another declaration while events come in and a client reads all the time; then it is killed at it."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from sevenfold.cli.load import load_system
from sevenfold.clock import SystemClock
from sevenfold.engines.offline import read_at
from sevenfold.errors import RunError
from sevenfold.features.frame import Spine
from sevenfold.loop.client import Client, admin_client
from sevenfold.loop.server_process import ServerProcess
from sevenfold.serving.definition import Definition
from sevenfold.serving.order import ChangeOrder, write_order
from sevenfold.stores.log import read_stream
from sevenfold.stores.open import open_store
from sevenfold.types import Texts

pytestmark = pytest.mark.timeout(900)
Connect = Callable[[ServerProcess, Path], Client]

KEYS = [{"customer": f"c{i}", "item": f"i{7 * i % 30}"} for i in range(12)]
ALTERED = (
    'sf.aggregate(item, sales, sf.count(windows=["1 h", "7 d"]), sf.sum("price", windows=["7 d"])),',
    'sf.aggregate(item, sales, sf.count(windows=["1 h", "7 d"]), '
    'sf.sum("price", windows=["7 d"]), sf.max("pieces", windows=["90 d"])),'
    'sf.aggregate(customer, sales, sf.count(windows=["30 d"]), sf.sum("price")),',
)


@dataclass
class Reader:
    """A client that reads features all the time and keeps every answer."""

    answers: list[dict[str, Any]] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self, client: Client) -> None:
        """Read until stopped, or until the server is gone."""
        with suppress(RunError):
            while not self.stopped.is_set():
                self.answers.append(client.post("/v1/features", {"rows": KEYS}))


def rows(rng: np.random.Generator, first: int, n: int) -> list[dict[str, Any]]:
    """Sales of the last hours, a fifth of them hours late."""
    now_us = SystemClock().now_us()
    return [
        {
            "line": f"l{first + i}",
            "sold_at": str(np.datetime64(now_us - int(rng.integers(0, 4 * 3_600_000_000)), "us")),
            "customer": f"c{rng.integers(15)}",
            "item": f"i{rng.integers(30)}",
            "pieces": int(rng.integers(1, 9)),
            "price": round(float(rng.lognormal(1)), 2),
            "basket": "b",
        }
        for i in range(n)
    ]


def check_answers(home: Path, answers: list[dict[str, Any]], systems: list[str]) -> dict[str, int]:
    """How many answers each definition gave, all of them compared with the offline engine."""
    store = open_store(f"lmdb:{home / 'store'}", readonly=True)
    try:
        with store.read() as txn:
            events = {"sales": read_stream(txn, "sales")}
    finally:
        store.close()
    counts = {}
    for definition in (Definition(load_system(name)) for name in systems):
        mine = [answer for answer in answers if answer["definition"] == definition.name]
        counts[definition.name] = len(mine)
        if not mine:
            continue
        keys = {
            name: Texts.of([row[name] for row in KEYS] * len(mine)) for name in ("customer", "item")
        }
        names = mine[0]["features"]
        spine = Spine(np.repeat([answer["t"] for answer in mine], len(KEYS)), keys)
        values = [
            [np.nan if value is None else value for value in row]
            for answer in mine
            for row in answer["values"]
        ]
        np.testing.assert_array_equal(
            read_at(definition.plan, names, spine, events).values, np.array(values)
        )
    assert sum(counts.values()) == len(answers), "every answer is by one definition or the other"
    return counts


def order(new: Path, home: Path) -> dict[str, Any]:
    """What `sevenfold change` answers."""
    command = [sys.executable, "-m", "sevenfold", "change", str(new), "--home", str(home), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    answer: dict[str, Any] = msgspec.json.decode(done.stdout.splitlines()[-1])
    return answer


@dataclass
class Traffic:
    """Events that go in and a reader that asks, over the lives of a server."""

    home: Path
    connect: Connect
    rng: np.random.Generator
    reader: Reader = field(default_factory=Reader)
    sent: int = 0

    def sell(self, client: Client, batches: int, size: int) -> None:
        """Send so many batches of sales."""
        for _ in range(batches):
            body = {"stream": "sales", "events": rows(self.rng, self.sent, size)}
            client.post("/v1/events", body)
            self.sent += size

    def read_beside(self, server: ServerProcess) -> threading.Thread:
        """A running thread that reads."""
        thread = threading.Thread(target=self.reader.run, args=(self.connect(server, self.home),))
        thread.start()
        return thread

    def die_while_filling(self, server: ServerProcess, new: Path) -> None:
        """Order a change and kill the server when 5,000 of 60,000 events are filled.

        The order is given without the command: filled it is in less time than a command takes to end.
        """
        client = self.connect(server, self.home)
        self.sell(client, 30, 2_000)
        reading = self.read_beside(server)
        write_order(self.home, ChangeOrder(str(new)))
        admin = admin_client(self.home)
        admin.post("/v1/change", {})
        while (status := admin.get("/v1/change"))["done"] < 5_000:
            assert status["state"] == "filling", "it was over before it could be killed"
            self.sell(client, 1, 5)
        os.kill(server.pid, signal.SIGKILL)
        reading.join()
        admin.close()

    def go_on(self, server: ServerProcess) -> dict[str, Any]:
        """Wait until the change is done; the status then."""
        client = self.connect(server, self.home)
        admin = admin_client(self.home)
        status = admin.get("/v1/change")
        assert status["state"] == "filling", "it goes on by itself"
        reading = self.read_beside(server)
        first = 0
        while status["state"] == "filling":
            self.sell(client, 1, 5)
            status = admin.get("/v1/change")
            first = first or status["done"]
        assert first >= 5_000, "from where it was"
        self.sell(client, 20, 5)
        self.reader.stopped.set()
        reading.join()
        admin.close()
        return status


def test_no_answer_is_wrong_while_it_changes_though_it_is_killed_at_it(
    stall: Path, tmp_path: Path, connect: Connect
) -> None:
    home, new = tmp_path / "home", tmp_path / "stall_new.py"
    home.mkdir()
    text = stall.read_text("utf-8")
    assert ALTERED[0] in text
    new.write_text(text.replace(*ALTERED), "utf-8")
    traffic = Traffic(home, connect, np.random.default_rng(4))
    with ServerProcess(str(stall), home) as server:
        traffic.die_while_filling(server, new)
    with ServerProcess(str(stall), home) as server:
        status = traffic.go_on(server)
    assert status["state"] == "none"
    answers = traffic.reader.answers
    counts = check_answers(home, answers, [str(stall), str(new)])
    assert list(counts)[1] == status["serving"]
    assert min(counts.values()) > 3, counts
    given = [answer["definition"] for answer in answers]
    assert given == sorted(given, key=list(counts).index), "it never goes back"
    assert not (home / "change.json").exists()
    assert "Traceback" not in (home / "server.log").read_text()


def test_a_file_that_was_edited_is_read_again_with_its_neighbours(
    stall: Path, tmp_path: Path, connect: Connect
) -> None:
    folder, home = tmp_path / "mine", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    file, beside = folder / "tea.py", folder / "tea_windows.py"
    text = stall.read_text("utf-8").replace(
        "import sevenfold as sf", "import sevenfold as sf\nimport tea_windows"
    )
    file.write_text(
        text.replace('sf.count(windows=["1 h", "7 d"])', "sf.count(windows=tea_windows.WINDOWS)"),
        "utf-8",
    )
    beside.write_text('WINDOWS = ["1 h", "7 d"]\n', "utf-8")
    with ServerProcess(str(file), home) as server:
        client = connect(server, home)
        before = client.post("/v1/features", {"rows": KEYS})
        beside.write_text('WINDOWS = ["1 h", "7 d", "28 d"]\n', "utf-8")
        assert order(file, home)["state"] == "none"
        after = client.post("/v1/features", {"rows": KEYS})
        assert set(after["features"]) - set(before["features"]) == {"item__count_28d"}
        file.write_text("import nothing_of_that_name\n", "utf-8")
        command = [sys.executable, "-m", "sevenfold", "change", str(file), "--home", str(home)]
        refused = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert refused.returncode == 2
        assert "nothing_of_that_name" in refused.stderr
        assert client.post("/v1/features", {"rows": KEYS})["definition"] == after["definition"]
