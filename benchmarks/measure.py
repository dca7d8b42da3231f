"""How a figure is taken and what is said of it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sevenfold

__all__ = [
    "Report",
    "Result",
    "cpu_times",
    "figure",
    "machine",
    "ratio",
    "side_by_side",
    "versions",
    "wall_times",
]


@dataclass(frozen=True)
class Result:
    """A figure's median and spread over n runs."""

    median: float
    min: float
    max: float
    unit: str
    n: int


@dataclass
class Report:
    """What one benchmark says: results by metric and ratios of ours to theirs."""

    name: str
    results: dict[str, Result] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    beside: dict[str, str] = field(default_factory=dict)
    """The versions of peers that ran in processes of their own."""

    def as_dict(self, packages: Sequence[str]) -> dict[str, Any]:
        """The report as one JSON-able object, with the machine and the versions it was taken with."""
        return {
            "name": self.name,
            "machine": machine(),
            "versions": versions(packages) | self.beside,
            "results": {key: vars(result) for key, result in self.results.items()},
            "ratios": self.ratios,
            "notes": self.notes,
        }


def figure(values: Sequence[float], unit: str) -> Result:
    """The median, least and most of `values`."""
    return Result(statistics.median(values), min(values), max(values), unit, len(values))


def ratio(ours: Result, theirs: Result) -> float:
    """Our median over theirs."""
    return ours.median / theirs.median


def cpu_times(work: Callable[[], Any], repeat: int, warm: int = 1) -> list[float]:
    """Processor seconds of this process, all threads, for each of `repeat` runs after `warm` more."""
    return _times(work, repeat, warm, time.process_time)


def side_by_side(
    contenders: Mapping[str, Callable[[int], Any]], rounds: int, warm: int = 20
) -> dict[str, list[float]]:
    """Wall seconds of each contender's `rounds` calls after `warm` more, taken in turns.

    Each is called with the number of the round. On a machine that others use too, what disturbs one of them
    then disturbs all, so their ratio means more than the figures.
    """
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for at in range(warm + rounds):
        for name, work in contenders.items():
            begin = time.perf_counter()
            work(at)
            if at >= warm:
                taken[name].append(time.perf_counter() - begin)
    return taken


def wall_times(work: Callable[[], Any], repeat: int, warm: int = 1) -> list[float]:
    """Wall seconds of each of `repeat` runs after `warm` more."""
    return _times(work, repeat, warm, time.perf_counter)


def _times(
    work: Callable[[], Any], repeat: int, warm: int, clock: Callable[[], float]
) -> list[float]:
    for _ in range(warm):
        work()
    taken = []
    for _ in range(repeat):
        begin = clock()
        work()
        taken.append(clock() - begin)
    return taken


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            model = next(
                line.split(":", 1)[1].strip() for line in file if line.startswith("model name")
            )
    except (OSError, StopIteration):
        pass
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_1min": load,
    }


def versions(packages: Sequence[str]) -> dict[str, str]:
    """The version of each package, of this one as its source says."""
    return {
        name: sevenfold.__version__ if name == "sevenfold" else importlib.metadata.version(name)
        for name in packages
    }
