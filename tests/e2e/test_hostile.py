"""What real servers of models were broken into by, tried on a real process of ours; and crowds at its door.

Each test of the first part stands for a hole that some server had; docs/explanation/threat-model.md names them.
"""

import contextlib
import gzip
import http.client
import json
import logging
import os
import pickle  # noqa: TID251  to attack with, never to read
import resource
import socket
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sevenfold.loop.client import Client, HomeConnection, admin_client
from sevenfold.loop.server_process import ServerProcess

TLS = Path(__file__).parent / "tls"
ASK = {"request_id": "r1", "keys": {"customer": "ada"}}
POSTS = ("/v1/events", "/v1/recommend", "/v1/rank", "/v1/features")
ADMIN = (
    ("GET", "/v1/change"),
    ("POST", "/v1/change"),
    ("POST", "/v1/forget"),
    ("POST", "/v1/reload"),
)


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        """What a reader of pickles would call."""
        return os.mknod, (str(self.mark),)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of the server of these tests."""
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def server(stall: Path, home: Path) -> Iterator[ServerProcess]:
    """A running server that loads nothing but rules."""
    with ServerProcess(str(stall), home, ["--load-kind", "rule"]) as running:
        yield running
        assert "Traceback" not in (home / "server.log").read_text(errors="replace")


def asked(
    server: ServerProcess, path: str, body: bytes, method: str = "POST", **headers: str
) -> tuple[int, bytes]:
    """The status and body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, given)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize(
    "kind",
    [
        "application/vnd.bentoml+pickle",
        "application/vnd.bentoml.pickle",
        "application/python-pickle",
        "application/x-pickle",
        "application/octet-stream",
        "application/vnd.apache.parquet",
        "multipart/form-data; boundary=x",
        "application/json",
    ],
)
@pytest.mark.parametrize("path", POSTS)
def test_no_content_type_makes_it_read_a_pickle(
    server: ServerProcess, home: Path, tmp_path: Path, path: str, kind: str
) -> None:
    mark = tmp_path / "ran"
    body = pickle.dumps(Bomb(mark))
    token = f"Bearer {(home / 'token').read_text().strip()}"
    for more in (
        {},
        {"Payload_Container": "NdarrayContainer", "Payload_Meta": "{}", "Batch_Size": "1"},
    ):
        status, said = asked(server, path, body, Content_Type=kind, Authorization=token, **more)
        assert status == 400
        assert json.loads(said)["error"]["code"] == "not_json"
    assert not mark.exists()


def test_a_compressed_body_is_not_unpacked(server: ServerProcess) -> None:
    bomb = gzip.compress(b'{"request_id":"' + b"0" * (64 << 20) + b'"}')
    assert len(bomb) < 100_000
    for coding in ("gzip", "deflate", "br", "zstd", "gzip, gzip"):
        status, said = asked(server, "/v1/recommend", bomb, Content_Encoding=coding)
        assert (status, json.loads(said)["error"]["code"]) == (415, "compressed")


@pytest.mark.parametrize(("method", "path"), ADMIN)
def test_what_changes_the_server_is_not_on_its_port(
    server: ServerProcess, home: Path, method: str, path: str
) -> None:
    token = f"Bearer {(home / 'token').read_text().strip()}"
    for spelling in (path, f"http://127.0.0.1:{server.port}{path}", path.replace("v1", "%761")):
        status, _ = asked(server, spelling, b"{}", method, Authorization=token)
        assert status == 404


def test_the_socket_in_the_home_is_its_owners_and_asks_for_a_token_too(
    server: ServerProcess, home: Path
) -> None:
    mode = os.stat(home / "admin.sock").st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    client = admin_client(home)
    assert client.get("/v1/change")["state"] == "none"
    assert client.get("/readyz") == {"status": "ready"}
    client.close()
    for path, headers, wanted in (
        ("/v1/change", {}, 401),
        ("/v1/change", {"Authorization": "Bearer x"}, 401),
        ("/v1/recommend", {"Authorization": f"Bearer {(home / 'token').read_text().strip()}"}, 404),
    ):
        connection = HomeConnection(home, 20)
        connection.request("POST", path, json.dumps(ASK), headers)
        assert connection.getresponse().status == wanted
        connection.close()


def test_an_order_to_change_names_no_place_of_its_own(server: ServerProcess, home: Path) -> None:
    """The place of a declaration comes from the home, never from a request: there is nothing to fetch."""
    connection = HomeConnection(home, 20)
    token = {"Authorization": f"Bearer {(home / 'token').read_text().strip()}"}
    body = json.dumps({"system": "http://127.0.0.1:1/evil.py", "url": "file:///etc/passwd"})
    connection.request("POST", "/v1/change", body, token)
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["state"]) == (200, "none")
    connection.close()


def test_a_page_that_points_its_name_here_gets_nothing(server: ServerProcess) -> None:
    body = json.dumps(ASK).encode()
    status, said = asked(server, "/v1/recommend", body, Host="evil.example")
    assert (status, json.loads(said)["error"]["code"]) == (421, "wrong_host")
    status, _ = asked(
        server, "/v1/recommend", body, Origin="http://evil.example", Content_Type="text/plain"
    )
    assert status == 403


def test_no_refusal_tells_of_the_inside(server: ServerProcess, home: Path) -> None:
    said = b""
    for path in (*POSTS, "/v1/nothing", "/metrics"):
        for body in (
            b"",
            b"{",
            b'{"stream":"\\ud800"}',
            b'{"rows":[{"x":"y"}]}',
            json.dumps(ASK).encode(),
        ):
            for method in ("POST", "GET", "BREW"):
                said += asked(server, path, body, method, Authorization="Bearer no")[1]
    for word in (
        str(home),
        "/src/",
        "sevenfold.serving",
        "Error(",
        "msgspec",
        "lmdb",
        "shm",
        "0x7f",
    ):
        assert word.encode() not in said, word


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 2_000_000,
        b'{"a":' * 500_000 + b"1" + b"}" * 500_000,
        b'{"request_id":"r","keys":{"customer":"ada"},"k":' + b"9" * 1_000_000 + b"}",
        b'{"request_id":"r","keys":{"customer":"ada"},"timeout_ms":1e999999}',
        b'{"request_id":"r\\u0000\x00","keys":{"customer":"ada"}}',
        b'{"request_id":"\xff\xfe","keys":{"customer":"ada"}}',
        b"\xef\xbb\xbf{}",
        b"\x00" * 100_000,
    ],
    ids=["lists", "objects", "digits", "exponent", "nul", "bytes", "mark", "zeros"],
)
def test_a_poisoned_body_is_refused_where_it_stands(server: ServerProcess, body: bytes) -> None:
    status, said = asked(server, "/v1/recommend", body)
    assert status == 400
    assert json.loads(said)["error"]["code"] in ("not_json", "too_deep", "invalid_body")
    assert asked(server, "/healthz", b"", "GET")[0] == 200


def test_of_a_field_given_twice_the_last_counts(server: ServerProcess) -> None:
    body = (
        b'{"request_id":"a","request_id":"twice","keys":{"customer":"x"},"keys":{"customer":"y"}}'
    )
    status, said = asked(server, "/v1/recommend", body)
    assert (status, json.loads(said)["request_id"]) == (200, "twice")


def test_thousands_of_idle_connections_keep_nobody_from_being_answered(
    server: ServerProcess, home: Path
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 10_500  # more than the server holds at once
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard - 500)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted + 400), hard))
    if wanted < 10_500:
        logging.getLogger(__name__).info("the machine allows %d connections, not 10,500", wanted)
    before = _memory(server.pid)
    client = Client(server.port, (home / "token").read_text().strip(), timeout_s=30)
    with contextlib.ExitStack() as crowd:
        crowd.callback(client.close)
        for n in range(wanted):
            crowd.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30))
            if n % 1_000 == 0:
                assert client.get("/healthz") == {"status": "ok"}
        answer = client.post("/v1/recommend", {"request_id": "crowd", "keys": {"customer": "ada"}})
        assert answer["rung"]
        grown = _memory(server.pid) - before
    assert grown < wanted * 30_000, grown  # bytes
    client.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _memory(pid: int) -> int:
    """The resident bytes of a process; 0 where the system does not say."""
    place = Path(f"/proc/{pid}/statm")
    return int(place.read_text().split()[1]) * resource.getpagesize() if place.exists() else 0


def test_tls_is_spoken_and_nothing_older_or_plain(stall: Path, tmp_path: Path) -> None:
    options = ["--tls-cert", str(TLS / "cert.pem"), "--tls-key", str(TLS / "key.pem")]
    with ServerProcess(str(stall), tmp_path, options) as running:
        assert json.loads((tmp_path / "server.json").read_text())["url"].startswith("https://")
        trust = ssl.create_default_context(cafile=str(TLS / "cert.pem"))
        connection = http.client.HTTPSConnection(
            "localhost", running.port, timeout=30, context=trust
        )
        connection.request("POST", "/v1/recommend", json.dumps(ASK))
        answer = connection.getresponse()
        assert answer.status == 200
        assert "max-age" in answer.headers["strict-transport-security"]
        connection.close()
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            asked(running, "/healthz", b"", "GET")
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        with (
            socket.create_connection(("127.0.0.1", running.port), timeout=30) as raw,
            pytest.raises(ssl.SSLError),
        ):
            old.wrap_socket(raw)
        client = admin_client(tmp_path)  # the socket in the home needs no TLS
        assert client.get("/v1/change")["state"] == "none"
        client.close()


def test_a_server_for_others_starts_with_tokens_and_tls_only(stall: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sevenfold", *arguments, "--home", str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    open_ = ("serve", str(stall), "--host", "0.0.0.0", "--port", "0")
    refused = run(*open_)
    assert (refused.returncode, "--tls-cert" in refused.stderr) == (2, True)
    refused = run(*open_, "--plain")
    assert (refused.returncode, "sevenfold token add" in refused.stderr) == (2, True)
    made = run("token", "add", str(stall), "shop", "--scope", "predict", "--json")
    token = json.loads(made.stdout)["token"]
    options = ["--host", "0.0.0.0", "--plain", "--no-admin", "--allow-host", "shop.example"]
    with ServerProcess(str(stall), tmp_path, options) as running:
        assert not (tmp_path / "admin.sock").exists()
        body = json.dumps(ASK).encode()
        ask = {"Host": "shop.example", "Authorization": f"Bearer {token}"}
        assert asked(running, "/v1/recommend", body, **ask)[0] == 200
        assert asked(running, "/v1/recommend", body, Host="shop.example")[0] == 401
        assert asked(running, "/metrics", b"", "GET", **ask)[0] == 403
        assert asked(running, "/v1/events", body, **ask)[0] == 403
        assert asked(running, "/healthz", b"", "GET", Host="shop.example")[0] == 200
        listed = json.loads(run("token", "list", str(stall), "--json").stdout)["tokens"]
        assert listed == [{"name": "shop", "scopes": ["predict"], "rate": None}]
        assert run("token", "revoke", str(stall), "shop").returncode == 0
        assert asked(running, "/v1/recommend", body, **ask)[0] == 401
        refused = run("change", str(stall))
        assert (refused.returncode, "--no-admin" in refused.stderr) == (2, True)
