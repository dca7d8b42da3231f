"""Ten times what the server can do: how much of it is useful, what the others hear, and how soon all is well again.

Three servers in turn on homes that are equal: with admission and the ladder, with admission alone (full quality or a refusal), and
with neither. First what one can do at full quality, by a closed loop; then 1x, 3x and 10x of that in an open one, of bodies of 30 kB,
one in twenty of the high class, and half of it to see when full quality is back. Useful is an answer with 200 within 150 ms of when its request was due.

Memory is read twice a second. `memory_growth_mb` (all that is resident, the pages of the store's file among it) and `allocated_growth_mb` are from before the load to its end,
with what the first requests load; `steady_growth_mb` is what is allocated in the last quarter of spike and recovery less that in the second, medians, as in `soak`.

`idle_cost` is what the gate costs one client at a time: the median of its requests with it over that without, servers asked in turns; `idle_error` the same of two servers
that are alike.

At `--scale 1` the spike lasts sixty seconds, and five at least. Figures of a client that fell behind are not the server's: the notes say so.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.alternating import Asked, alternate
from benchmarks.load import NUMBER, Kind, Load, Outcomes, Phase, capacity, on_core
from benchmarks.load import run as put
from benchmarks.measure import Report, figure
from benchmarks.ranking import prepare
from benchmarks.soak import anonymous_mb, growth_mb
from sevenfold.loop.server_process import ServerProcess

__all__ = ["PACKAGES", "figures", "run"]

PACKAGES = ("sevenfold", "numpy", "numba", "lmdb", "uvicorn", "uvloop", "httptools", "lightgbm")
BUDGET_MS = 150.0
_BODY_BYTES = 30_000
_SERVER_CORE, _CLIENT_CORE = 0, 1
_CLIENTS = 8
_SPIKE_S, _LEAST_SPIKE_S = 60.0, 5.0
_AFTER_S = 12.0
_WINDOW_S = 0.5
_IDLE_ROUNDS = 100
_MEMORY_S = 0.5
_HERE = Path(__file__).parent
_MEMORY = {"memory_growth_mb": "VmRSS", "allocated_growth_mb": "RssAnon"}
_KEYS = (
    "goodput_vs_capacity",
    "answered_p99_vs_budget",
    "refusal_p99_ms",
    "undeclared_errors",
    "recovery_s",
    "high_class_useful",
    "steady_growth_mb",
)


@dataclass(frozen=True)
class Contender:
    """A way to serve: the system's file and what `sevenfold serve` is told beside it."""

    name: str
    system: str
    arguments: tuple[str, ...] = ()


LADDER = Contender("ladder", "spike_system.py")
FLAT = Contender("ladder_off", "spike_system_flat.py")
OPEN = Contender("no_admission", "spike_system.py", ("--no-admission",))


def run(repeat: int, scale: float) -> Report:
    """Measure `repeat` spikes on each server; `scale` shortens them."""
    report = Report("spike")
    spike_s = max(_LEAST_SPIKE_S, _SPIKE_S * scale)
    taken: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        home.mkdir()
        bodies = prepare(home, min(1.0, scale)).rank_bodies()
        for at in range(repeat):
            with _served(home, OPEN) as server:
                asked = _kinds(bodies, home, f"c{at}")[:1]
                able = capacity(server.port, asked, _CLIENTS, 6.0, _CLIENT_CORE)
            taken.setdefault("capacity_per_s", []).append(able)
            for contender in (LADDER, FLAT, OPEN):
                kinds = _kinds(bodies, home, f"{contender.name}{at}")
                with _served(home, contender) as server:
                    load = Load(server.port, kinds, _phases(able, spike_s), seed=at)
                    seen, grown, memory = _put(load, server.pid)
                for key, value in (figures(seen, able, spike_s) | grown).items():
                    taken.setdefault(f"{contender.name}.{key}", []).append(value)
                report.notes.append(f"{_said(contender, seen)}; {memory.said()}")
        taken |= _idle(Path(folder), home, bodies, 4 * repeat)
    for key, values in taken.items():
        report.results[key] = figure(values, _unit(key))
    for key in _KEYS:
        report.ratios[key] = report.results[f"{LADDER.name}.{key}"].median
    report.ratios["idle_cost"] = report.results["idle_cost"].median
    for contender in (FLAT, OPEN):
        key = "goodput_vs_capacity"
        report.ratios[f"{key}_{contender.name}"] = report.results[f"{contender.name}.{key}"].median
    return report


def _put(load: Load, pid: int) -> tuple[Outcomes, dict[str, float], Memory]:
    """What became of a load, what the server's memory grew by, and what that was."""
    before_mb = {what: _memory_mb(pid, what) for what in _MEMORY.values()}
    with _memory(pid) as memory:
        seen = put(load, _CLIENT_CORE)
    grown = {key: _memory_mb(pid, what) - before_mb[what] for key, what in _MEMORY.items()}
    grown["steady_growth_mb"] = growth_mb(memory.since(seen, "10x"))
    return seen, grown, memory


def padded(body: bytes, tag: str) -> bytes:
    """A request of 30 kB that asks the same by an id of its own: what was asked before is not answered anew."""
    named = body.replace(NUMBER, tag.encode() + NUMBER)
    return named[:-1] + b" " * (_BODY_BYTES - len(named)) + b"}"


def figures(seen: Outcomes, able: float, spike_s: float) -> dict[str, float]:
    """What the bars are about, of a load with the phases of `_phases`; `able` is the capacity in answers a second.

    A share is of one. An error is undeclared unless it is a 503 that says when to come back. `high_class_useful` is of the high
    class in the spike. Quality is back when nine of ten answers are full and in time in every half second from then on.
    """
    spike = seen.of("10x")
    ok, refused = spike.only(spike.ok), spike.only(_declared(spike))
    high = spike.of(kind="high")
    return {
        "goodput_vs_capacity": float(spike.useful(BUDGET_MS).sum()) / spike_s / able,
        "answered_p99_vs_budget": _p99(ok) / BUDGET_MS,
        "refusal_p99_ms": _p99(refused),
        "undeclared_errors": float((~(seen.ok | _declared(seen))).sum()),
        "recovery_s": _recovery_s(seen.of("after")),
        "high_class_useful": float(high.useful(BUDGET_MS).mean()) if len(high) else 1.0,
        "full_quality_share": float(_full(ok).mean()) if len(ok) else 0.0,
    }


def _declared(seen: Outcomes) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    return (seen.status == 503) & ~np.isnan(seen.retry_after_s)


def _full(seen: Outcomes) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    at = seen.rungs.index("full") if "full" in seen.rungs else -1
    return seen.rung == at


def _p99(seen: Outcomes) -> float:
    return float(np.quantile(seen.latency_ms, 0.99)) if len(seen) else 0.0


def _recovery_s(after: Outcomes) -> float:
    """Seconds until quality is back; all of the phase when it never was."""
    good = _full(after) & after.useful(BUDGET_MS)
    since_s = after.due_s - after.due_s.min()
    window = (since_s / _WINDOW_S).astype(int)
    bad = [w for w in np.unique(window) if good[window == w].mean() < 0.9]
    return (max(bad) + 1) * _WINDOW_S if bad else 0.0


def _phases(able: float, spike_s: float) -> list[Phase]:
    return [
        Phase("1x", 5, rate=able),
        Phase("3x", 5, rate=3 * able),
        Phase("10x", spike_s, rate=10 * able),
        Phase("after", _AFTER_S, rate=able / 2),
    ]


def _kinds(bodies: Sequence[bytes], home: Path, tag: str) -> list[Kind]:
    whole = tuple(padded(body, tag) for body in bodies)
    token = (home / "token").read_text().strip()
    urgent = {"priority": "u=1", "authorization": f"Bearer {token}"}
    return [
        Kind("normal", "/v1/rank", whole, 0.95),
        Kind("high", "/v1/rank", whole, 0.05, headers=urgent),
    ]


@contextmanager
def _served(home: Path, contender: Contender) -> Iterator[ServerProcess]:
    arguments = ("--history-head", "0", *contender.arguments)  # nothing beside the answers
    server = ServerProcess(str(_HERE / contender.system), home, arguments)
    with ExitStack() as stack:
        with on_core(_SERVER_CORE):
            stack.enter_context(server)
        yield server


def _idle(folder: Path, home: Path, bodies: Sequence[bytes], rounds: int) -> dict[str, list[float]]:
    """The median time of one client's requests with the gate over that without, asked in turns; and of two without, which is the measure's own error."""
    kinds = OPEN, LADDER, OPEN
    ratios: dict[str, list[float]] = {"idle_cost": [], "idle_error": []}
    with ExitStack() as stack:
        ports = []
        for at, contender in enumerate(kinds):
            beside = folder / f"beside{at}"
            shutil.copytree(home, beside)
            ports.append(stack.enter_context(_served(beside, contender)).port)
        for at in range(rounds + 1):
            whole = tuple(padded(body, f"idle{at}") for body in bodies)
            asked = Asked(ports, "/v1/rank", whole, _IDLE_ROUNDS, seed=at)
            without, with_gate, again = np.median(alternate(asked, _CLIENT_CORE), axis=(1, 2))
            if at:  # the first warms them
                ratios["idle_cost"].append(2 * with_gate / (without + again))
                ratios["idle_error"].append(again / without)
    return ratios


@dataclass
class Memory:
    """What a process had allocated, in MB, at instants of the machine's monotonic clock."""

    at_s: list[float] = field(default_factory=list)
    mb: list[float] = field(default_factory=list)

    def since(self, seen: Outcomes, phase: str) -> list[float]:
        """The memory from when the first request of a phase was due to the last answer of all."""
        begin_s = seen.start_s + float(seen.of(phase).due_s.min())
        end_s = seen.start_s + float(seen.done_s.max())
        pairs = zip(self.at_s, self.mb, strict=True)
        return [mb for at_s, mb in pairs if begin_s <= at_s <= end_s] or self.mb[-1:]

    def said(self) -> str:
        """A dozen of them."""
        step = max(1, len(self.mb) // 12)
        return "MB allocated: " + ", ".join(f"{mb:.1f}" for mb in self.mb[::step])


@contextmanager
def _memory(pid: int) -> Iterator[Memory]:
    """What a process has allocated while the block runs, twice a second."""
    memory, over = Memory(), threading.Event()

    def look() -> None:
        while not over.wait(_MEMORY_S):
            memory.at_s.append(time.perf_counter())
            memory.mb.append(anonymous_mb(pid))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield memory
    finally:
        over.set()
        thread.join()


def _memory_mb(pid: int, what: str = "VmRSS") -> float:
    """The memory of a process; `RssAnon` is what it has allocated, without the pages of the store's file that it has looked at."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return float("nan")
    line = next(row for row in status.read_text().splitlines() if row.startswith(what))
    return int(line.split()[1]) / 1024


def _said(contender: Contender, seen: Outcomes) -> str:
    parts = [f"{phase}: {_counted(seen.of(phase))}" for phase in seen.phases]
    behind = f"; the client fell behind by {seen.behind_ms:.0f} ms" if seen.fell_behind else ""
    return f"{contender.name}: {'; '.join(parts)}{behind}"


def _counted(seen: Outcomes) -> str:
    useful = int(seen.useful(BUDGET_MS).sum())
    ok = seen.only(seen.ok)
    rungs = {seen.rungs[r]: int((ok.rung == r).sum()) for r in np.unique(ok.rung)}
    return f"{len(seen)} asked, {useful} useful, {seen.counts()}, by {rungs}"


def _unit(key: str) -> str:
    units: Sequence[tuple[str, str]] = (("_ms", "ms"), ("_mb", "MB"), ("per_s", "/s"), ("_s", "s"))
    return next((unit for ending, unit in units if key.endswith(ending)), "")
