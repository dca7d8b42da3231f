"""One process, one home: who may come in, how it starts, and how it ends."""

import http.client
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sevenfold.clock import elapsed_s
from sevenfold.errors import RunError, ServingError
from sevenfold.loop.client import Client
from sevenfold.loop.server_process import ServerProcess

Connect = Callable[[ServerProcess, Path], Client]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of the server of these tests."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def server(stall: Path, home: Path) -> Iterator[ServerProcess]:
    """A running server."""
    with ServerProcess(str(stall), home) as running:
        yield running


def rows(names: list[str]) -> dict[str, Any]:
    """Events of one sale each."""
    row = {"sold_at": "2023-11-14T22:13:20", "customer": "ada", "item": "a", "pieces": 1}
    more = {"price": 2.5, "basket": "b"}
    return {"stream": "sales", "events": [{"line": name, **row, **more} for name in names]}


def test_the_home_says_where_the_server_is_and_hides_the_token(
    server: ServerProcess, home: Path
) -> None:
    described = msgspec.json.decode((home / "server.json").read_bytes())
    assert described["pid"] == server.pid
    assert described["url"] == f"http://127.0.0.1:{server.port}"
    started, *told = (home / "server.log").read_text().splitlines()
    assert started.startswith("stall: starting on a free port of 127.0.0.1")
    assert any(line.endswith(f"listening on {described['url']}") for line in told)
    assert stat.S_IMODE((home / "token").stat().st_mode) == 0o600
    assert len((home / "token").read_text().strip()) >= 32


def test_it_listens_on_this_machine_only(server: ServerProcess) -> None:
    address = socket.inet_aton("127.0.0.1")[::-1].hex().upper()
    table = Path("/proc/net/tcp")
    if not table.exists():
        pytest.skip("the system has no /proc/net/tcp")
    listening = [line.split()[1] for line in table.read_text().splitlines()[1:] if " 0A " in line]
    assert [one for one in listening if one.endswith(f":{server.port:04X}")] == [
        f"{address}:{server.port:04X}"
    ]


def test_events_go_in_and_recommendations_come_out(
    server: ServerProcess, home: Path, connect: Connect
) -> None:
    client = connect(server, home)
    assert client.post("/v1/events", rows(["x1", "x2", "x1"]))["duplicates"] == 1
    answer = client.post("/v1/recommend", {"request_id": "r1", "keys": {"customer": "ada"}})
    assert [item["item"] for item in answer["items"]] == ["a"]
    assert client.get("/readyz") == {"status": "ready"}
    stranger = Client(server.port, "another")
    with pytest.raises(ServingError, match="401"):
        stranger.post("/v1/events", rows(["x3"]))
    stranger.close()


def test_head_has_no_body_and_many_requests_one_connection(server: ServerProcess) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    for method in ("HEAD", "GET", "HEAD", "PUT", "GET"):
        connection.request(method, "/healthz")
        response = connection.getresponse()
        body = response.read()
        assert response.status == (405 if method == "PUT" else 200)
        assert bool(body) == (method != "HEAD")
        assert "server" not in response.headers
    connection.close()


def test_bytes_that_are_no_http_do_not_end_it(
    server: ServerProcess, home: Path, connect: Connect
) -> None:
    for raw in (
        b"\x00" * 50,
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/events HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw_socket:
            raw_socket.sendall(raw)
            raw_socket.shutdown(socket.SHUT_WR)
            raw_socket.recv(1000)
    assert connect(server, home).get("/healthz") == {"status": "ok"}


def test_two_servers_on_one_home_are_refused(
    server: ServerProcess, stall: Path, home: Path
) -> None:
    command = [sys.executable, "-m", "sevenfold", "serve", str(stall), "--home", str(home)]
    second = subprocess.run([*command, "--port", "0"], capture_output=True, text=True, timeout=60)
    assert second.returncode == 2
    assert "another server runs on" in second.stdout + second.stderr


def test_a_port_that_is_taken_is_named(server: ServerProcess, stall: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sevenfold", "serve", str(stall), "--home", str(tmp_path)]
    second = subprocess.run(
        [*command, "--port", str(server.port)], capture_output=True, text=True, timeout=60
    )
    assert second.returncode == 2
    assert f"cannot listen on 127.0.0.1:{server.port}" in second.stdout + second.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_the_answers_it_owes(
    stall: Path, tmp_path: Path, connect: Connect, number: signal.Signals
) -> None:
    server = ServerProcess(str(stall), tmp_path)
    server.start()
    client = connect(server, tmp_path)
    acknowledged: list[int] = []

    def send() -> None:
        for batch in range(10_000):
            try:
                client.post("/v1/events", rows([f"{batch}-{i}" for i in range(20)]))
            except RunError:
                return
            acknowledged.append(batch)

    sender = threading.Thread(target=send)
    sender.start()
    while len(acknowledged) < 3:
        threading.Event().wait(0.01)
    process = server._process
    assert process is not None
    os.kill(process.pid, number)
    begin_s = elapsed_s()
    assert process.wait(20) == 0
    assert elapsed_s() - begin_s < 10
    sender.join(20)
    assert not sender.is_alive()
    log = (tmp_path / "server.log").read_text()
    assert "Traceback" not in log
    with ServerProcess(str(stall), tmp_path) as again:
        position = connect(again, tmp_path).post("/v1/events", rows([]))["position"]
        assert position in (20 * len(acknowledged), 20 * len(acknowledged) + 20)
