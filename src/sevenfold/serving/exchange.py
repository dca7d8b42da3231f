"""One request of a connection and its answer: the body comes in, the answer is made, its bytes go out at once.

What uvicorn has for this is made for any application: a scope, an event, a task and two messages each way. Here the application is known.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import TimerHandle
from collections.abc import Coroutine
from typing import Any, Protocol

from uvicorn.server import ServerState

from sevenfold.serving.bodies import Bodies, Body
from sevenfold.serving.head import CLOSE
from sevenfold.serving.limits import Limits
from sevenfold.serving.problem import HttpError
from sevenfold.serving.reply_heads import ReplyHeads
from sevenfold.serving.route import Heard, Reply

__all__ = ["Answers", "Exchange", "Line"]

_LOG = logging.getLogger(__name__)
_JOINED = (
    1 << 16
)  # a body up to here goes out in one piece with its head: to copy it is less than to write twice
_FAILED = Reply(b"Internal Server Error", b"text/plain; charset=utf-8", CLOSE, 500)


class Answers(Protocol):
    """Makes the answers to what was heard."""

    bodies: Bodies
    heads: ReplyHeads

    def answer(
        self, heard: Heard, body: bytes, at_once: bool
    ) -> Reply | Coroutine[Any, Any, Reply]:
        """The answer, or with the least to wait for, or not `at_once`, what gives it; neither raises anything."""
        ...

    def refuse(self, heard: Heard, error: Exception) -> Reply:
        """The answer that says why there is no other."""
        ...


class Line(Protocol):
    """The connection of an exchange."""

    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    server_state: ServerState
    limits: Limits
    answers_at_once: bool

    def on_response_complete(self) -> None:
        """Go on to the next request."""
        ...


class Exchange:
    """A request that was heard, in its turn on its connection.

    uvicorn looks at one as at its own: `response_complete`, `keep_alive`, `disconnected`, `message_event` are its words.
    """

    __slots__ = (
        "_answers",
        "_begun",
        "_body",
        "_heard",
        "_is_head",
        "_line",
        "_task",
        "_timer",
        "disconnected",
        "keep_alive",
        "response_complete",
    )

    def __init__(
        self, line: Line, answers: Answers, heard: Heard, is_head: bool, keep_alive: bool
    ) -> None:
        self._line, self._answers, self._heard = line, answers, heard
        self._is_head = is_head
        self.keep_alive = keep_alive
        self.response_complete = self.disconnected = self._begun = False
        self._body: Body | None = None
        self._task: asyncio.Task[None] | None = None
        self._timer: TimerHandle | None = None

    @property
    def message_event(self) -> Exchange:
        """Who is told that the client has gone away."""
        return self

    def set(self) -> None:
        """Give up a body that will not come; an answer that is being made is made."""
        if not (self._begun or self.response_complete):
            self._refuse(HttpError(400, "disconnected", "the client went away"))

    def cancel(self, msg: str | None = None) -> None:
        """Give up a body, as the server ends and has no more time for it."""
        # Who cancels goes through all that wait, and none may leave meanwhile.
        self._line.loop.call_soon(self._failed, asyncio.CancelledError(msg))

    def take(self, part: bytes) -> None:
        """Take a part of the body in, unless it is wanted no more."""
        if self.response_complete:
            return
        if self._body is None:
            self._body = Body(self._heard.known.limit, self._answers.bodies)
        try:
            self._body.add(part)
        except HttpError as error:
            self._refuse(error)

    def wait(self) -> None:
        """Let the body have its time, as it did not come at once; a server that ends waits for it."""
        if self._begun or self.response_complete or self._timer is not None:
            return
        line = self._line
        self._timer = line.loop.call_later(line.limits.body_timeout_s, self._too_slow)
        # The server waits for what is in there, and cancels it at last.
        line.server_state.tasks.add(self)  # type: ignore[arg-type]

    def end(self) -> None:
        """Begin the answer: nothing of the body is still to come."""
        if self.response_complete:
            return
        body = b"" if self._body is None else self._body.whole()
        self._stop_waiting()
        self._begin(body)

    def whole(self, body: bytes) -> None:
        """Begin the answer to one whose body has come with its head."""
        try:
            self._answers.bodies.check(len(body))
        except HttpError as error:
            self._refuse(error)
            return
        self._begin(body)

    def _begin(self, body: bytes) -> None:
        self._begun = True
        line = self._line
        answer = self._answers.answer(self._heard, body, line.answers_at_once)
        if isinstance(answer, Reply):
            # What else came with it has to wait for a round of the loop, as what others ask.
            line.answers_at_once = False
            self._reply(answer)
            return
        self._task = line.loop.create_task(self._run(answer))
        line.server_state.tasks.add(self._task)

    async def _run(self, answer: Coroutine[Any, Any, Reply]) -> None:
        try:
            self._reply(await answer)
        except BaseException as error:  # noqa: BLE001  the edge of the process; cancelled where the server ends
            self._failed(error)
        finally:
            assert self._task is not None
            self._line.server_state.tasks.discard(self._task)

    def _reply(self, reply: Reply) -> None:
        line = self._line
        transport = line.transport
        if self.disconnected or transport.is_closing():
            self.response_complete = True
            return
        keeps = self.keep_alive and (not reply.headers or _keeps(reply))
        try:
            head = self._answers.heads.head(reply, line.server_state.default_headers, keeps)
        except ValueError as error:
            self._failed(error)
            return
        self.response_complete = True
        if self._is_head:
            transport.write(head)
        elif len(reply.body) <= _JOINED:
            transport.write(head + reply.body)
        else:
            transport.write(head)
            transport.write(reply.body)
        if not keeps:
            transport.close()
        line.on_response_complete()

    def _refuse(self, error: HttpError) -> None:
        if self._body is not None:
            self._body.drop()
        self._stop_waiting()
        self._reply(self._answers.refuse(self._heard, error))

    def _failed(self, error: BaseException) -> None:
        """End an exchange that has no answer."""
        _LOG.error("answer failed or cut off path=%s", self._heard.path, exc_info=error)
        if self._body is not None:
            self._body.drop()
        self._stop_waiting()
        if self.response_complete:
            self._line.transport.close()
        else:
            self._reply(_FAILED)

    def _too_slow(self) -> None:
        message = f"the body did not arrive within {self._line.limits.body_timeout_s} s"
        self._refuse(HttpError(408, "too_slow", message, headers=CLOSE))

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._line.server_state.tasks.discard(self)


def _keeps(reply: Reply) -> bool:
    return all(name != b"connection" for name, _ in reply.headers)
