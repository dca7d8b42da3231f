"""The same by Ray Serve, one replica: `python ray_server.py PORT TREES`."""

import signal
import sys
import threading
from pathlib import Path

import lightgbm
import numpy as np
import ray
from ray import serve
from starlette.requests import Request


@serve.deployment(num_replicas=1, ray_actor_options={"num_cpus": 0})
class Ranker:
    """The model and how it is asked."""

    def __init__(self, trees: str) -> None:
        self.booster = lightgbm.Booster(model_file=trees)

    async def __call__(self, request: Request) -> dict[str, list[float]]:
        """The scores of the rows."""
        rows = (await request.json())["rows"]
        scores = self.booster.predict(np.array(rows, dtype=np.float32), num_threads=1)
        return {"scores": scores.tolist()}


if __name__ == "__main__":
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    # One core: it is pinned to one, as all are. A short path: its sockets lie there.
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="error")
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Ranker.bind(str(Path(sys.argv[2]))), route_prefix="/rank")
    over.wait()
    serve.shutdown()
    ray.shutdown()
