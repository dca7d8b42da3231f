"""Events in."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import msgspec

from sevenfold.serving.ingest import IngestResult, Post
from sevenfold.serving.problem import HttpError, decoded
from sevenfold.serving.request import EventsAnswer, EventsRequest, RefusedEvent
from sevenfold.serving.route import Asked, Reply, Route
from sevenfold.serving.site import Site

__all__ = ["EVENTS"]

_EVENTS = msgspec.json.Decoder(EventsRequest)


def _take(site: Site, asked: Asked) -> Reply | Awaitable[Reply]:
    request = decoded(_EVENTS, asked.body)
    if (request.event is None) == (request.events is None):
        raise HttpError(400, "invalid_body", "give either `event` or `events`", "$")
    rows: list[Any] = [request.event] if request.event is not None else request.events or []
    if request.known_us is None:
        return _gathered(site, Post(request.stream, rows))
    result = site.service.accept(request.stream, rows, request.known_us)
    return _taken(site, request.stream, result)


async def _gathered(site: Site, post: Post) -> Reply:
    return _taken(site, post.stream, await site.gathering.take(post))


def _taken(site: Site, stream: str, result: IngestResult) -> Reply:
    refused = [RefusedEvent(r.index, r.reason, r.message) for r in result.refused]
    site.metrics.rows(result.events, result.duplicates, [r.reason for r in refused])
    for alert in result.alerts:
        site.metrics.alert(stream, alert.expectation)
    answer = EventsAnswer(result.position, result.events, result.duplicates, len(refused), refused)
    return Reply(site.encode(answer))


EVENTS = (
    Route(
        "POST",
        "/v1/events",
        "events",
        "Take events in; bad ones are named and kept apart.",
        _take,
        EventsRequest,
        EventsAnswer,
        max_body_bytes=16 * 1024 * 1024,
        turn="events",
    ),
)
