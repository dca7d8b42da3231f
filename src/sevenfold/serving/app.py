"""The routes as one ASGI application: size and token first, then the service, in one thread.

Requests are answered on the event loop itself. There is one writer, every answer ends in a durable write, and the work
of an answer is a few milliseconds: another thread would only add its hand-over. Posts of events that arrive while one is
written share the next commit.
"""

from __future__ import annotations

import asyncio
import hmac
import itertools
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

import msgspec

from sevenfold.clock import elapsed_s
from sevenfold.serving.background import Background
from sevenfold.serving.changing import ChangeStatus
from sevenfold.serving.gathering import Gathering
from sevenfold.serving.ingest import IngestResult, Post
from sevenfold.serving.metrics import Metrics
from sevenfold.serving.openapi import openapi
from sevenfold.serving.prediction_log import Prediction
from sevenfold.serving.problem import HttpError, decoded, http_error
from sevenfold.serving.request import (
    ChangeAnswer,
    EventsAnswer,
    EventsRequest,
    FeaturesRequest,
    ForgetAnswer,
    ForgetRequest,
    Item,
    RankRequest,
    RecommendAnswer,
    RecommendRequest,
    RefusedEvent,
    ReloadAnswer,
)
from sevenfold.serving.service import Service

__all__ = ["App"]

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Answer: TypeAlias = tuple[bytes, dict[str, int], bytes]
Handler: TypeAlias = Callable[[bytes], Answer | Awaitable[Answer]]

_LOG = logging.getLogger(__name__)
_JSON = b"application/json"
_MAX_BODY_BYTES = 16 * 1024 * 1024
_BODY_TIMEOUT_S = 15
_CLOSE = ((b"connection", b"close"),)


class App:
    """The server of one service; writes of events and reloads need the token."""

    def __init__(
        self,
        service: Service,
        token: str,
        version: str,
        max_body_bytes: int = _MAX_BODY_BYTES,
        body_timeout_s: float = _BODY_TIMEOUT_S,
        change: Callable[[], ChangeStatus] | None = None,
    ) -> None:
        self._service = service
        self._change_ordered = change
        self._token = f"Bearer {token}".encode()
        self._max_body_bytes = max_body_bytes
        self._body_timeout_s = body_timeout_s
        self._metrics = Metrics()
        self.background = Background(service.jobs, self._metrics.job)
        self._numbers = itertools.count(1)
        self._openapi = msgspec.json.encode(openapi(f"Sevenfold: {service.system.name}", version))
        self._events = msgspec.json.Decoder(EventsRequest)
        self._recommend = msgspec.json.Decoder(RecommendRequest)
        self._rank = msgspec.json.Decoder(RankRequest)
        self._forgets = msgspec.json.Decoder(ForgetRequest)
        self._features = msgspec.json.Decoder(FeaturesRequest)
        self._encode = msgspec.json.Encoder().encode
        self._gathering = Gathering(service.accept_posts)
        self._posts: dict[str, tuple[Handler, bool]] = {
            "/v1/events": (self._take_events, True),
            "/v1/recommend": (self._answer_recommend, False),
            "/v1/rank": (self._answer_rank, False),
            "/v1/features": (self._answer_features, False),
            "/v1/change": (self._change, True),
            "/v1/forget": (self._forget, True),
            "/v1/reload": (self._reload, True),
        }
        self._gets: dict[str, Handler] = {
            "/healthz": lambda _: (b'{"status":"ok"}', {}, _JSON),
            "/readyz": self._ready,
            "/v1/change": lambda _: self._change_status(),
            "/v1/forget": lambda _: self._forget_status(),
            "/metrics": self._metrics_text,
            "/openapi.json": lambda _: (self._openapi, {}, _JSON),
        }

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request, or keep the lifespan protocol."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send, self.background)
            return
        if scope["type"] != "http":
            return
        begin_s = elapsed_s()
        path = scope["path"]
        request_id = f"{next(self._numbers):x}"
        headers: tuple[tuple[bytes, bytes], ...] = ()
        try:
            handler = self._route(scope)
            body = await self._body(scope, receive)
            answer = handler(body)
            raw, timing_us, kind = answer if isinstance(answer, tuple) else await answer
            status = 200
            if timing_us:
                headers = ((b"server-timing", _server_timing(timing_us)),)
        except HttpError as error:
            raw, status, kind, headers = error.body(request_id), error.status, _JSON, error.headers
        except Exception as error:  # noqa: BLE001  the edge of the process
            refusal = http_error(error)
            if refusal.status >= 500:
                _LOG.exception("request failed id=%s path=%s", request_id, path)
            raw, status, kind = refusal.body(request_id), refusal.status, _JSON
        known = path if path in self._posts or path in self._gets else "other"
        self._metrics.request(known, status, elapsed_s() - begin_s)
        await _send(send, status, raw, kind, headers)

    def _route(self, scope: Message) -> Handler:
        path, method = scope["path"], scope["method"]
        if path in self._posts and not (path in self._gets and method in ("GET", "HEAD")):
            handler, guarded = self._posts[path]
            if method != "POST":
                raise _wrong_method(b"POST")
            if guarded:
                self._check_token(scope)
            return handler
        if path in self._gets:
            if method not in ("GET", "HEAD"):
                raise _wrong_method(b"GET, HEAD")
            return self._gets[path]
        raise HttpError(404, "no_such_route", "no such route; /openapi.json lists them")

    def _check_token(self, scope: Message) -> None:
        given = dict(scope["headers"]).get(b"authorization", b"")
        if not hmac.compare_digest(given, self._token):
            raise HttpError(
                401,
                "unauthorized",
                "this route needs `Authorization: Bearer TOKEN`; the token is in the home folder",
                headers=((b"www-authenticate", b"Bearer"),),
            )

    async def _body(self, scope: Message, receive: Receive) -> bytes:
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        limit = self._max_body_bytes
        if not declared.isdigit() or int(declared) > limit:
            raise _too_large(limit)
        try:
            async with asyncio.timeout(self._body_timeout_s):
                return await _read_body(receive, limit)
        except TimeoutError:
            message = f"the body did not arrive within {self._body_timeout_s} s"
            raise HttpError(408, "too_slow", message, headers=_CLOSE) from None

    def _take_events(self, body: bytes) -> Answer | Awaitable[Answer]:
        request = decoded(self._events, body)
        if (request.event is None) == (request.events is None):
            raise HttpError(400, "invalid_body", "give either `event` or `events`", "$")
        rows: list[Any] = [request.event] if request.event is not None else request.events or []
        if request.known_us is None:
            return self._gathered(Post(request.stream, rows))
        return self._taken(
            request.stream, self._service.accept(request.stream, rows, request.known_us)
        )

    async def _gathered(self, post: Post) -> Answer:
        return self._taken(post.stream, await self._gathering.take(post))

    def _taken(self, stream: str, result: IngestResult) -> Answer:
        refused = [RefusedEvent(r.index, r.reason, r.message) for r in result.refused]
        self._metrics.rows(result.events, result.duplicates, [r.reason for r in refused])
        for alert in result.alerts:
            self._metrics.alert(stream, alert.expectation)
        answer = EventsAnswer(
            result.position, result.events, result.duplicates, len(refused), refused
        )
        return self._encode(answer), {}, _JSON

    def _answer_recommend(self, body: bytes) -> Answer:
        return self._answered(*self._service.recommend(decoded(self._recommend, body)))

    def _answer_rank(self, body: bytes) -> Answer:
        return self._answered(*self._service.rank(decoded(self._rank, body)))

    def _answered(self, prediction: Prediction, repeated: bool) -> Answer:
        if not repeated:
            self._metrics.answer(prediction.rung, prediction.timing_us)
        return self._encode(recommend_answer(prediction, repeated)), prediction.timing_us, _JSON

    def _answer_features(self, body: bytes) -> Answer:
        return self._encode(self._service.read_features(decoded(self._features, body))), {}, _JSON

    def _change(self, body: bytes) -> Answer:
        if self._change_ordered is None:
            raise HttpError(
                409, "conflict", "this server cannot change: it has no home to be told in"
            )
        self._change_ordered()
        return self._change_status()

    def _change_status(self) -> Answer:
        status = self._service.changing.status
        answer = ChangeAnswer(
            status.state,
            self._service.definition.name,
            status.target,
            list(status.views),
            status.done,
            status.total,
            status.reason,
        )
        return self._encode(answer), {}, _JSON

    def _forget(self, body: bytes) -> Answer:
        asked = decoded(self._forgets, body)
        self._service.forget(asked.entity, asked.key)
        return self._forget_status()

    def _forget_status(self) -> Answer:
        still_open, done = self._service.forgotten()
        counts = (done.entities, done.events, done.predictions, done.dead_letters, done.states)
        return self._encode(ForgetAnswer(still_open, *counts)), {}, _JSON

    def _reload(self, body: bytes) -> Answer:
        self._service.changing.settle()
        champion = self._service.champion
        changed = champion.reload()
        if champion.refused is not None:
            raise HttpError(409, "model_refused", champion.refused)
        return self._encode(ReloadAnswer(changed, self._version_now())), {}, _JSON

    def _version_now(self) -> int:
        loaded = self._service.champion.loaded
        return loaded.version if loaded else 0

    def _metrics_text(self, body: bytes) -> Answer:
        status = self._service.changing.status
        self._metrics.change(status.done, status.total)
        audited = self._service.audit.totals
        rates = audited.rates(self._service.features)
        self._metrics.audit(audited.compared, audited.different, rates)
        end = self._service.position()
        if self._service.keeping is not None:
            self._metrics.history(self._service.keeping.kept())
        raw = self._metrics.text(end, self._version_now())
        return raw, {}, b"text/plain; version=0.0.4; charset=utf-8"

    def _ready(self, body: bytes) -> Answer:
        reason = self._service.ready()
        if reason is not None:
            _LOG.error("not ready reason=%s", reason)
            raise HttpError(503, "not_ready", "a probe row cannot be scored; the log says why")
        return b'{"status":"ready"}', {}, _JSON


def recommend_answer(prediction: Prediction, repeated: bool) -> RecommendAnswer:
    """A logged answer as the client sees it."""
    masks = prediction.source_masks()
    items = []
    for position, row in enumerate(prediction.shown_rows().tolist(), start=1):
        sources = [name for g, name in enumerate(prediction.generators) if int(masks[row]) >> g & 1]
        items.append(Item(prediction.items[row], position, prediction.score_at(position), sources))
    return RecommendAnswer(
        prediction.request_id,
        items,
        prediction.model,
        prediction.version,
        prediction.rung,
        prediction.t_us,
        repeated,
        {stage: taken / 1000 for stage, taken in prediction.timing_us.items()},
    )


async def _read_body(receive: Receive, limit: int) -> bytes:
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise HttpError(400, "disconnected", "the client went away")
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def _wrong_method(allowed: bytes) -> HttpError:
    message = f"this route takes {allowed.decode()} only"
    return HttpError(405, "wrong_method", message, headers=((b"allow", allowed),))


def _too_large(limit: int) -> HttpError:
    return HttpError(
        413, "too_large", f"a body has at most {limit} bytes; send it in parts", headers=_CLOSE
    )


def _server_timing(timing_us: dict[str, int]) -> bytes:
    return ", ".join(
        f"{stage};dur={taken / 1000:.3f}" for stage, taken in timing_us.items()
    ).encode()


async def _send(
    send: Send, status: int, raw: bytes, kind: bytes, headers: tuple[tuple[bytes, bytes], ...]
) -> None:
    head = [
        (b"content-type", kind),
        (b"content-length", str(len(raw)).encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"cache-control", b"no-store"),
        *headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": raw})


async def _lifespan(receive: Receive, send: Send, background: Background) -> None:
    task: asyncio.Task[None] | None = None
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            task = asyncio.create_task(background.run())
        elif task is not None:
            task.cancel()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
