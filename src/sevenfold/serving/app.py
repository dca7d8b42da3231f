"""The routes as one ASGI application: what the head says is checked first, then the service answers, in one thread.

Requests are answered on the event loop itself. There is one writer, every answer ends in a durable write, and the work
of an answer is a few milliseconds: another thread would only add its hand-over. Posts of events that arrive while one is
written share the next commit.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping, Sequence
from typing import Any, TypeAlias

import msgspec

from sevenfold.clock import elapsed_s
from sevenfold.serving.admission import Rejection
from sevenfold.serving.background import Background
from sevenfold.serving.bodies import Bodies, Body
from sevenfold.serving.connection import HEARD
from sevenfold.serving.guard import Guard
from sevenfold.serving.head import CLOSE, check_length, left_s, priority, read_headers
from sevenfold.serving.limits import Limits
from sevenfold.serving.narrowed import narrowed
from sevenfold.serving.openapi import description, openapi
from sevenfold.serving.problem import HttpError, http_error, overloaded
from sevenfold.serving.reply_heads import ReplyHeads, head_of
from sevenfold.serving.rounds import Rounds
from sevenfold.serving.route import (
    JSON,
    Asked,
    Head,
    Headers,
    Heard,
    Refused,
    Reply,
    Route,
    Table,
)
from sevenfold.serving.routes.table import ROUTES
from sevenfold.serving.site import Site
from sevenfold.serving.tokens import Holder
from sevenfold.watch import Watch

__all__ = ["App"]

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

_LOG = logging.getLogger(__name__)
_HEADERS: Headers = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
_OIP = "/v2"
_NUMBER = "@number@"  # stands for the number of a request in what is made once
_ONLY_TLS: Headers = ((b"strict-transport-security", b"max-age=31536000"),)


class App:
    """What one listener of a server answers: `routes` of `site`, for those whom `guard` lets pass.

    A body has at most as many bytes as its route allows, and never more than `limits` do. The listener that has the
    lifespan also does the work beside the answers. With `counts` off its requests are not counted: whoever passes them
    on has counted them.
    """

    def __init__(
        self,
        site: Site,
        guard: Guard,
        limits: Limits | None = None,
        routes: Sequence[Route] = ROUTES,
        only_tls: bool = False,
        counts: bool = True,
    ) -> None:
        self.site = site
        self._guard = guard
        self._counts = counts
        self._limits = limits or Limits()
        self.background = Background(site.service.jobs, site.metrics.job, self._settle, self._idle)
        if site.gate is not None:
            for route in routes:
                if route.turn is not None:
                    site.gate.serve(route.path, route.turn, route.laddered)
        self._numbers = itertools.count(1)
        self._made: dict[tuple[str, int, bool], tuple[bytes, bytes, bytes, bytes]] = {}
        self.bodies = Bodies(self._limits.bodies_bytes)
        self._rounds = Rounds()
        self._headers = (*_HEADERS, *(_ONLY_TLS if only_tls else ()))
        self.heads = ReplyHeads(self._headers)
        title = f"Sevenfold: {site.service.system.name}"
        described = narrowed(
            openapi(title, site.version, routes, guard.needs_token),
            [entity.name for entity in site.service.system.task.query],
            site.service.replay,
        )
        self._table = Table((*routes, description(msgspec.json.encode(described))))

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request, or keep the lifespan protocol."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send, self.background, self.site.service.watches)
            return
        if scope["type"] != "http":
            return
        heard: Heard | None = scope.get("state", {}).get(HEARD)
        try:
            if heard is None:  # it came before its turn on the connection, or in a server of others
                heard = Heard(elapsed_s(), scope["path"])
                rejection = self._hear(heard, scope["method"], scope["headers"])
                if rejection is not None:
                    raise overloaded(rejection.reason, rejection.retry_s)
            body = await self._body(receive, heard.known.limit)
            reply = await self._answer(heard, body)
            self._count(heard, reply.status)
        except Exception as error:  # noqa: BLE001  the edge of the process
            assert heard is not None
            reply = self.refuse(heard, error)
        headers = self._reply_headers(reply)
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})

    def hear(
        self, method: str, path: str, headers: Sequence[tuple[bytes, bytes]]
    ) -> Heard | Refused:
        """What a request is whose head is there; or the answer that refuses it.

        The head decides: what is refused here has cost no task of its own, neither its body nor a parse.
        """
        heard = Heard(elapsed_s(), path)
        try:
            rejection = self._hear(heard, method, headers)
        except Exception as error:  # noqa: BLE001  the edge of the process
            return self._refused(heard, error)
        return heard if rejection is None else self._turned_away(heard, rejection)

    def hear_again(self, head: Head) -> Heard | Refused:
        """The same of a head that came before, with the same bytes."""
        heard = Heard(elapsed_s(), head.path, head.route.path, head)
        try:
            rejection = self._enter(heard, self._guard.admit(head.headers, head.route.scope))
        except Exception as error:  # noqa: BLE001  the edge of the process
            return self._refused(heard, error)
        return heard if rejection is None else self._turned_away(heard, rejection)

    def answer(
        self, heard: Heard, body: bytes, at_once: bool = True
    ) -> Reply | Coroutine[Any, Any, Reply]:
        """The answer to a request that was heard; or what gives it, where it is to wait, or not `at_once`."""
        if not at_once or heard.known.route.turn is not None:
            return self._awaited(heard, self._answer(heard, body))
        try:
            reply = self._ask(heard, body)
        except Exception as error:  # noqa: BLE001  the edge of the process
            return self.refuse(heard, error)
        if not isinstance(reply, Reply):
            return self._awaited(heard, reply)
        self._count(heard, reply.status)
        return reply

    def refuse(self, heard: Heard, error: Exception) -> Reply:
        """The answer that says why there is no other, counted."""
        reply = self._refusal(error, heard.path)
        self._count(heard, reply.status)
        return reply

    def _hear(
        self, heard: Heard, method: str, given: Sequence[tuple[bytes, bytes]]
    ) -> Rejection | None:
        path = heard.path
        route, names = self._table.find(method, path)
        heard.label = route.path
        headers = read_headers(given)
        holder = self._guard.admit(headers, route.scope)
        limit = min(route.max_body_bytes, self._limits.max_body_bytes)
        size = check_length(headers, limit)
        wanted_s = left_s(headers) if route.has_deadline else math.inf
        heard.head = Head(method, path, route, names, headers, limit, size, wanted_s)
        return self._enter(heard, holder)

    def _enter(self, heard: Heard, holder: Holder | None) -> Rejection | None:
        """Get the ticket of a turn where its route has turns, or why there is none."""
        head, gate = heard.known, self.site.gate
        if head.route.turn is None or gate is None:
            return None
        urgency = priority(head.headers, holder is not None)
        found = gate.admit(head.route.path, urgency, head.size, head.left_s)
        if isinstance(found, Rejection):
            return found
        heard.ticket = found
        return None

    def _settle(self) -> None:
        """Have on disk what a job that takes somebody out of the answers has to find there.

        The others read the log, or delete what is old: what waits goes to its end.
        """
        if self.site.service.forgetting.open:
            self.site.service.pending.settle()

    async def _idle(self) -> None:
        """Wait for the disk beside the loop, so that `_settle` has less to wait for on it."""
        if self.site.service.forgetting.open:
            await self.site.service.pending.idle()

    def _ask(self, heard: Heard, body: bytes) -> Reply | Awaitable[Reply]:
        head = heard.known
        asked = Asked(body, head.headers, head.names, heard.arrived_s, heard.ticket)
        return head.route.answer(self.site, asked)

    async def _awaited(self, heard: Heard, answer: Awaitable[Reply]) -> Reply:
        try:
            reply = await answer
        except Exception as error:  # noqa: BLE001  the edge of the process
            return self.refuse(heard, error)
        self._count(heard, reply.status)
        return reply

    async def _answer(self, heard: Heard, body: bytes) -> Reply:
        ticket, gate = heard.ticket, self.site.gate
        if ticket is None or gate is None:
            if heard.known.route.turn == "answers" and self.site.service.pending.is_beside:
                await self._rounds.turn()
            reply = self._ask(heard, body)
            return reply if isinstance(reply, Reply) else await reply
        await gate.turn(ticket)
        try:
            begun_s = elapsed_s()
            reply = self._ask(heard, body)
            ticket.work_s = elapsed_s() - begun_s
            if not (isinstance(reply, Reply) or ticket.is_made):
                reply = await reply
            ticket.done = True
        except Exception as error:
            ticket.failed = http_error(error).is_fault
            raise
        finally:
            gate.leave(ticket)
        # What is made waits for its commit while others have their turns.
        return reply if isinstance(reply, Reply) else await reply

    async def _body(self, receive: Receive, limit: int) -> bytes:
        timeout_s = self._limits.body_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                return await self._read_body(receive, limit)
        except TimeoutError:
            message = f"the body did not arrive within {timeout_s} s"
            raise HttpError(408, "too_slow", message, headers=CLOSE) from None

    async def _read_body(self, receive: Receive, limit: int) -> bytes:
        body = Body(limit, self.bodies)
        try:
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise HttpError(400, "disconnected", "the client went away")
                body.add(message.get("body", b""))
                if not message.get("more_body", False):
                    return body.whole()
        finally:
            body.drop()

    def _refusal(self, error: Exception, path: str) -> Reply:
        """The answer of a refusal: the Open Inference Protocol has a shape of its own."""
        request_id = f"{next(self._numbers):x}"
        refusal = http_error(error)
        if refusal.is_fault and not isinstance(error, HttpError):
            _LOG.error("request failed id=%s path=%s", request_id, path, exc_info=error)
        if refusal.is_unlogged:
            self.site.metrics.unlogged(refusal.code)
        body = refusal.text() if path.startswith(_OIP) else refusal.body(request_id)
        return Reply(body, JSON, refusal.headers, refusal.status)

    def _refused(self, heard: Heard, error: Exception) -> Refused:
        """The same as it is sent of a head alone."""
        reply = self.refuse(heard, error)
        closes = any(name == b"connection" for name, _ in reply.headers)
        return Refused(head_of(reply.status, self._reply_headers(reply)), reply.body, closes)

    def _turned_away(self, heard: Heard, rejection: Rejection) -> Refused:
        """The same of one that there is no time for: made once, but for its number."""
        self._count(heard, 503)
        is_oip = heard.path.startswith(_OIP)
        key = rejection.reason, rejection.retry_s, is_oip
        made = self._made.get(key)
        if made is None:
            refusal = overloaded(rejection.reason, rejection.retry_s)
            body = refusal.text() if is_oip else refusal.body(_NUMBER)
            headers = ((b"content-type", JSON), *self._headers, *refusal.headers)
            made = head_of(refusal.status, headers), *body.partition(_NUMBER.encode())
            self._made[key] = made
        head, before, number, after = made
        request_id = next(self._numbers)
        body = b"%b%x%b" % (before, request_id, after) if number else before
        sent = b"%bcontent-length: %d\r\n" % (head, len(body))
        return Refused(sent, body, head=heard.head)

    def _count(self, heard: Heard, status: int) -> None:
        if self._counts:
            self.site.metrics.request(heard.label, status, elapsed_s() - heard.arrived_s)

    def _reply_headers(self, reply: Reply) -> Headers:
        return (
            (b"content-type", reply.kind),
            (b"content-length", str(len(reply.body)).encode()),
            *self._headers,
            *reply.headers,
        )


async def _lifespan(
    receive: Receive, send: Send, background: Background, watches: Sequence[Watch]
) -> None:
    task: asyncio.Task[None] | None = None
    loop = asyncio.get_running_loop()
    ended = [watch.heard_by(loop) for watch in watches]
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            task = asyncio.create_task(background.run())
        elif task is not None:
            task.cancel()
            for end in ended:
                end()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
