"""The system of the spike benchmark: that of `ranking_system`, to be answered within 150 ms, with all of the ladder but a lighter model."""

from dataclasses import replace

import sevenfold as sf
from benchmarks import ranking_system

system = replace(
    ranking_system.system,
    requirements=replace(ranking_system.system.requirements, latency=sf.Latency(p99="150 ms")),
    serving=replace(
        ranking_system.system.serving, degrade=("fewer", "baseline", "popular", "empty")
    ),
)
