"""The routes as one ASGI application: what the head says is checked first, then the service answers, in one thread.

Requests are answered on the event loop itself. There is one writer, every answer ends in a durable write, and the work
of an answer is a few milliseconds: another thread would only add its hand-over. Posts of events that arrive while one is
written share the next commit.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import replace
from typing import Any, TypeAlias

import msgspec

from sevenfold.clock import elapsed_s
from sevenfold.serving.background import Background
from sevenfold.serving.changing import ChangeStatus
from sevenfold.serving.head import CLOSE, check_length, check_token, priority, too_large
from sevenfold.serving.openapi import description, openapi
from sevenfold.serving.problem import HttpError, http_error
from sevenfold.serving.route import JSON, Asked, Headers, Reply, Route, Table
from sevenfold.serving.routes.table import ROUTES
from sevenfold.serving.service import Service
from sevenfold.serving.site import Site

__all__ = ["App"]

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

_LOG = logging.getLogger(__name__)
_MAX_BODY_BYTES = 16 * 1024 * 1024
_BODY_TIMEOUT_S = 15


class App:
    """The server of one service; writes of events and reloads need the token.

    A body has at most as many bytes as its route allows, and never more than `max_body_bytes`.
    """

    def __init__(
        self,
        service: Service,
        token: str,
        version: str,
        max_body_bytes: int = _MAX_BODY_BYTES,
        body_timeout_s: float = _BODY_TIMEOUT_S,
        change: Callable[[], ChangeStatus] | None = None,
        admission: bool = True,
    ) -> None:
        self.site = Site(service, change, admission)
        self._token = f"Bearer {token}".encode()
        if self.site.gate is not None:
            for route in ROUTES:
                if route.turn is not None:
                    self.site.gate.serve(route.path, route.turn, route.laddered)
        self._max_body_bytes = max_body_bytes
        self._body_timeout_s = body_timeout_s
        self.background = Background(service.jobs, self.site.metrics.job)
        self._numbers = itertools.count(1)
        described = openapi(f"Sevenfold: {service.system.name}", version)
        self._table = Table((*ROUTES, description(msgspec.json.encode(described))))

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request, or keep the lifespan protocol."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send, self.background)
            return
        if scope["type"] != "http":
            return
        begin_s = elapsed_s()
        request_id = f"{next(self._numbers):x}"
        label, status = "other", 200
        try:
            route, names = self._table.find(scope["method"], scope["path"])
            label = route.path
            asked = Asked(b"", dict(scope["headers"]), names, begin_s)
            reply = await self._answer(route, asked, receive)
        except HttpError as error:
            status, reply = error.status, Reply(error.body(request_id), JSON, error.headers)
        except Exception as error:  # noqa: BLE001  the edge of the process
            refusal = http_error(error)
            if refusal.status >= 500:
                _LOG.exception("request failed id=%s path=%s", request_id, scope["path"])
            status, reply = refusal.status, Reply(refusal.body(request_id))
        self.site.metrics.request(label, status, elapsed_s() - begin_s)
        await _send(send, status, reply)

    async def _answer(self, route: Route, head: Asked, receive: Receive) -> Reply:
        if route.scope in ("events", "admin"):
            check_token(head.headers, self._token)
        limit = min(route.max_body_bytes, self._max_body_bytes)
        size = check_length(head.headers, limit)
        gate = self.site.gate
        if route.turn is None or gate is None:
            body = await self._body(receive, limit)
            reply = route.answer(self.site, replace(head, body=body))
            return reply if isinstance(reply, Reply) else await reply
        # The head decides: what is refused has cost neither the reading of its body nor a parse.
        ticket = gate.enter(route.path, priority(head.headers, self._token), size)
        body = await self._body(receive, limit)
        await gate.turn(ticket)
        try:
            reply = route.answer(self.site, replace(head, body=body, ticket=ticket))
            if not isinstance(reply, Reply):
                reply = await reply
            ticket.done = True
            return reply
        except Exception as error:
            ticket.failed = http_error(error).status >= 500
            raise
        finally:
            gate.leave(ticket)

    async def _body(self, receive: Receive, limit: int) -> bytes:
        try:
            async with asyncio.timeout(self._body_timeout_s):
                return await _read_body(receive, limit)
        except TimeoutError:
            message = f"the body did not arrive within {self._body_timeout_s} s"
            raise HttpError(408, "too_slow", message, headers=CLOSE) from None


async def _read_body(receive: Receive, limit: int) -> bytes:
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise HttpError(400, "disconnected", "the client went away")
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise too_large(limit)
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


async def _send(send: Send, status: int, reply: Reply) -> None:
    head: Headers = (
        (b"content-type", reply.kind),
        (b"content-length", str(len(reply.body)).encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"cache-control", b"no-store"),
        *reply.headers,
    )
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": reply.body})


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
