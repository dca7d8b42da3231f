"""Whatever is sent to a real server: a described answer, no traceback, what is good is kept, and it lives on."""

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sevenfold.loop.client import Client, HomeConnection
from sevenfold.loop.server_process import ServerProcess

Connect = Callable[[ServerProcess, Path], Client]
pytestmark = pytest.mark.timeout(3_600)
POSTS = [
    "/v1/events",
    "/v1/recommend",
    "/v1/rank",
    "/v1/features",
    "/v1/change",
    "/v1/forget",
    "/v1/reload",
]
ADMIN = POSTS[4:]
GOOD: dict[str, Any] = {
    "/v1/events": {
        "stream": "sales",
        "events": [
            {
                "line": "f0",
                "sold_at": "2024-01-01T10:00:00Z",
                "customer": "c",
                "item": "i",
                "pieces": 1,
                "price": 2.5,
                "basket": "b",
            }
        ],
    },
    "/v1/recommend": {"request_id": "q", "keys": {"customer": "c"}, "k": 5, "timeout_ms": 50},
    "/v1/rank": {"request_id": "q", "keys": {"customer": "c"}, "items": ["i", "j"]},
    "/v1/features": {"rows": [{"customer": "c", "item": "i"}], "features": ["item__count_7d"]},
    "/v1/change": {},
    "/v1/forget": {"entity": "customer", "key": "nobody-at-all"},
    "/v1/reload": {},
}
# As they stand in the body: no reader of JSON has to agree with another on these.
ATOMS = [
    "null",
    "true",
    "0",
    "-0",
    "-0.0",
    "1e308",
    "1e309",
    "-1e400",
    "1E-400",
    "5e-324",
    "0.1",
    "12345678901234567890",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775809",
    "1" * 400,
    "0." + "3" * 2_000,
    "1e99999999999",
    "NaN",
    "Infinity",
    "01",
    "+1",
    ".5",
    "0x10",
    '""',
    '"\\u0000"',
    '"\\ud800"',
    '"\\udc00\\ud800"',
    '"\\ud83c\\udf75"',
    '"\\x"',
    '"e\\u0301"',
    '"' + "k" * 300 + '"',
    '"' + "k" * 70_000 + '"',
    '"2016-12-31T23:59:60Z"',
    '"9999-12-31T23:59:59.999999999Z"',
    '"2024-02-30T00:00:00Z"',
    "[]",
    "{}",
    "[" * 60 + "]" * 60,
    "[" * 5_000 + "]" * 5_000,
    '{"a":' * 3_000 + "1" + "}" * 3_000,
    '{"a":1,"a":2}',
    "'a'",
    "",
]


def pieces_of(text: str) -> list[tuple[int, int]]:
    """Where the values of a JSON text stand, begin and end."""
    found, decoder = [], json.JSONDecoder()
    for at, sign in enumerate(text):
        if sign in '{["' or sign.isdigit():
            with suppress(ValueError, RecursionError):
                found.append((at, decoder.raw_decode(text, at)[1]))
    return found


@st.composite
def bodies(draw: st.DrawFn, path: str) -> bytes:
    """The good body with values put in place of others, and bytes changed, cut and doubled."""
    text = json.dumps(GOOD[path])
    for _ in range(draw(st.integers(0, 3))):
        if len(text) > 2_000:
            break
        begin, end = draw(st.sampled_from(pieces_of(text) or [(0, len(text))]))
        text = text[:begin] + draw(st.sampled_from(ATOMS)) + text[end:]
    raw = text.encode("utf-8", "surrogatepass")
    for kind in draw(
        st.lists(st.sampled_from(["put", "cut", "double", "bom", "wide"]), max_size=1)
    ):
        at = draw(st.integers(0, len(raw)))
        match kind:
            case "put":
                raw = raw[:at] + draw(st.binary(min_size=1, max_size=4)) + raw[at:]
            case "cut":
                raw = raw[:at]
            case "double":
                raw += raw
            case "bom":
                raw = b"\xef\xbb\xbf" + raw
            case _:
                raw = raw.decode("utf-8", "replace").encode("utf-16")
    return raw


HEADERS = st.dictionaries(
    st.sampled_from(
        [
            "Content-Type",
            "Accept",
            "Content-Encoding",
            "Expect",
            "Accept-Charset",
            "X-Any",
            "Cookie",
        ]
    ),
    st.sampled_from(
        [
            "application/json",
            "application/json; charset=utf-16",
            "text/plain",
            "multipart/form-data",
            "gzip",
            "100-continue",
            "",
            "x" * 4_000,
            "\u00e9".encode().decode("latin-1"),
        ]
    ),
    max_size=3,
)


class Running:
    """A server with the ways to ask it."""

    def __init__(self, server: ServerProcess, home: Path, client: Client) -> None:
        self.server, self.home, self.client = server, home, client
        self.token = (home / "token").read_text().strip()
        self.sent = 0

    def ask(self, path: str, body: bytes, headers: dict[str, str], method: str = "POST") -> int:
        """The status of the answer, which is JSON with `error` unless it is 200."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        if path in ADMIN:
            connection = HomeConnection(self.home, 60)
        try:
            given_ = {"Authorization": f"Bearer {self.token}", **headers}
            connection.request(method, path, body, given_)
            answer = connection.getresponse()
            raw = answer.read()
        finally:
            connection.close()
        assert b"Traceback" not in raw
        if answer.status not in (200, 400) or answer.headers.get_content_type() != "text/plain":
            described = json.loads(raw)
            assert answer.status == 200 or list(described) == ["error"]
        return answer.status

    def lives(self) -> None:
        """It keeps a good event, answers, and has logged nothing that failed."""
        self.sent += 1
        row = GOOD["/v1/events"]["events"][0] | {"line": f"alive{self.sent}"}
        answer = self.client.post("/v1/events", {"stream": "sales", "event": row})
        assert (answer["events"], answer["dead_letters"]) == (1, 0)
        log = (self.home / "server.log").read_text(errors="replace")
        assert "Traceback" not in log
        assert "request failed" not in log


@pytest.fixture(scope="module")
def running(
    stall: Path, tmp_path_factory: pytest.TempPathFactory, connect: Connect
) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("fuzzed")
    with ServerProcess(str(stall), home) as server:
        yield Running(server, home, connect(server, home))


@pytest.mark.parametrize("path", POSTS)
def test_no_body_and_no_header_brings_it_down(path: str, running: Running) -> None:
    @settings(
        max_examples=max(settings.default.max_examples // 2, 30),
        suppress_health_check=list(HealthCheck),
    )
    @given(bodies(path), HEADERS)
    def holds(body: bytes, headers: dict[str, str]) -> None:
        assert running.ask(path, body, headers) in (200, 400, 404, 409, 413, 415)

    holds()
    running.lives()


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(bad=st.lists(st.sampled_from(ATOMS), min_size=1, max_size=6), seed=st.integers(0, 1 << 20))
def test_good_rows_among_bad_ones_are_kept_and_the_bad_are_named(
    bad: list[str], seed: int, running: Running
) -> None:
    running.sent += 1
    good = [
        json.dumps(GOOD["/v1/events"]["events"][0] | {"line": f"good{running.sent}:{i}"})
        for i in range(3)
    ]
    rows = [(True, text) for text in good]
    for text in bad:
        with suppress(ValueError, RecursionError):
            # What is no JSON spoils the whole body; the rest is a row like any other.
            json.loads(text, parse_constant=_refused)
            rows.append((False, text))
    rows = [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))]
    body = '{"stream":"sales","events":[' + ",".join(text for _, text in rows) + "]}"
    connection = http.client.HTTPConnection("127.0.0.1", running.server.port, timeout=60)
    try:
        connection.request("POST", "/v1/events", body, {"Authorization": f"Bearer {running.token}"})
        answer = connection.getresponse()
        said = json.loads(answer.read())
    finally:
        connection.close()
    if (
        answer.status == 400
    ):  # a number or a nesting that the reader of the body does not take: all or nothing
        assert "events" not in said
        return
    assert answer.status == 200
    assert said["events"] == len(good)
    assert [one["index"] for one in said["refused"]] == [
        i for i, (is_good, _) in enumerate(rows) if not is_good
    ]
    assert all(one["reason"] and one["message"] for one in said["refused"])


def _refused(name: str) -> float:
    raise ValueError(name)


def test_sizes_methods_and_routes(running: Running) -> None:
    big = b'{"stream":"sales","events":[' + b" " * (17 << 20) + b"]}"
    with suppress(ConnectionError):  # it may close before all is sent
        assert running.ask("/v1/events", big, {}) == 413
    for length in ("-1", "1e3", "99999999999999999999", "\u00b2"):
        with suppress(ConnectionError, http.client.HTTPException, UnicodeEncodeError):
            assert running.ask("/v1/events", b"{}", {"Content-Length": length}) in (400, 408, 413)
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "NONSENSE"):
        for path in (*POSTS, "/metrics", "/", "/v1/%00", "/v1/events/../x", "/" + "x" * 5_000):
            with suppress(ConnectionError, http.client.HTTPException):
                assert 400 <= running.ask(path, b"", {}, method) < 500
    assert running.ask("/v1/events", b"{}", {"Authorization": "Bearer \u00e9"}) == 401
    running.lives()
