"""Load on an HTTP server of this machine: when each request is due is drawn ahead, and its latency counts from there.

A client that waits for an answer before it sends the next request asks less of a slow server, and never sees how slow it is. Here a
phase with a `rate` is an open loop: its requests are due when they are due, each on a connection that is free or a new one, and one that
waits for a connection is waiting for the server. A phase with `clients` is a closed loop, to find what a server can do.

The client is a process of its own (`benchmarks.load_client`), on a core of its own, and says how late it was itself: figures of a client that
`fell_behind` are not the server's. Its own limit on the machine of the figures in the log: 26,000 requests a second of its core with bodies of
320 bytes, 20,000 of 30 kB.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from benchmarks.load_client import NUMBER, OUTCOMES, Kind, Load, Phase, Taken

__all__ = [
    "NUMBER",
    "OUTCOMES",
    "Kind",
    "Load",
    "LoadError",
    "Outcomes",
    "Phase",
    "capacity",
    "on_core",
    "run",
]

_LATE_MS = 5.0
_SPARE_S = 60.0
Mask = npt.NDArray[np.bool_]
Times = npt.NDArray[np.float64]


class LoadError(RuntimeError):
    """The client's process ended without its figures."""


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What became of n requests, in the order in which they were due.

    `due_s`, `sent_s`, `done_s` (n,) are seconds since `start_s` of the machine's monotonic clock; `sent_s` is NaN for a request that no
    connection was free for. `phase` and `kind` (n,) are numbers of the load's phases and kinds, `outcome` (n,) one of `OUTCOMES`, `status`
    (n,) that of the answer or 0, `rung` (n,) a number of `rungs`, `retry_after_s` (n,) NaN where none was given. `late_s` (n,) is how late
    the client itself was, and `busy` the share of the time that its core worked.
    """

    due_s: Times
    sent_s: Times
    done_s: Times
    late_s: Times
    phase: npt.NDArray[np.int32]
    kind: npt.NDArray[np.int32]
    outcome: npt.NDArray[np.int32]
    status: npt.NDArray[np.int32]
    rung: npt.NDArray[np.int32]
    retry_after_s: Times
    rungs: list[str]
    phases: list[str]
    kinds: list[str]
    start_s: float
    busy: float

    def __len__(self) -> int:
        """How many requests there were."""
        return len(self.due_s)

    @property
    def latency_ms(self) -> Times:
        """From when each request was due to its last byte, or to when the client gave up, (n,)."""
        return (self.done_s - self.due_s) * 1000

    @property
    def answered(self) -> Mask:
        """Which have an answer, whatever its status, (n,)."""
        answered: Mask = self.outcome == OUTCOMES.index("answered")
        return answered

    @property
    def ok(self) -> Mask:
        """Which were answered with status 200, (n,)."""
        ok: Mask = self.status == 200
        return ok

    @property
    def behind_ms(self) -> float:
        """How late the client took its requests up itself: the 99th percentile. A closed loop has none."""
        return 1000 * float(np.quantile(self.late_s, 0.99)) if len(self) else 0.0

    @property
    def fell_behind(self) -> bool:
        """Whether the client missed its own schedule by more than 5 ms for more than 1 % of the requests."""
        return self.behind_ms > _LATE_MS

    def only(self, which: Mask) -> Outcomes:
        """The requests that are true in `which` (n,)."""
        columns = {name: getattr(self, name)[which] for name in _COLUMNS}
        return replace(self, **columns)

    def of(self, phase: str | None = None, kind: str | None = None) -> Outcomes:
        """The requests of a phase, of a kind, or of both."""
        which = np.ones(len(self), dtype=bool)
        if phase is not None:
            which &= self.phase == self.phases.index(phase)
        if kind is not None:
            which &= self.kind == self.kinds.index(kind)
        return self.only(which)

    def useful(self, within_ms: float) -> Mask:
        """Which were answered with 200 in time, counted from when they were due, (n,)."""
        return self.ok & (self.latency_ms <= within_ms)

    def rate(self) -> float:
        """Answers with status 200 a second, from the first that was due to the last answer of any kind."""
        if not self.ok.any():
            return 0.0
        return float(self.ok.sum() / (self.done_s.max() - self.due_s.min()))

    def counts(self) -> dict[str, int]:
        """How many had each status, and how many none, by why."""
        said = [
            str(status) if status else OUTCOMES[outcome]
            for status, outcome in zip(self.status.tolist(), self.outcome.tolist(), strict=True)
        ]
        return {name: said.count(name) for name in sorted(set(said))}


_COLUMNS = (
    *("due_s", "sent_s", "done_s", "late_s", "phase"),
    *("kind", "outcome", "status", "rung", "retry_after_s"),
)


def run(load: Load, core: int | None = None) -> Outcomes:
    """Put the load on its server from a process of its own, on `core` where one is given.

    Raises LoadError when the client ends without figures, or has none a minute after its last request was due.
    """
    place = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, (place, os.environ.get("PYTHONPATH"))))
    whole_s = sum(phase.seconds for phase in load.phases) + load.timeout_s + _SPARE_S
    with on_core(core):
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load_client"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )
    try:
        raw, said = process.communicate(msgspec.msgpack.encode(load), whole_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise LoadError(f"the client had no figures after {whole_s:.0f} s") from None
    if process.returncode:
        raise LoadError(f"the client ended: {said.decode(errors='replace').strip()[-500:]}")
    return _outcomes(msgspec.msgpack.decode(raw, type=Taken), load)


def _outcomes(taken: Taken, load: Load) -> Outcomes:
    columns: dict[str, Any] = {}
    for name in _COLUMNS:
        kind = np.int32 if name in ("phase", "kind", "outcome", "status", "rung") else np.float64
        columns[name] = np.frombuffer(getattr(taken, name), dtype=kind)
    order = np.argsort(columns["due_s"], kind="stable")
    return Outcomes(
        **{name: column[order] for name, column in columns.items()},
        rungs=taken.rungs,
        phases=[phase.name for phase in load.phases],
        kinds=[kind.name for kind in load.kinds],
        start_s=taken.start_s,
        busy=taken.busy,
    )


@contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Start processes on one core while the block runs: what is started inherits it, this process gets its own back.

    Without a core, or on a system that has no such setting, nothing is done.
    """
    if core is None or sys.platform != "linux":
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(before)[core % len(before)]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def capacity(
    port: int, kinds: Sequence[Kind], clients: int, seconds: float, core: int | None = None
) -> float:
    """Answers with status 200 a second of `clients` that each send the next request when they have their answer.

    A third as long goes before and does not count.
    """
    phases = [
        Phase("warm", seconds / 3, clients=clients),
        Phase("measured", seconds, clients=clients),
    ]
    return run(Load(port, list(kinds), phases, timeout_s=30), core).of("measured").rate()
