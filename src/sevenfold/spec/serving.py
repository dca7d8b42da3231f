"""Step 6, serve: from candidates to an answer, and what is done when a stage fails or is late."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from sevenfold.spec.quantity import Bounds, Count, Duration
from sevenfold.spec.retrieve import Retriever

__all__ = ["RUNGS", "Pipeline", "PredictionLog"]

RUNGS = ("full", "fewer", "light", "baseline", "popular", "empty")
"""How an answer can be made, the best first; a pipeline declares which of those after the first it has."""


@dataclass(frozen=True, slots=True)
class PredictionLog:
    """What of an answer is logged: every shown row exactly, and `sample` of the others a request.

    With `retention` an answer leaves the log that long after it was given; without it, answers are kept.
    """

    sample: Annotated[int, Bounds(0, 1_000_000, whole=True)] = 2
    retention: Duration | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Pipeline:
    """Retrieve, rank, answer.

    `limit` bounds the merged candidates. `degrade` is the order of cheaper answers when the model fails, time
    is short or the server is asked for more than it can do: `fewer` (the model on the first `fewer`
    candidates, a quarter of `limit` when not given and at least `k`), `light` (the model behind the alias
    `light`), `baseline` (the rule), `popular` (the generators' own order), `empty`. From `fewer` on, every
    rung has the fewer candidates.
    """

    retrieve: Sequence[Retriever]
    limit: Count = 500
    log: PredictionLog | None = field(default_factory=PredictionLog)
    degrade: Sequence[str] = ("baseline", "popular", "empty")
    fewer: Count | None = None
