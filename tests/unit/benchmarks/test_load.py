"""What a benchmark of the server says stands on this: the load is what was ordered, and a slow server shows in the latencies."""

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from benchmarks.load import NUMBER, Kind, Load, LoadError, Outcomes, Phase, capacity, on_core, run
from benchmarks.load_client import Client

BODY = b'{"number":"' + NUMBER + b'"}'
STALL_S = 0.4
LONG_S = 120  # for an answer: on no machine one comes later, and a request is given up only where a test says when


class Server:
    """A server whose thread answers by the path, and remembers."""

    def __init__(self) -> None:
        self.numbers: list[str] = []
        self.lengths: list[int] = []
        self.connections = 0
        self.stall_at = 0
        self.stalled: tuple[float, float] | None = None
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self.listening.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(
            self._loop.create_server(lambda: _Protocol(self), sock=self.listening)
        )
        self._loop.run_forever()
        server.close()
        for _ in range(3):  # those that are open are closed
            self._loop.run_until_complete(asyncio.sleep(0.01))
        self._loop.close()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        assert not self._thread.is_alive()

    def note(self, body: bytes) -> None:
        self.numbers.append(body[11:-2].decode())
        self.lengths.append(len(body))
        if len(self.numbers) == self.stall_at:
            begin = time.perf_counter()
            time.sleep(STALL_S)
            self.stalled = (begin, time.perf_counter())


class _Protocol(asyncio.Protocol):
    def __init__(self, server: Server) -> None:
        self.server = server
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.server.connections += 1

    def data_received(self, data: bytes) -> None:
        self.data += data
        head, found, rest = self.data.partition(b"\r\n\r\n")
        length = int(head.rpartition(b"content-length: ")[2])
        if not found or len(rest) < length:
            return
        self.data = b""
        self.server.note(rest)
        self.answer(head.split(b" ", 2)[1])

    def answer(self, path: bytes) -> None:
        answers = {
            b"/ok": (b"200 OK", b"", b'{"rung":"full","x":1}'),
            b"/header": (b"200 OK", b"X-Rung: lighter\r\n", b'{"rung":"full"}'),
            b"/shed": (b"503 No", b"Retry-After: 2\r\n", b"{}"),
            b"/last": (b"200 OK", b"Connection: close\r\n", b"{}"),
        }
        if path == b"/never":
            return
        if path == b"/junk":
            self.transport.write(b"what?\r\n\r\n")
        elif path == b"/gone":
            self.transport.close()
        else:
            status, header, body = answers[path]
            head = b"HTTP/1.1 " + status + b"\r\n" + header
            self.transport.write(head + b"content-length: %d\r\n\r\n" % len(body) + body)
            if path == b"/last":
                self.transport.close()


@pytest.fixture
def server() -> Iterator[Server]:
    started = Server()
    yield started
    started.stop()


def load(port: int, *phases: Phase, path: str = "/ok", **more: object) -> Load:
    kinds = more.pop("kinds", [Kind("one", path, (BODY,))])
    return Load(port, kinds, list(phases), **({"timeout_s": LONG_S} | more))


def test_requests_are_due_when_they_are_due_and_each_has_its_number(server: Server) -> None:
    outcomes = run(load(server.port, Phase("even", 0.5, rate=100), poisson=False))
    np.testing.assert_allclose(outcomes.due_s, np.arange(50) / 100)
    assert sorted(server.numbers) == [f"{number:012d}" for number in range(1, 51)]
    assert set(server.lengths) == {len(BODY)}
    assert outcomes.counts() == {"200": 50}
    assert (outcomes.late_s >= 0).all()
    assert (outcomes.sent_s >= outcomes.due_s).all()
    assert (outcomes.done_s >= outcomes.sent_s).all()


def test_a_poisson_process_is_drawn_ahead(server: Server) -> None:
    def due(seed: int) -> list[float]:
        phases = (Phase("slow", 0.2, rate=100), Phase("fast", 0.2, rate=400))
        return run(load(server.port, *phases, seed=seed)).due_s.tolist()

    first = due(3)
    assert first == due(3) != due(4)
    assert first == sorted(first)
    fast = sum(0.2 <= at < 0.4 for at in first)
    assert 5 <= len(first) - fast <= 40  # of 20, and of 80: four deviations and more
    assert 44 <= fast <= 120


def test_a_stalled_server_shows_in_the_latencies_of_all_that_were_due_meanwhile(
    server: Server,
) -> None:
    server.stall_at = 20
    outcomes = run(load(server.port, Phase("even", 0.8, rate=200), poisson=False, connections=4))
    assert server.stalled is not None
    begin, end = (at - outcomes.start_s for at in server.stalled)
    meanwhile = outcomes.only((outcomes.due_s > begin) & (outcomes.due_s < end))
    assert len(meanwhile) >= min(STALL_S, 0.8 - begin) * 200 - 2
    assert (meanwhile.done_s >= end).all()
    waited_ms = 1000 * (end - meanwhile.due_s)
    assert (meanwhile.latency_ms >= waited_ms).all()  # though only four of them could be sent
    assert outcomes.counts() == {"200": 160}


def test_a_closed_loop_asks_nothing_of_a_stalled_server(server: Server) -> None:
    """The mistake that an open loop is there to avoid, and why a closed one only finds the capacity."""
    server.stall_at = 20
    outcomes = run(load(server.port, Phase("closed", 0.8, clients=3)))
    assert server.stalled is not None
    begin, end = (at - outcomes.start_s for at in server.stalled)
    meanwhile = outcomes.only((outcomes.due_s > begin) & (outcomes.due_s < end))
    assert len(meanwhile) <= 3
    assert server.connections <= 3
    assert capacity(server.port, [Kind("one", "/ok", (BODY,))], 2, 0.2) > 0


@pytest.mark.parametrize(
    ("path", "said"),
    [("/shed", "503"), ("/gone", "closed"), ("/junk", "bad_answer"), ("/never", "timeout")],
)
def test_each_request_says_what_became_of_it(server: Server, path: str, said: str) -> None:
    patience_s = 0.3 if path == "/never" else LONG_S
    client = Client(load(server.port, Phase("p", 0.1, rate=100), path=path, timeout_s=patience_s))
    taken = client.run()
    n = len(server.numbers)
    assert n > 0
    status, outcome = np.frombuffer(taken.status, np.int32), np.frombuffer(taken.outcome, np.int32)
    names = [
        str(s)
        if s
        else ("answered", "timeout", "closed", "refused", "no_connection", "bad_answer")[o]
        for s, o in zip(status, outcome, strict=True)
    ]
    assert names == [said] * n
    waits = np.frombuffer(taken.retry_after_s)
    assert (waits == 2).all() if path == "/shed" else np.isnan(waits).all()
    if path == "/never":
        gone = np.frombuffer(taken.done_s) - np.frombuffer(taken.due_s)
        assert (gone >= 0.3).all()


def test_the_rung_is_the_header_else_what_the_body_says(server: Server) -> None:
    kinds = [Kind("body", "/ok", (BODY,), share=3), Kind("header", "/header", (BODY,))]
    outcomes = run(load(server.port, Phase("p", 0.5, rate=400), kinds=kinds))
    for kind, rung in (("body", "full"), ("header", "lighter")):
        of_kind = outcomes.of("p", kind)
        assert {outcomes.rungs[number] for number in of_kind.rung} == {rung}
    assert 0.55 < len(outcomes.of(kind="body")) / len(outcomes) < 0.95


def test_connections_are_kept_and_one_that_the_server_ends_is_made_anew(server: Server) -> None:
    outcomes = run(load(server.port, Phase("p", 0.3, clients=2)))
    assert server.connections <= 2 < len(outcomes)
    kept = server.connections
    outcomes = run(load(server.port, Phase("p", 0.2, rate=100), path="/last"))
    assert outcomes.ok.all()
    assert server.connections - kept == len(outcomes)


def test_a_request_that_no_connection_is_free_for_waits_and_is_given_up(server: Server) -> None:
    at_once = Phase("p", 5e-9, rate=1e9)
    outcomes = run(
        load(server.port, at_once, path="/never", poisson=False, connections=1, timeout_s=0.25)
    )
    assert outcomes.counts() == {"no_connection": 4, "timeout": 1}
    assert len(server.numbers) == 1
    given_up = outcomes.only(np.isnan(outcomes.sent_s))
    assert (given_up.latency_ms >= 250).all()
    assert not outcomes.answered.any()


def test_a_port_where_nobody_listens_refuses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    outcomes = run(load(port, Phase("p", 0.1, rate=50), poisson=False))
    assert outcomes.counts() == {"refused": 5}
    assert outcomes.rate() == 0


def test_a_client_that_cannot_keep_up_says_so(server: Server) -> None:
    # Twenty thousand within half a millisecond: no machine sends that.
    many = load(server.port, Phase("p", 0.0005, rate=4e7), connections=8, timeout_s=0.1)
    assert run(many).fell_behind


def test_a_client_that_ends_early_is_an_error(server: Server) -> None:
    with pytest.raises(LoadError, match=r"(?s)the client ended: .*non-negative"):
        run(load(server.port, Phase("p", 0.1, rate=50), seed=-1))


def test_what_is_useful_is_a_200_in_time_from_when_it_was_due() -> None:
    n = 4
    due, none = np.zeros(n), np.full(n, np.nan)
    zeros = np.zeros(n, dtype=np.int32)
    outcomes = Outcomes(
        due_s=due,
        sent_s=due + 0.19,  # late to go: that counts
        done_s=np.array([0.1, 0.2, 0.1, 0.1]),
        late_s=np.array([0, 0, 0, 0.02]),
        phase=zeros,
        kind=zeros,
        outcome=np.array([0, 0, 0, 2], dtype=np.int32),
        status=np.array([200, 200, 503, 0], dtype=np.int32),
        rung=zeros,
        retry_after_s=none,
        rungs=[""],
        phases=["p"],
        kinds=["k"],
        start_s=0.0,
        busy=0.5,
    )
    assert outcomes.useful(150).tolist() == [True, False, False, False]
    assert outcomes.answered.tolist() == [True, True, True, False]
    assert outcomes.counts() == {"200": 2, "503": 1, "closed": 1}
    assert outcomes.rate() == 10.0
    assert outcomes.fell_behind
    assert not outcomes.of("p", "k").only(outcomes.late_s == 0).fell_behind


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux sets the cores of a process")
def test_what_is_started_on_a_core_stays_there_and_this_process_does_not() -> None:
    before = os.sched_getaffinity(0)
    told = "import os; print(sorted(os.sched_getaffinity(0)))"
    with on_core(1):
        said = subprocess.run([sys.executable, "-c", told], capture_output=True, check=True)
    assert os.sched_getaffinity(0) == before
    assert said.stdout.decode().strip() == str([sorted(before)[1 % len(before)]])
