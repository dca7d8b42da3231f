"""The life of a server of several processes: who asks it, who sends to it, and what of it there is to see."""

import http.client
import os
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from sevenfold.cli.load import load_system
from sevenfold.clock import SystemClock, elapsed_s
from sevenfold.errors import RunError, ServingError
from sevenfold.loop.client import Client
from sevenfold.loop.server_process import ServerProcess
from sevenfold.models.rule import RuleModel
from sevenfold.registry.registry import Registry
from sevenfold.serving.definition import Definition
from sevenfold.serving.listening import connect_home
from sevenfold.serving.offers import SLOT_BYTES

WORKERS = 3
ITEMS = [f"i{n}" for n in range(12)]
PATIENCE_S = 120


class Door(http.client.HTTPConnection):
    """A connection to one of the processes, over its own socket in the home."""

    def __init__(self, home: Path, number: int) -> None:
        super().__init__("localhost", timeout=30)
        self._home, self._number = home, number

    def connect(self) -> None:
        self.sock = connect_home(self._home, 30, f"worker-{self._number}.sock")


@dataclass
class Life:
    """The server, its home, and all that it has answered."""

    server: ServerProcess
    home: Path
    system: str
    events: set[str] = field(default_factory=set)
    given: dict[str, dict[str, Any]] = field(default_factory=dict)
    read: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)

    @property
    def token(self) -> str:
        return (self.home / "token").read_text().strip()

    def port(self) -> Client:
        self.clients.append(Client(self.server.port, self.token, timeout_s=30))
        return self.clients[-1]

    def member(self, number: int) -> Client:
        """A client of one of the processes; 0 is the owner."""
        self.clients.append(Client(0, self.token, connection=Door(self.home, number)))
        return self.clients[-1]

    def pids(self) -> dict[int, int]:
        """The processes by their numbers."""
        listed = subprocess.run(
            ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(self.server.pid)],
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        found = {}
        for line in listed.splitlines():
            pid, _, arguments = line.strip().partition(" ")
            if "--place " in arguments:
                found[int(arguments.rpartition("--place ")[2].partition("/")[0])] = int(pid)
        return found

    def shows(self, number: int) -> bool:
        """Whether a process has made an answer that it does not know to be on disk yet."""
        with (self.home / "offers").open("rb") as file:
            file.seek(number * SLOT_BYTES)
            return file.read(4) != bytes(4)

    def metrics(self) -> dict[str, float]:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
        connection.close()
        pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    def is_back(self, number: int, before: int) -> bool:
        """Whether a process that was killed has another in its place, which answers."""
        if self.pids().get(number, before) == before:
            return False
        try:
            return self.member(number).get("/healthz") == {"status": "ok"}
        except RunError:
            return False


def wait_for(what: Callable[[], bool], words: str) -> None:
    until_s = elapsed_s() + PATIENCE_S
    while not what():
        assert elapsed_s() < until_s, f"not in {PATIENCE_S} s: {words}"
        time.sleep(0.05)


def sales(rng: np.random.Generator, names: list[str]) -> dict[str, Any]:
    """Events of the last hours."""
    now_us = SystemClock().now_us()
    rows = [
        {
            "line": name,
            "sold_at": str(np.datetime64(now_us - int(rng.integers(0, 3 * 3_600_000_000)), "us")),
            "customer": f"c{rng.integers(5)}",
            "item": str(rng.choice(ITEMS)),
            "pieces": int(rng.integers(1, 9)),
            "price": round(float(rng.lognormal(1)), 2),
            "basket": "b",
        }
        for name in names
    ]
    return {"stream": "sales", "events": rows}


class Sender(threading.Thread):
    """Sends events until stopped, by one of the processes."""

    def __init__(self, life: Life, number: int, most: int) -> None:
        super().__init__()
        self.life, self.number, self.most = life, number, most
        self.stopped = threading.Event()
        self.sent: list[str] = []
        self.failures: list[str] = []

    def run(self) -> None:
        rng = np.random.default_rng(self.number)
        client = self.life.member(self.number)
        for post in range(self.most):
            if self.stopped.is_set():
                return
            names = [f"s{self.number}-{id(self)}-{post}-{i}" for i in range(3)]
            try:
                client.post("/v1/events", sales(rng, names))
                self.sent += names
            except (RunError, ServingError) as error:
                self.failures.append(str(error))


class Asker(threading.Thread):
    """Asks one process, or the port, for rankings and features until stopped, and keeps every answer and failure."""

    def __init__(self, life: Life, name: str, number: int | None, most: int) -> None:
        super().__init__()
        self.life, self.name_, self.number, self.most = life, name, number, most
        self.stopped = threading.Event()
        self.given: dict[str, dict[str, Any]] = {}
        self.read: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.failures: list[str] = []
        self.n = 0

    def run(self) -> None:
        client = self.life.port() if self.number is None else self.life.member(self.number)
        while self.n < self.most and not self.stopped.is_set():
            name, customer = f"{self.name_}-{self.n}", f"c{self.n % 5}"
            self.n += 1
            try:
                body = {"request_id": name, "keys": {"customer": customer}, "items": ITEMS}
                self.given[name] = client.post("/v1/rank", body)
                key = {"customer": customer, "item": ITEMS[self.n % len(ITEMS)]}
                self.read.append((key, client.post("/v1/features", {"rows": [key]})))
            except (RunError, ServingError) as error:
                self.failures.append(str(error))

    def ended(self) -> "Asker":
        self.stopped.set()
        self.join()
        self.life.given |= self.given
        self.life.read += self.read
        return self


def promote(life: Life, by: str) -> int:
    """The version of a rule that is the champion from now on."""
    registry = Registry(life.home / "registry")
    folder = life.home / f"model{len(registry.versions())}"
    RuleModel(by, None, (by,)).save(folder)
    hashes = Definition(load_system(life.system)).plan.definition_hashes([by])
    made = registry.register(
        folder,
        name="rule",
        feature_names=[by],
        feature_hashes=hashes,
        metrics={},
        lineage={},
        created_us=0,
    )
    registry.set_alias("champion", made.version, "test", 0)
    return made.version


def connections_of(pid: int) -> set[int]:
    """The ports of the clients that a process has connections with."""
    sockets = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(file)
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            sockets.add(target[8:-1])
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        columns = line.split()
        if columns[9] in sockets and columns[3] == "01":
            found.add(int(columns[2].rpartition(":")[2], 16))
    return found


class Plain(threading.Thread):
    """Asks the port on one connection that it never makes anew, until that fails or all is asked."""

    def __init__(self, life: Life, name: str) -> None:
        super().__init__()
        self.life, self.name_ = life, name
        self.stopped = threading.Event()
        self.connection = http.client.HTTPConnection("127.0.0.1", life.server.port, timeout=60)
        self.connection.connect()
        assert self.connection.sock is not None
        self.local = self.connection.sock.getsockname()[1]
        self.statuses: list[int] = []
        self.lost: str | None = None

    def run(self) -> None:
        while not self.stopped.is_set() and len(self.statuses) < 5_000:
            name = f"{self.name_}-{len(self.statuses)}"
            body = {"request_id": name, "keys": {"customer": "c2"}, "items": ITEMS}
            try:
                self.connection.request("POST", "/v1/rank", msgspec.json.encode(body))
                response = self.connection.getresponse()
                raw = response.read()
            except (OSError, http.client.HTTPException) as error:
                self.lost = repr(error)
                break
            self.statuses.append(response.status)
            if response.status == 200:
                self.life.given[name] = msgspec.json.decode(raw)
        self.connection.close()


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
