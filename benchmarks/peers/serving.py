"""Model servers beside ours: each a process of its own, run by the Python that has them, that scores ready-made rows and does nothing else."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.load import on_core
from benchmarks.peers.beside import PeerError
from benchmarks.processes import family

__all__ = ["PEERS", "SERVING_VARIABLE", "Server", "find_servers", "installed", "peer_server"]

SERVING_VARIABLE = "SEVENFOLD_SERVING_PEERS_PYTHON"
PEERS = {"fastapi": "fastapi", "bentoml": "bentoml", "litserve": "litserve", "ray_serve": "ray"}
"""The peers by name, each with the package that it is."""

_SERVERS = Path(__file__).with_name("servers")
_FILES = {name: _SERVERS / f"{name.removesuffix('_serve')}_server.py" for name in PEERS}
_START_S, _END_S = 120.0, 20.0
_ASKED = "import importlib.metadata as m, json, sys; print(json.dumps({n: m.version(n) for n in sys.argv[1:] if any(d.name == n for d in m.distributions())}))"


@dataclass(frozen=True)
class Server:
    """A server that listens: where, and which process began it."""

    port: int
    pid: int


def find_servers(given: Path | None) -> Path | None:
    """The interpreter that has the peers: the one given, that of the environment variable, or None; PeerError for one that is not there."""
    named = given or Path(os.environ.get(SERVING_VARIABLE, ""))
    if named == Path():
        return None
    if not named.is_file():
        raise PeerError(
            f"no interpreter at {named}: give --servers or {SERVING_VARIABLE} the path of one"
        )
    return named


def installed(python: Path) -> dict[str, str]:
    """The versions of the peers, and of what they share, that an interpreter has."""
    packages = [*PEERS.values(), "uvicorn", "lightgbm"]
    said = subprocess.run([python, "-I", "-c", _ASKED, *packages], capture_output=True, timeout=60)
    if said.returncode:
        raise PeerError(f"{python} does not run: {said.stderr.decode(errors='replace')[-500:]}")
    versions: dict[str, str] = json.loads(said.stdout)
    return versions


@contextmanager
def peer_server(
    python: Path,
    name: str,
    trees: Path,
    rows: npt.NDArray[np.float32],
    expected: npt.NDArray[np.float64],
) -> Iterator[Server]:
    """A peer that scores by `trees` on core 0 while the block runs; PeerError unless it gives `rows` the expected scores, to the bit."""
    port, log = _free_port(), trees.parent / f"{name}.log"
    with log.open("ab") as said, on_core(0):
        process = subprocess.Popen(
            [python, _FILES[name], str(port), trees],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            cwd=trees.parent,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": ""},
            start_new_session=True,
        )
    try:
        _require_equal(_first_answer(process, port, rows, log), expected, name)
        yield Server(port, process.pid)
    finally:
        _end(process)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _first_answer(
    process: subprocess.Popen[bytes], port: int, rows: npt.NDArray[np.float32], log: Path
) -> list[float]:
    known = [[None if v != v else v for v in row] for row in rows.tolist()]
    body, until = json.dumps({"rows": known}).encode(), time.monotonic() + _START_S
    while time.monotonic() < until and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        with suppress(OSError, http.client.HTTPException):
            connection.request("POST", "/rank", body, {"content-type": "application/json"})
            response = connection.getresponse()
            raw = response.read()
            if response.status == 200:
                answer = json.loads(raw)
                return list(answer["scores"] if isinstance(answer, dict) else answer)
        connection.close()
        time.sleep(0.3)
    words = log.read_text(errors="replace").splitlines()[-10:]
    raise PeerError(f"{log.stem} did not answer; the end of its log:\n  " + "\n  ".join(words))


def _require_equal(got: list[float], expected: npt.NDArray[np.float64], name: str) -> None:
    if not np.array_equal(np.array(got), expected):
        raise PeerError(f"{name} gives other scores than the model")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the peer and all that it started; what does not end by itself is killed."""
    started = family(process.pid)
    process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_END_S)
    for pid in {*started, *family(process.pid)}:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait(_END_S)
