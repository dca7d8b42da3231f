"""Recommendations, rankings and features out."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Sequence

import msgspec

from sevenfold.serving.encoding import ARROW, encoded
from sevenfold.serving.head import left_s
from sevenfold.serving.pending import Draft
from sevenfold.serving.prediction_log import Prediction
from sevenfold.serving.problem import decoded
from sevenfold.serving.request import (
    FeaturesAnswer,
    FeaturesRequest,
    Item,
    RankRequest,
    RecommendAnswer,
    RecommendRequest,
)
from sevenfold.serving.route import Asked, Reply, Route
from sevenfold.serving.rungs import Allowance
from sevenfold.serving.site import Site
from sevenfold.serving.tracing import Answered, Tracing
from sevenfold.types import US_PER_S

__all__ = ["PREDICT", "allowance", "recommend_answer"]

_RECOMMEND = msgspec.json.Decoder(RecommendRequest)
_RANK = msgspec.json.Decoder(RankRequest)
_FEATURES = msgspec.json.Decoder(FeaturesRequest)


def _recommend(site: Site, asked: Asked) -> Awaitable[Reply]:
    request = decoded(_RECOMMEND, asked.body)
    allowed = allowance(asked, _best(site, asked))
    draft = site.service.draft_recommend(request, allowed)
    _note_made(site, asked, request, draft)
    return _kept(site, asked, request, draft)


def _rank(site: Site, asked: Asked) -> Awaitable[Reply]:
    request = decoded(_RANK, asked.body)
    allowed = allowance(asked, _best(site, asked))
    draft = site.service.draft_rank(request, allowed)
    _note_made(site, asked, request, draft)
    return _kept(site, asked, request, draft)


def _best(site: Site, asked: Asked) -> str:
    """The rung that the load and the faults of now allow."""
    if site.gate is None or asked.ticket is None:
        return "full"
    return site.gate.ladder.rungs[asked.ticket.level]


def _note_made(site: Site, asked: Asked, request: RecommendRequest, draft: Draft) -> None:
    """Note in the ticket how the answer ended: it is made, and its turn is over before it is on disk."""
    ticket, prediction = asked.ticket, draft.prediction
    if ticket is None:
        return
    ticket.is_made = True
    if draft.repeated:
        return
    # What is given as it was made ahead is at no level of the ladder: no load and no fault is in it.
    ticket.rung = _best(site, asked) if prediction.rung == "batch" else prediction.rung
    # No fault of a stage: who asks left little time, there is nothing to rank, or no model to rank it with.
    hurried = request.timeout_ms is not None or math.isfinite(left_s(asked.headers))
    slate = site.service.system.serving.slate
    wanted = prediction.rung == "cached" and slate is not None and slate.always
    nothing = not prediction.items or not site.version_now()
    ticket.excused = hurried or wanted or nothing or "table" in prediction.degraded


async def _kept(site: Site, asked: Asked, request: RecommendRequest, draft: Draft) -> Reply:
    if not draft.is_kept:
        site.service.pending.settle_soon()
        await _waited(site, asked, draft)
    return _answered(site, asked, request, draft.prediction, draft.repeated)


async def _waited(site: Site, asked: Asked, draft: Draft) -> None:
    """Wait until it is on disk; where there is a gate, for as long as that says: raises HttpError 503 then."""
    gate, ticket = site.gate, asked.ticket
    if gate is None or ticket is None:
        await draft.kept()
        return
    if not await draft.kept(gate.patience_s(ticket)):
        raise gate.unkept(ticket)


def allowance(asked: Asked, best: str = "full") -> Allowance:
    """What the caller leaves an answer: its time runs from the arrival; raises HttpError 400."""
    arrived_s = asked.arrived_s if asked.ticket is None else asked.ticket.arrived_s
    return Allowance(best, arrived_s, arrived_s + left_s(asked.headers))


def _answered(
    site: Site, asked: Asked, request: RecommendRequest, prediction: Prediction, repeated: bool
) -> Reply:
    if not repeated:
        site.metrics.answer(prediction.rung, prediction.timing_us, prediction.degraded)
        if site.tracing is not None:
            route = "/v1/rank" if isinstance(request, RankRequest) else "/v1/recommend"
            _trace(site.tracing, asked, route, prediction)
    headers = ((b"server-timing", _server_timing(prediction.timing_us)),)
    answer = recommend_answer(prediction, repeated)
    return encoded(answer, asked.headers, headers if prediction.timing_us else ())


def _trace(tracing: Tracing, asked: Asked, route: str, prediction: Prediction) -> None:
    wanted, parent = tracing.wants(asked.headers, prediction.request_id)
    if not wanted:
        return
    told: dict[str, str | int | bool] = {
        "sevenfold.request_id": prediction.request_id,
        "sevenfold.rung": prediction.rung,
        "sevenfold.model": prediction.model,
        "sevenfold.version": prediction.version,
        "sevenfold.candidates": len(prediction.items),
        "sevenfold.items": len(prediction.shown) // 4,
    }
    told |= {f"sevenfold.degraded.{stage}": what for stage, what in prediction.degraded.items()}
    since_s = asked.arrived_s if asked.ticket is None else asked.ticket.arrived_s
    tracing.traces.answered(Answered(route, parent, since_s, prediction.timing_us, told))


def _features(site: Site, asked: Asked) -> Reply:
    return encoded(site.service.read_features(decoded(_FEATURES, asked.body)), asked.headers)


def recommend_answer(prediction: Prediction, repeated: bool) -> RecommendAnswer:
    """A logged answer as the client sees it."""
    names, masks = prediction.items, memoryview(prediction.sources).cast("I")
    sources: dict[int, list[str]] = {}
    items: list[Item] = []
    scores = memoryview(prediction.scores).cast("d")
    for row, score in zip(prediction.shown_list(), scores, strict=True):
        mask = masks[row]
        if mask not in sources:
            sources[mask] = _named(mask, prediction.generators)
        items.append(Item(names[row], len(items) + 1, score, sources[mask]))
    return RecommendAnswer(
        prediction.request_id,
        items,
        prediction.model,
        prediction.version,
        prediction.rung,
        prediction.t_us,
        repeated,
        {stage: taken / 1000 for stage, taken in prediction.timing_us.items()},
        prediction.degraded,
        prediction.as_of_us or None,
        (prediction.t_us - prediction.as_of_us) / US_PER_S if prediction.as_of_us else None,
    )


def _named(mask: int, generators: Sequence[str]) -> list[str]:
    """The generators whose bits are set."""
    return [name for g, name in enumerate(generators) if mask >> g & 1]


def _server_timing(timing_us: dict[str, int]) -> bytes:
    return ", ".join(
        f"{stage};dur={taken / 1000:.3f}" for stage, taken in timing_us.items()
    ).encode()


PREDICT = (
    Route(
        "POST",
        "/v1/recommend",
        "predict",
        "Recommend items.",
        _recommend,
        RecommendRequest,
        RecommendAnswer,
        has_deadline=True,
        turn="answers",
        also=(ARROW,),
        laddered=True,
    ),
    Route(
        "POST",
        "/v1/rank",
        "predict",
        "Rank the items given.",
        _rank,
        RankRequest,
        RecommendAnswer,
        has_deadline=True,
        turn="answers",
        also=(ARROW,),
        laddered=True,
    ),
    Route(
        "POST",
        "/v1/features",
        "predict",
        "The values of given keys now.",
        _features,
        FeaturesRequest,
        FeaturesAnswer,
        has_deadline=True,
        turn="answers",
        also=(ARROW,),
    ),
)
