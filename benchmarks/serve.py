"""A server under load: 100 candidates with 40 features ranked by 500 trees (`benchmarks.served`); and one recommend request, by stage, on the shop.

The store holds the shop's events up to 4 July 2011; a real server process answers the baskets of the days after,
their lines sent between them. Stages are timed by the server, the whole by the client, on one kept connection.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import served
from benchmarks.measure import Report, figure, ratio
from sevenfold.blueprints.shop.scenario import scenario
from sevenfold.loop.client import Client
from sevenfold.loop.replay import Cursor, Replay
from sevenfold.loop.run import Run
from sevenfold.loop.server_process import ServerProcess

PACKAGES = ("sevenfold", "numpy", "numba", "lmdb", "uvicorn", "lightgbm")
REQUESTS = 300


def run(repeat: int, scale: float, servers: Path | None = None) -> Report:
    """Measure requests; `scale` shortens the histories, `servers` is a Python that has model servers to measure beside ours."""
    report = Report("serve")
    served.measure(report, repeat, scale, servers)
    _shop(report, repeat, scale)
    return report


def _shop(report: Report, repeat: int, scale: float) -> None:
    shop = scenario(quick=True)
    world = shop.world()
    if scale < 1:
        live_us = int(np.quantile(world.arrival_us, max(0.05, 0.7 * scale)))
        shop = replace(shop, live_us=live_us)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        prepared = Run(replace(shop, world=lambda: world), home, "benchmark", lambda *_: None)
        prepared.prepare()
        with ServerProcess("shop", home, ["--clock", "replay"]) as server:
            client = _Timed(server.port, prepared.token())
            begin = int(np.searchsorted(world.requests.t_us, shop.live_us))
            row = int(np.searchsorted(world.arrival_us, shop.live_us))
            replay = Replay(world, client, shop.system.task.k, Cursor(row, begin), lambda _: None)
            size = max(20, int(REQUESTS * scale)) * max(1, repeat // 5)
            replay.advance(int(world.requests.t_us[begin + size]))
            client.close()
    for stage, taken in replay.stages_ms.items():
        report.results[f"{stage}_ms"] = figure(taken, "ms")
    report.results["recommend_http_ms"] = figure(client.taken_ms, "ms")
    inside = [sum(stages) for stages in zip(*replay.stages_ms.values(), strict=False)]
    report.results["stages_together_ms"] = figure(inside, "ms")
    report.ratios["http_vs_stages"] = ratio(
        report.results["recommend_http_ms"], report.results["stages_together_ms"]
    )
    for share in (0.95, 0.99):
        report.notes.append(
            f"p{share * 100:.0f} of a whole request of the shop: {np.quantile(client.taken_ms, share):.2f} ms"
        )


class _Timed(Client):
    """A client that times recommendations."""

    def __init__(self, port: int, token: str) -> None:
        super().__init__(port, token)
        self.taken_ms: list[float] = []

    def post(self, path: str, body: Any) -> dict[str, Any]:
        """Post, and time it when it is a recommendation."""
        begin = time.perf_counter()
        answer = super().post(path, body)
        if path == "/v1/recommend":
            self.taken_ms.append(1000 * (time.perf_counter() - begin))
        return answer
