"""The same by BentoML, one worker: `python bentoml_server.py PORT TREES`."""

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    os.environ["TREES"] = sys.argv[2]
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    os.environ["BENTOML_HOME"] = str(Path(sys.argv[2]).parent / "bentoml")
    here = str(Path(__file__).parent)
    command = ["-m", "bentoml", "serve", "bentoml_server:Ranker", "--working-dir", here]
    os.execv(
        sys.executable,
        [sys.executable, *command, "--host", "127.0.0.1", "--port", sys.argv[1]],
    )

import bentoml
import lightgbm
import numpy as np


@bentoml.service(workers=1, metrics={"enabled": False}, logging={"access": {"enabled": False}})
class Ranker:
    """The model and how it is asked."""

    def __init__(self) -> None:
        self.booster = lightgbm.Booster(model_file=os.environ["TREES"])

    @bentoml.api(route="/rank")
    def rank(self, rows: list[list[float | None]]) -> list[float]:
        """The scores of the rows."""
        scores = self.booster.predict(np.array(rows, dtype=np.float32), num_threads=1)
        return scores.tolist()
