"""The same by LitServe, one worker: `python litserve_server.py PORT TREES`."""

import sys
from typing import Any

import lightgbm
import litserve
import numpy as np


class Ranker(litserve.LitAPI):
    """The model and how it is asked."""

    def setup(self, device: str) -> None:
        """Load the model in the worker."""
        self.booster = lightgbm.Booster(model_file=sys.argv[2])

    def decode_request(self, request: dict[str, Any]) -> Any:
        """The rows as a matrix."""
        return np.array(request["rows"], dtype=np.float32)

    def predict(self, x: Any) -> Any:
        """The scores of the rows."""
        return self.booster.predict(x, num_threads=1)

    def encode_response(self, output: Any) -> dict[str, list[float]]:
        """The scores as JSON takes them."""
        return {"scores": output.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(
        Ranker(api_path="/rank"), accelerator="cpu", workers_per_device=1, timeout=30
    )
    server.run(
        host="127.0.0.1",
        port=int(sys.argv[1]),
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )
