"""Step 6, serve: from candidates to an answer, and what is done when a stage fails or is late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal, TypeAlias

from sevenfold.spec import stage
from sevenfold.spec.quantity import Bounds, Count, Duration
from sevenfold.spec.retrieve import Retriever

__all__ = ["RESERVE", "RUNGS", "SHARES", "Mode", "Pipeline", "PredictionLog"]

Mode: TypeAlias = Literal["online", "batch", "hybrid"]
"""When an answer is made: when it is asked for, ahead, or its candidates ahead and the rest when it is asked for."""

RUNGS = ("full", "fewer", "light", "baseline", "cached", "nulls", "popular", "empty")
"""How an answer can be made, the best first; a pipeline declares which of those after the first it has."""

SHARES = {"retrieve": 0.2, "filter": 0.04, "features": 0.14, "score": 0.3, "rerank": 0.06}
"""How much of the p99 each stage may take where the pipeline does not say; the rest is slack of queue and door.

From published splits of feeds at 150 ms: 30, 5, 20, 45 and 8 ms."""

RESERVE = 0.04
"""How much of the p99 is kept for what follows the stages: the answer in the log, and on the wire."""


@dataclass(frozen=True, slots=True)
class PredictionLog:
    """What of an answer is logged: every shown row exactly, and `sample` of the others a request.

    With `retention` an answer leaves the log that long after it was given; without it, answers are kept.
    """

    sample: Annotated[int, Bounds(0, 1_000_000, whole=True)] = 2
    retention: Duration | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Pipeline:
    """Retrieve, filter, read the features, score, rerank, answer.

    `limit` bounds the merged candidates. `filter` says which of them stay, `rerank` what becomes of their order,
    one after another; both read features. `timeouts` says how long a stage may take (`retrieve`, `filter`,
    `features`, `score`, `rerank`), `reserve` what is kept for the log and the wire; what is not given is a share
    of the p99, and a request with less time has all of them shortened alike. `hot` and `slate` say what is kept in
    memory; in a replay nothing is.

    `degrade` is the order of cheaper answers when a stage fails, time is short or the server is asked for more than
    it can do: `fewer` (the model on the first `fewer` candidates, a quarter of `limit` when not given and at least
    `k`), `light` (the model behind the alias `light`), `baseline` (the rule), `cached` (the last slate, see `slate`), `nulls` (the model without what the
    store has), `popular` (the generators' own order), `empty`. From `fewer` on, every rung has the fewer
    candidates.

    `mode` says when answers are made. `online`: when they are asked for. `batch`: ahead, as slates in the table that
    `sevenfold score` or a job writes. `hybrid`: the candidates ahead, from that table, features and ranking when asked for. A
    slate that was made longer than `max_age` ago is not used; where the table has none, the answer is made as `online`, by
    `otherwise` or a cheaper rung. `jobs` bounds the jobs of clients.
    """

    Keep = stage.Keep
    Fresh = stage.Fresh
    Cap = stage.Cap
    Spread = stage.Spread
    Pin = stage.Pin
    Hot = stage.Hot
    Slate = stage.Slate
    Jobs = stage.Jobs

    retrieve: Sequence[Retriever]
    limit: Count = 500
    log: PredictionLog | None = field(default_factory=PredictionLog)
    degrade: Sequence[str] = ("baseline", "popular", "empty")
    fewer: Count | None = None
    filter: Sequence[stage.Keep] = ()
    rerank: Sequence[stage.Rerank] = ()
    timeouts: Mapping[str, Duration] = field(default_factory=dict)
    reserve: Duration | None = None
    hot: stage.Hot | None = None
    slate: stage.Slate | None = None
    mode: Mode = "online"
    max_age: Duration | None = None
    otherwise: str = "full"
    jobs: stage.Jobs = field(default_factory=stage.Jobs)

    @property
    def reads(self) -> tuple[str, ...]:
        """The features that filters and reranks read, each once, in the order of declaration."""
        named = [keep.feature for keep in self.filter]
        for step in self.rerank:
            named += _read(step)
        return tuple(dict.fromkeys(named))


def _read(step: stage.Rerank) -> Sequence[str]:
    if isinstance(step, stage.Spread):
        return step.by
    if isinstance(step, stage.Pin):
        return (step.keep.feature,)
    return (step.age,) if isinstance(step, stage.Fresh) else (step.by,)
