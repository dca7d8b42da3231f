"""A peer in a process of its own, asked in lines of JSON."""

from __future__ import annotations

import importlib.util
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sevenfold.types import Floats, Ints

__all__ = ["VARIABLE", "Peer", "PeerError", "compare", "feast_beside", "find_feast"]

VARIABLE = "SEVENFOLD_FEAST_PYTHON"
Numbers = npt.NDArray[np.floating[Any]]
_DRIVER = Path(__file__).with_name("feast_driver.py")
_START_S, _END_S = 300.0, 20.0


class PeerError(RuntimeError):
    """A peer is not where it was said to be, ended, took too long, or gives other values than ours."""


def find_feast(given: Path | None) -> Path | None:
    """The interpreter that has Feast: the one given, that of the environment variable, this one, or None.

    One that is named has to be there; PeerError otherwise.
    """
    named = given or Path(os.environ.get(VARIABLE, ""))
    if named == Path():
        here = importlib.util.find_spec("feast") is not None
        return Path(sys.executable) if here else None
    if not named.is_file():
        raise PeerError(f"no interpreter at {named}: give --feast or {VARIABLE} the path of one")
    return named


class Peer:
    """A running driver. Ask it by name; it answers in turn."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process, self._log = process, log
        self._rest = b""

    def ask(self, what: str, /, within_s: float = 3600.0, **arguments: Any) -> dict[str, Any]:
        """The answer of the driver's method `what`; PeerError with the end of its log where none comes in time."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # that it ended is seen where its answer is read
            self._process.stdin.write(json.dumps([what, arguments]).encode() + b"\n")
            self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._line(what, within_s))
        return answer

    def _line(self, what: str, within_s: float) -> bytes:
        assert self._process.stdout is not None
        until, file = time.monotonic() + within_s, self._process.stdout.fileno()
        while b"\n" not in self._rest:
            ready, _, _ = select.select([file], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise PeerError(f"{what}: no answer within {within_s:g} s{self._said()}")
            got = os.read(file, 1 << 20)
            if not got:
                raise PeerError(f"{what}: the peer has ended{self._said()}")
            self._rest += got
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _said(self) -> str:
        lines = self._log.read_text("utf-8", errors="replace").splitlines()[-15:]
        return "; the end of its log:\n  " + "\n  ".join(lines) if lines else ""

    @property
    def ended(self) -> bool:
        """Whether its process is no more."""
        return self._process.poll() is not None

    def stop(self) -> None:
        """End its input, then the process if it does not end by itself."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(_END_S)
        self._process.stdout.close()


@contextmanager
def feast_beside(python: Path, folder: Path) -> Iterator[tuple[Peer, dict[str, str]]]:
    """A driver of Feast run by `python`, and what it has installed; its log is in `folder`."""
    log = folder / "feast.log"
    environment = os.environ | {"FEAST_USAGE": "False", "PYTHONWARNINGS": "ignore"}
    with log.open("ab") as file:
        # -I: neither this project's path nor its folder, so that `import feast` is the peer's.
        process = subprocess.Popen(
            [python, "-I", _DRIVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=file,
            cwd=folder,
            env=environment,
        )
    peer = Peer(process, log)
    try:
        yield peer, peer.ask("hello", _START_S)
    finally:
        peer.stop()


def compare(expected: Numbers, rows: Ints, got: Floats) -> tuple[int, int]:
    """How many of the expected rows (n, f) are not among `rows` (m,), and how many of `got` (m, f) differ.

    A null is NaN on both sides. A row that was answered twice is a PeerError: there is nothing to compare it with.
    """
    if len(np.unique(rows)) != len(rows):
        raise PeerError(f"{len(rows) - len(np.unique(rows))} rows were answered twice")
    mine = expected[rows]
    same = (mine == got) | (np.isnan(mine) & np.isnan(got))
    return len(expected) - len(rows), int((~same).any(axis=1).sum())
