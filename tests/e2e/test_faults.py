"""What breaks around a server, one by one, and what it does then: docs/explanation/faults.md says what it is to do.

One server lives through all of it, its old answers moving to files meanwhile, and at the end its log is whole and every vector in it is that of the offline engine.
"""

import http.client
import json
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sevenfold.cli.load import load_system
from sevenfold.clock import SystemClock, elapsed_s
from sevenfold.features.plan import compile_plan
from sevenfold.loop.server_process import ServerProcess
from sevenfold.models.rule import RuleModel
from sevenfold.registry.registry import Registry
from sevenfold.serving.prediction_log import find_prediction, read_predictions, sealed_files
from sevenfold.serving.sealed_answers import PREDICTIONS_FOLDER, SealedAnswers
from sevenfold.stores.open import open_store
from tests.e2e.test_crash import check_vectors

pytestmark = pytest.mark.timeout(300)
READ = ["item__count_7d"]
BACK_S = 60.0  # until all is well again, on the slowest machine


@dataclass
class Shop:
    """A running server with its home, and what it has answered."""

    server: ServerProcess
    home: Path
    registry: Registry
    names: int = 0
    given: dict[str, list[str]] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)

    def send(
        self, path: str, body: Any = None, raw: bytes | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """The status, headers and body of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        token = (self.home / "token").read_text().strip()
        data = json.dumps(body).encode() if raw is None else raw
        try:
            headers = {"Authorization": f"Bearer {token}"}
            posted = body is not None or raw is not None
            connection.request("POST" if posted else "GET", path, data if posted else None, headers)
            answer = connection.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, found, answer.read()
        finally:
            connection.close()

    def ask(self, name: str | None = None) -> tuple[int, dict[str, Any], dict[str, str]]:
        """An answer to somebody, noted: its status, body and headers."""
        self.names += name is None
        name = name or f"r{self.names}"
        request = {"request_id": name, "keys": {"customer": f"c{self.names % 5}"}}
        if name in self.given:
            request["keys"] = self.keys(name)
        status, headers, raw = self.send("/v1/recommend", request)
        body = json.loads(raw)
        if status == 200:
            self.given[name] = [item["item"] for item in body["items"]]
            self.refused.discard(name)
        else:
            self.refused.add(name)
        return status, body, headers

    def keys(self, name: str) -> dict[str, str]:
        """Whom an answer was for."""
        return {"customer": f"c{int(name[1:]) % 5}"}

    def sell(self, name: str) -> tuple[int, dict[str, Any]]:
        """What becomes of a post of one sale."""
        at = str(np.datetime64(SystemClock().now_us() - 60_000_000, "us"))
        row = {"line": name, "sold_at": at, "customer": "c1", "item": f"i{len(name) % 3}"}
        event = row | {"pieces": 1, "price": 2.0, "basket": "b"}
        status, _, raw = self.send("/v1/events", {"stream": "sales", "event": event})
        return status, json.loads(raw)

    def is_ready(self) -> bool:
        """What the server says of itself."""
        status, _, raw = self.send("/readyz")
        assert str(self.home).encode() not in raw
        return status == 200

    def wait_until_well(self) -> None:
        """Wait until the server is ready and answers at full quality; fail when it takes a minute."""
        until_s = elapsed_s() + BACK_S
        while elapsed_s() < until_s:
            if self.is_ready():
                status, body, _ = self.ask()
                if status == 200 and body["rung"] == "full":
                    return
            time.sleep(0.05)
        pytest.fail("the server is not well a minute after the fault was over")

    def wait_until_moved(self) -> None:
        """Wait until some answers have moved to files, as they do once there are enough; fail when it takes a minute."""
        store = open_store(f"lmdb:{self.home / 'store'}", readonly=True)
        until_s = elapsed_s() + BACK_S
        try:
            while elapsed_s() < until_s:
                with store.read() as txn:
                    if sealed_files(txn):
                        return
                time.sleep(0.05)
        finally:
            store.close()
        pytest.fail("nothing has moved to files after a minute")

    def refuses(self, code: str) -> bool:
        """Whether an answer is refused as it is to be where the log cannot be written; it names nothing inside."""
        status, body, headers = self.ask()
        if status == 200:
            return False
        said = body["error"]
        assert (status, said["code"], headers["retry-after"]) == (503, code, "1")
        assert "/" not in said["message"]
        assert str(self.home) not in json.dumps(body)
        return True


@pytest.fixture(scope="module")
def shop(stall: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A server that ranks by version 1."""
    home = tmp_path_factory.mktemp("faults")
    registry = Registry(home / "registry")
    promote(registry, register(registry, stall, tmp_path_factory.mktemp("model")))
    with ServerProcess(str(stall), home, ["--log-head", "8"]) as server:
        made = Shop(server, home, registry)
        for n in range(30):
            assert made.sell("x" * (n + 1))[0] == 200
        made.wait_until_well()
        yield made
        made.wait_until_well()
        made.wait_until_moved()
        check_log(made, stall)


def register(registry: Registry, stall: Path, folder: Path) -> int:
    """The version of a new rule."""
    hashes = compile_plan(load_system(str(stall)).features).definition_hashes(READ)
    RuleModel(READ[0], None, tuple(READ)).save(folder)
    made = registry.register(
        folder,
        name="rule",
        feature_names=READ,
        feature_hashes=hashes,
        metrics={},
        lineage={},
        created_us=0,
    )
    return made.version


def promote(registry: Registry, version: int) -> None:
    """Have a version serve."""
    registry.set_alias("champion", version, "test", 0)


def test_a_full_disk_refuses_and_room_heals(shop: Shop) -> None:
    limits = resource.prlimit(shop.server.pid, resource.RLIMIT_FSIZE)
    size = (shop.home / "store" / "data.mdb").stat().st_size
    known = next(iter(shop.given))
    resource.prlimit(shop.server.pid, resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        for _ in range(3_000):
            if shop.refuses("log_full"):
                break
        else:
            pytest.fail("3,000 answers fit into the pages that were free")
        assert not shop.is_ready()
        assert shop.send("/healthz")[0] == 200
        status, body, _ = shop.ask(known)  # what is on disk can be given again
        assert (status, body["repeated"]) == (200, True)
        for n in range(3_000):
            status, said = shop.sell(f"full{n}")
            if status != 200:
                break
        assert (status, said["error"]["code"]) == (503, "log_full")
    finally:
        resource.prlimit(shop.server.pid, resource.RLIMIT_FSIZE, limits)
    shop.wait_until_well()
    name = next(iter(shop.refused))
    status, body, _ = shop.ask(name)
    assert (status, body["repeated"]) == (200, False)
    assert shop.sell("after")[0] == 200


def test_a_store_that_is_taken_away_refuses_until_it_is_back(shop: Shop) -> None:
    (shop.home / "store").rename(shop.home / "away")
    try:
        assert shop.refuses("log_failed")
        assert shop.sell("gone")[0] == 503
        assert not shop.is_ready()
        assert shop.send("/healthz")[0] == 200
        assert not (shop.home / "store").exists()
    finally:
        (shop.home / "away").rename(shop.home / "store")
    shop.wait_until_well()
    assert shop.sell("gone")[1]["events"] == 1


def test_a_corrupt_model_is_refused_and_the_old_one_serves_on(
    shop: Shop, stall: Path, tmp_path: Path
) -> None:
    version = register(shop.registry, stall, tmp_path)
    model = shop.registry.get(version).model_folder
    file = next(path for path in sorted(model.rglob("*")) if path.is_file())
    file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
    # As a broken tool would: the registry itself points at nothing that is not whole.
    alias = shop.registry.alias_path("champion")
    whole = alias.read_bytes()
    alias.write_text(json.dumps({"version": version}))
    for _ in range(3):
        status, body, _ = shop.ask()
        assert (status, body["rung"], body["version"]) == (200, "full", 1)
    assert shop.is_ready()
    assert "model refused" in (shop.home / "server.log").read_text()
    alias.write_bytes(whole)
    shop.wait_until_well()


def test_without_its_registry_the_model_serves_on(shop: Shop, stall: Path, tmp_path: Path) -> None:
    (shop.home / "registry").rename(shop.home / "away")
    try:
        for _ in range(3):
            status, body, _ = shop.ask()
            assert (status, body["rung"], body["version"]) == (200, "full", 1)
        assert shop.is_ready()
    finally:
        (shop.home / "away").rename(shop.home / "registry")
    version = register(shop.registry, stall, tmp_path)
    promote(shop.registry, version)
    assert shop.ask()[1]["version"] == version
    promote(shop.registry, 1)
    assert shop.ask()[1]["version"] == 1


def test_poisoned_requests_make_nobody_elses_answer_worse(shop: Shop) -> None:
    poison = (
        b"",
        b"{",
        b"[" * 100_000,
        b'{"request_id":"p","keys":{"customer":7}}',
        b'{"request_id":"p","keys":{"nobody":"x"}}',
        b'{"request_id":"p","keys":{"customer":"c1"},"k":-1}',
        b'{"request_id":"p","keys":{"customer":"c1"},"timeout_ms":-5}',
        b'{"request_id":"p","keys":{"customer":"c1"},"t":1}',
        b'{"request_id":"\xff","keys":{"customer":"c1"}}',
    )
    for body in poison * 4:
        status, _, _ = shop.send("/v1/recommend", raw=body)
        assert 400 <= status < 500
        status, answer, _ = shop.ask()
        assert (status, answer["rung"], answer["degraded"]) == (200, "full", {})


def test_a_gigabyte_is_refused_before_it_comes_and_while_it_does(shop: Shop) -> None:
    before = memory_bytes(shop.server.pid)
    head = b"POST /v1/recommend HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    with socket.create_connection(("127.0.0.1", shop.server.port), timeout=60) as line:
        line.sendall(head + b"Content-Length: 1073741824\r\n\r\n")
        assert line.recv(4096).startswith(b"HTTP/1.1 413 ")
    with socket.create_connection(("127.0.0.1", shop.server.port), timeout=60) as line:
        line.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
        part = b"100000\r\n" + b" " * (1 << 20) + b"\r\n"
        sent = 0
        try:
            while sent < 1 << 30:
                line.sendall(part)
                sent += len(part)
        except OSError:
            pass  # it was cut off, as it is to be
    assert sent < 1 << 28
    assert memory_bytes(shop.server.pid) - before < 1 << 26
    assert shop.ask()[0] == 200


def test_slow_clients_keep_nobody_waiting(shop: Shop) -> None:
    body = b'{"request_id":"slow","keys":{"customer":"c1"}}'
    head = b"POST /v1/recommend HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n"
    whole = head % len(body) + body
    with ExitStack() as crowd:
        lines = []
        for n in range(200):
            line = socket.create_connection(("127.0.0.1", shop.server.port), timeout=60)
            lines.append(crowd.enter_context(line))
            line.sendall(whole[: 10 + n])  # in the head, or in the body
        for _ in range(20):
            assert shop.ask()[0] == 200
        lines[-1].sendall(whole[10 + 199 :])
        assert lines[-1].recv(4096).startswith(b"HTTP/1.1 200 ")


def check_log(shop: Shop, stall: Path) -> None:
    """What was given is logged as it was given, what was refused is not, and every vector is the offline engine's."""
    store = open_store(f"lmdb:{shop.home / 'store'}", readonly=True)
    sealed = SealedAnswers(shop.home / PREDICTIONS_FOLDER)
    try:
        with store.read() as txn:
            assert sealed_files(txn)
            for name, items in shop.given.items():
                found = find_prediction(txn, name, sealed)
                assert found is not None, f"the answer to {name} is lost"
                assert found.slate() == items
            assert all(find_prediction(txn, name, sealed) is None for name in shop.refused)
            logged = [p.request_id for p in read_predictions(txn, sealed=sealed)]
            assert len(logged) == len(set(logged))
            assert set(logged) - {"slow"} == set(shop.given)
            check_vectors(txn, compile_plan(load_system(str(stall)).features), sealed)
    finally:
        store.close()


def memory_bytes(pid: int) -> int:
    """The resident bytes of a process; 0 where the system does not say."""
    place = Path(f"/proc/{pid}/statm")
    return int(place.read_text().split()[1]) * resource.getpagesize() if place.exists() else 0
