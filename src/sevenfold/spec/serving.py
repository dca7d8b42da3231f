"""Step 6, serve: from candidates to an answer, and what is done when a stage fails or is late."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from sevenfold.spec.quantity import Bounds, Count, Duration
from sevenfold.spec.retrieve import Retriever

__all__ = ["Pipeline", "PredictionLog"]


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

    `limit` bounds the merged candidates. `degrade` is the order of cheaper answers when the model fails or
    time is short: `baseline` (the rule), `popular` (the generators' own order), `empty`.
    """

    retrieve: Sequence[Retriever]
    limit: Count = 500
    log: PredictionLog | None = field(default_factory=PredictionLog)
    degrade: Sequence[str] = ("baseline", "popular", "empty")
