"""Rank 100 candidates x 40 features by 500 trees, over HTTP: features fetched from the store, the answer logged durably before it leaves.

`rank_100` and `score_1` are of a real server, `sevenfold serve --no-admission` (a loop that asks for all that there is would have cheaper answers
from the gate, and a figure of them says nothing of these), on one core, asked by a client on another (`benchmarks.load`). A rate is that of eight connections that each wait for their answer, and only answers of the rung `full` count; a
latency is that of an open loop of half of that rate, from when each request was due. `half_hello` is of the same loop asking `/healthz`, what the machine,
the client and HTTP take by themselves; `one` of one client who waits for each answer.

What ends with `_everysec` is of the same server with `--log-sync everysec`: an answer outlives the process when it is given, and is on disk within a
second. A plain service writes nothing at all.

`infer_1` is what a plain service does, by ours: one ready-made row in by the Open Inference Protocol, its score out; nothing is fetched and nothing
written.

Beside it, in turns in the same run: services that only score ready-made rows by the same model. They are sent 41 kB where ours is sent
1.2 kB, as whoever asks them has to have fetched the features; ours fetches them, chooses, and writes to disk. A ratio is ours over theirs: `_wall` of
answers a second, `_cpu` of what a processor second answers, and without an ending the smaller of both.
"""

from __future__ import annotations

import os
import re
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.load import NUMBER, Kind, Load, Outcomes, Phase, on_core, run
from benchmarks.measure import Report, figure, ratio
from benchmarks.peers.serving import PEERS, Server, installed, peer_server
from benchmarks.processes import processor_s
from benchmarks.ranking import CANDIDATES, MODEL, SYSTEM, Prepared, prepare
from benchmarks.ranking_system import FEATURES, system
from sevenfold.engines.online import OnlineEngine
from sevenfold.features.frame import Spine
from sevenfold.loop.server_process import ServerProcess
from sevenfold.models.paths import choose
from sevenfold.registry.registry import Registry
from sevenfold.serving.definition import Definition
from sevenfold.serving.request import RankRequest
from sevenfold.stores.log import frontier_us, last_known_us
from sevenfold.stores.open import open_store
from sevenfold.types import Texts

__all__ = ["measure"]

CLIENTS, SECONDS, WARM_S, OPEN_S = 8, 2.0, 1.0, 8.0
EVERYSEC = "_everysec"
_FULL = ("", "full")
_HELLO = Kind("hello", "/healthz", method="GET")
_WRITTEN = 1 << 20


@dataclass
class _Side:
    """One of two servers that are measured in turns: what it is asked, and what came of it."""

    port: int
    pid: int
    kind: Kind
    rps: list[float] = field(default_factory=list)
    per_cpu_s: list[float] = field(default_factory=list)

    def turn(self, seconds: float, count: bool = True) -> None:
        """Put a closed loop on it."""
        before = processor_s(self.pid)
        outcomes = closed(self.port, self.kind, CLIENTS, seconds)
        spent = processor_s(self.pid) - before
        full = _full(outcomes)
        if count:
            self.rps.append(full.rate())
            self.per_cpu_s.append(len(full) / spent)


def measure(report: Report, repeat: int, scale: float, servers: Path | None) -> None:
    """Add the figures of ours, and of the peers that `servers` has, each beside ours."""
    with tempfile.TemporaryDirectory() as made:
        prepared = prepare(Path(made), scale)
        versions = {} if servers is None else installed(servers)
        there = [name for name, package in PEERS.items() if package in versions]
        with _serving(prepared) as me:
            _alone(report, prepared, me, repeat, scale)
            _stages(report, prepared, me, scale)
            for name in there if servers is not None else ():
                _beside(report, prepared, (me, name, servers), repeat, scale)
        with _serving(prepared, "--log-sync", "everysec") as me:
            _alone(report, prepared, me, repeat, scale, EVERYSEC)
            if "fastapi" in there and servers is not None:
                _beside(report, prepared, (me, "fastapi", servers), repeat, scale, EVERYSEC)
        report.beside |= versions
        missing = [name for name in PEERS if name not in there]
        if missing:
            report.notes.append(f"not beside: {', '.join(missing)}; their keys are left out")


@contextmanager
def _serving(prepared: Prepared, *more: str) -> Iterator[Server]:
    ours = ServerProcess(str(SYSTEM), prepared.home, ["--no-admission", *more], timeout_s=600)
    try:
        with on_core(0):
            ours.start()
        yield Server(ours.port, ours.pid)
    finally:
        ours.stop()


def closed(port: int, kind: Kind, clients: int, seconds: float) -> Outcomes:
    """What became of the requests of a closed loop, the client on core 1."""
    phases = [Phase("closed", seconds, clients=clients)]
    return run(Load(port, [kind], phases, timeout_s=30), core=1)


def ask(prepared: Prepared, n: int) -> Kind:
    """The requests for ours, of n candidates each, no two of one id."""
    # Ids of the run: a server that is asked twice by one id gives the answer that it gave.
    mark = f"{time.monotonic_ns():x}-".encode()
    bodies = tuple(body.replace(NUMBER, mark + NUMBER) for body in prepared.rank_bodies(n))
    return Kind("ours", "/v1/rank", bodies)


def infer(prepared: Prepared, n: int) -> Kind:
    """The requests for ours of n ready-made rows each."""
    return Kind("ours", f"/v2/models/{MODEL}/infer", prepared.infer_bodies(n))


_ASKED: tuple[tuple[str, int, Callable[[Prepared, int], Kind]], ...] = (
    ("rank_100", CANDIDATES, ask),
    ("score_1", 1, ask),
    ("infer_1", 1, infer),
)
"""What is measured: its name, how many rows, and what asks for them."""


def _full(outcomes: Outcomes) -> Outcomes:
    served = np.array([rung in _FULL for rung in outcomes.rungs])
    return outcomes.only(outcomes.ok & served[outcomes.rung])


def _alone(
    report: Report, prepared: Prepared, me: Server, repeat: int, scale: float, ending: str = ""
) -> None:
    """The rate of ours, and its latencies at half of it."""
    for what, n, asked in _ASKED if not ending else _ASKED[:2]:
        name = f"{what}{ending}"
        side = _Side(me.port, me.pid, asked(prepared, n))
        side.turn(WARM_S, count=False)
        for _ in range(repeat):
            side.kind = asked(prepared, n)
            side.turn(max(0.3, SECONDS * scale))
        report.results[f"{name}_rps"] = figure(side.rps, "1/s")
        report.results[f"{name}_per_cpu_s"] = figure(side.per_cpu_s, "1/s")
        seconds = max(0.5, OPEN_S * scale)
        at_half = Phase("open", seconds, rate=statistics.median(side.rps) / 2)
        one = Phase("one", seconds, clients=1)
        loads: dict[str, list[Load]] = {"half": [], "half_hello": [], "one": []}
        for seed in range(repeat):
            for key, phase in (("half", at_half), ("half_hello", at_half), ("one", one)):
                kind = _HELLO if key == "half_hello" else asked(prepared, n)
                loads[key].append(Load(me.port, [kind], [phase], seed=seed, timeout_s=30))
        for key, some in loads.items():
            _latencies(report, f"{name}_{key}", some)


def _latencies(report: Report, name: str, loads: Sequence[Load]) -> None:
    """Add the median and the 99th percentile of what each load sees."""
    quantiles: dict[float, list[float]] = {0.5: [], 0.99: []}
    for load in loads:
        outcomes = run(load, core=1)
        full = _full(outcomes)
        if len(full) < len(outcomes):
            report.notes.append(
                f"{name}: {len(full)} of {len(outcomes)} were answered in full: {outcomes.counts()}"
            )
        if outcomes.fell_behind:
            report.notes.append(
                f"{name}: the client was {outcomes.behind_ms:.1f} ms late itself (p99)"
            )
        for share, taken in quantiles.items():
            taken.append(float(np.quantile(full.latency_ms, share)))
    for share, taken in quantiles.items():
        report.results[f"{name}_p{share * 100:.0f}_ms"] = figure(taken, "ms")


def _beside(
    report: Report,
    prepared: Prepared,
    sides: tuple[Server, str, Path],
    repeat: int,
    scale: float,
    ending: str = "",
) -> None:
    """One peer and ours, in turns; single rows only where the peer is the plain service."""
    me, name, python = sides
    vectors = prepared.vectors[0]
    expected = prepared.model.scores(vectors)
    with peer_server(python, name, prepared.trees, vectors, expected) as peer:
        rows = _ASKED[:2] if ending else _ASKED
        for what, n, asked in rows if name == "fastapi" else _ASKED[:1]:
            theirs = _Side(peer.port, peer.pid, Kind(name, "/rank", prepared.ready_bodies(n)))
            ours = _Side(me.port, me.pid, asked(prepared, n))
            for at in range(-1, repeat):
                seconds = max(0.3, SECONDS * scale) if at >= 0 else WARM_S
                ours.kind = asked(prepared, n)
                ours.turn(seconds, at >= 0)
                theirs.turn(seconds, at >= 0)
            both = f"{what}{ending}"
            _compare(report, f"{both}_rps_vs_{name}", f"{both}_{name}", ours, theirs)


def _compare(report: Report, key: str, label: str, ours: _Side, theirs: _Side) -> None:
    for ending, unit in (("rps", "1/s"), ("per_cpu_s", "1/s")):
        mine, his = (figure(getattr(side, ending), unit) for side in (ours, theirs))
        report.results[f"{label}_{ending}"] = his
        report.results[f"{label}_{ending}_beside"] = mine
        report.ratios[f"{key}_{'wall' if ending == 'rps' else 'cpu'}"] = ratio(mine, his)
    report.ratios[key] = min(report.ratios[f"{key}_wall"], report.ratios[f"{key}_cpu"])


def _stages(report: Report, prepared: Prepared, me: Server, scale: float) -> None:
    """What each stage takes when nobody else asks, and the least that it could take."""
    before = _stage_sums(me.port)
    outcomes = closed(me.port, ask(prepared, CANDIDATES), 1, max(0.5, OPEN_S * scale))
    after = _stage_sums(me.port)
    for stage, (sum_s, count) in after.items():
        old_s, old = before.get(stage, (0.0, 0.0))
        if count > old:
            taken = 1000 * (sum_s - old_s) / (count - old)
            report.results[f"stage_{stage}_ms"] = figure([taken], "ms")
    report.results["whole_ms"] = figure(outcomes.latency_ms.tolist(), "ms")
    hello = closed(me.port, _HELLO, 1, 0.5)
    report.results["floor_http_ms"] = figure(hello.latency_ms.tolist(), "ms")
    for name, work in _floors(prepared).items():
        taken_ms = []
        for at in range(220):
            begin = time.perf_counter()
            work(at)
            taken_ms.append(1000 * (time.perf_counter() - begin))
        report.results[f"floor_{name}_ms"] = figure(taken_ms[20:], "ms")
    for stage, floor in (("features", "store"), ("score", "model"), ("log", "append")):
        if f"stage_{stage}_ms" in report.results:
            pair = report.results[f"stage_{stage}_ms"], report.results[f"floor_{floor}_ms"]
            report.ratios[f"stage_{stage}_vs_floor"] = ratio(*pair)


def _floors(prepared: Prepared) -> dict[str, Callable[[int], Any]]:
    """The bare work of a request: its JSON, the read of its states, its trees by LightGBM and by the path that serves, a durable write of as many bytes."""
    bodies = prepared.rank_bodies()
    decoder = msgspec.json.Decoder(RankRequest)
    store = open_store(f"lmdb:{prepared.home / 'store'}", readonly=True)
    engine = OnlineEngine(Definition(system).plan)
    registry = Registry(prepared.home / "registry")
    model = registry.load(registry.versions()[-1])
    path = choose(model).path
    with store.read() as txn:
        t_us = max(last_known_us(txn), frontier_us(txn)) + 1
    scratch = open_store(f"lmdb:{prepared.home / 'scratch'}")

    def read(at: int) -> None:
        who, items = prepared.questions[at % len(prepared.questions)]
        keys = {"customer": Texts.of([who]), "item": Texts.of(items)}
        spine = Spine(np.full(len(items), t_us, dtype=np.int64), keys)
        with store.read() as txn:
            engine.read(txn, FEATURES, spine).vectors()

    def commit(at: int) -> None:
        with scratch.write() as txn:
            txn.put("predictions", at.to_bytes(8, "big"), bytes(4096))

    aside = os.open(prepared.home / "written", os.O_RDWR | os.O_CREAT)
    os.write(aside, bytes(_WRITTEN))
    os.fsync(aside)

    def append(at: int) -> None:
        os.pwrite(aside, bytes(4096), at * 4096 % _WRITTEN)
        os.fdatasync(aside)

    return {
        "json": lambda at: decoder.decode(bodies[at % len(bodies)]),
        "store": read,
        "model": lambda at: model.scores(prepared.vectors[at % len(prepared.vectors)]),
        "path": lambda at: path.scores(prepared.vectors[at % len(prepared.vectors)]),
        "commit": commit,
        "append": append,
    }


def _stage_sums(port: int) -> dict[str, tuple[float, float]]:
    """Seconds and answers by stage, of all the time that the server has run."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        return stage_sums(answer.read().decode())


def stage_sums(text: str) -> dict[str, tuple[float, float]]:
    """The same, read from the text of the metrics."""
    sums, counts = (
        {name: float(value) for name, value in re.findall(_line(what), text)}
        for what in ("sum", "count")
    )
    return {stage: (sums[stage], counts[stage]) for stage in sums}


def _line(what: str) -> str:
    return rf'sevenfold_stage_seconds_{what}{{stage="(\w+)"}} (\S+)'
