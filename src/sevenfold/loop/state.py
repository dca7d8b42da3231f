"""How far a run has come, kept on disk so that it can go on."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from sevenfold.errors import RunError
from sevenfold.loop.replay import Cursor
from sevenfold.loop.summary import DriftLine, PromotionLine

__all__ = ["RunState", "load_state", "save_state"]


class RunState(msgspec.Struct):
    """What is done: history rows, the replay's cursor, whole steps, and what was decided.

    `first` is the version of the first learned model that was promoted, kept for comparison; `logistic` the
    latest linear one. `trained_us` is when a model was last trained, `sample_step` the step whose rows the
    champion's drift is measured against, `took_s` the time of earlier attempts.
    """

    settings: str
    history_rows: int = 0
    cursor: Cursor = msgspec.field(default_factory=Cursor)
    steps_done: int = 0
    first: int = 0
    first_step: int = 0
    logistic: int = 0
    trained_us: int = 0
    sample_step: int = -1
    promotions: list[PromotionLine] = []
    drift: list[DriftLine] = []
    stages_ms: dict[str, list[float]] = {}
    took_s: float = 0.0


def load_state(path: Path, settings: str) -> RunState:
    """The state at `path`, a new one if there is none.

    Raises RunError when the file belongs to a run with other settings.
    """
    if not path.exists():
        return RunState(settings)
    try:
        state = msgspec.json.decode(path.read_bytes(), type=RunState)
    except msgspec.DecodeError as error:
        raise RunError(f"{path} does not hold a run: {error}; give another --home") from error
    if state.settings != settings:
        raise RunError(
            f"{path} belongs to a run with other settings ({state.settings}, now {settings}); "
            "give another --home, or --fresh to begin again"
        )
    return state


def save_state(path: Path, state: RunState) -> None:
    """Keep the state: whole or not at all."""
    partial = path.with_suffix(".part")
    with partial.open("wb") as file:
        file.write(msgspec.json.encode(state))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
