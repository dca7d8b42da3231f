"""A plain FastAPI + uvicorn service: `python fastapi_server.py PORT TREES` scores ready-made rows by LightGBM, and does nothing else."""

import sys

import lightgbm
import numpy as np
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

booster = lightgbm.Booster(model_file=sys.argv[2])
app = FastAPI()


class Rows(BaseModel):
    """Rows of features; null is not known."""

    rows: list[list[float | None]]


@app.post("/rank")
def rank(asked: Rows) -> dict[str, list[float]]:
    """The scores of the rows."""
    x = np.array(asked.rows, dtype=np.float32)
    return {"scores": booster.predict(x, num_threads=1).tolist()}


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False)
