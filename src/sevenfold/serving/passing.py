"""Requests that a process does not answer itself, passed to another over its socket in the home.

Their bodies are here in whole, and within their limits, before the other is asked: a slow client costs it nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from sevenfold.clock import elapsed_s
from sevenfold.serving.head import DEADLINE, left_s
from sevenfold.serving.listening import connect_home
from sevenfold.serving.pending import OvertakenError
from sevenfold.serving.problem import HttpError
from sevenfold.serving.route import Asked, Reply, Route
from sevenfold.serving.site import Site

__all__ = ["Neighbour", "passed", "unless_overtaken"]

_HEAD_BYTES = 64 * 1024
_KEPT = 64  # connections that wait for the next request
_IDLE_S = 30.0  # less than what a server lets one be idle
_TIMEOUT_S = 60.0
# What belongs to one connection, or is said anew by who passes an answer on.
_OF_CONNECTION = frozenset(
    (
        b"connection",
        b"content-length",
        b"expect",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
_SAID_ANEW = _OF_CONNECTION | {
    b"cache-control",
    b"content-security-policy",
    b"content-type",
    b"date",
    b"server",
    b"strict-transport-security",
    b"x-content-type-options",
}
Answer = Callable[[Site, Asked], Reply | Awaitable[Reply]]


class _Line:
    """A connection to another process."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.since_s = elapsed_s()
        self.is_open = True

    async def ask(self, raw: bytes) -> Reply:
        """The answer to a request; OSError, EOFError or ValueError where there is none."""
        self.is_open = False
        self._writer.write(raw)
        status, headers = _head(await self._reader.readuntil(b"\r\n\r\n"))
        body = await self._reader.readexactly(int(headers[b"content-length"]))
        self.is_open = headers.get(b"connection") != b"close"
        self.since_s = elapsed_s()
        given = tuple((name, value) for name, value in headers.items() if name not in _SAID_ANEW)
        return Reply(body, headers.get(b"content-type", b"application/json"), given, status)

    def close(self) -> None:
        """End it."""
        self._writer.close()


class Neighbour:
    """Another process of the server, asked over its socket `name` in `home`; its connections are kept for the next request."""

    def __init__(self, home: Path, name: str, timeout_s: float = _TIMEOUT_S) -> None:
        self._home, self._name = home, name
        self._timeout_s = timeout_s
        self._lines: deque[_Line] = deque()

    async def ask(
        self, method: str, path: str, headers: Mapping[bytes, bytes], body: bytes = b""
    ) -> Reply:
        """Its answer, whatever the status; HttpError 503 where it is not there, or does not answer in time."""
        raw = _request(method, path, headers, body)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._asked(raw)
        except (OSError, EOFError, ValueError, LookupError, asyncio.LimitOverrunError):
            raise HttpError(
                503,
                "owner_away",
                "the process that this is for does not answer now; wait as Retry-After says",
                headers=((b"retry-after", b"1"),),
            ) from None

    async def _asked(self, raw: bytes) -> Reply:
        while (kept := self._kept()) is not None:
            try:
                return await self._on(kept, raw)
            except (OSError, EOFError):
                # It was closed while nobody used it, or its process is gone. What is asked may be asked twice: events by
                # their ids, answers by theirs.
                continue
        connected = connect_home(self._home, 0, self._name)
        reader, writer = await asyncio.open_unix_connection(sock=connected, limit=_HEAD_BYTES)
        return await self._on(_Line(reader, writer), raw)

    async def _on(self, line: _Line, raw: bytes) -> Reply:
        try:
            return await line.ask(raw)
        finally:
            if line.is_open and len(self._lines) < _KEPT:
                self._lines.append(line)
            else:
                line.close()

    def _kept(self) -> _Line | None:
        """A kept connection, the one used last; those that were idle for long are closed."""
        while self._lines:
            line = self._lines.pop()
            if elapsed_s() - line.since_s < _IDLE_S:
                return line
            line.close()
        return None


def passed(route: Route, neighbour: Neighbour) -> Route:
    """A route that another process answers; its turn is there, where the work is."""
    return replace(route, answer=_passing(route, neighbour), turn=None, laddered=False)


def unless_overtaken(route: Route, neighbour: Neighbour | None) -> Route:
    """A route that is answered here, and by another process where the log would not bear the answer out.

    Without another it is answered here once more: the owner then finds what it was overtaken by.
    """
    instead = route.answer if neighbour is None else _passing(route, neighbour)

    def answer(site: Site, asked: Asked) -> Reply | Awaitable[Reply]:
        try:
            reply = route.answer(site, asked)
        except OvertakenError:
            return instead(site, asked)
        return reply if isinstance(reply, Reply) else _answered(reply, site, asked)

    async def _answered(reply: Awaitable[Reply], site: Site, asked: Asked) -> Reply:
        try:
            return await reply
        except OvertakenError:
            other = instead(site, asked)
            return other if isinstance(other, Reply) else await other

    return replace(route, answer=answer)


def _passing(route: Route, neighbour: Neighbour) -> Answer:
    def answer(site: Site, asked: Asked) -> Awaitable[Reply]:
        path = route.path
        for name, part in asked.names.items():
            path = path.replace("{" + name + "}", quote(part, safe=""))
        headers = _with_what_is_left(asked) if route.has_deadline else asked.headers
        return neighbour.ask(route.method, path, headers, asked.body)

    return answer


def _with_what_is_left(asked: Asked) -> Mapping[bytes, bytes]:
    """The headers of a request, its deadline by as much nearer as it has been here."""
    if DEADLINE not in asked.headers:
        return asked.headers
    left = max(0.0, left_s(asked.headers) - (elapsed_s() - asked.arrived_s))
    return {**asked.headers, DEADLINE: b"%.3f" % (1000 * left)}


def _request(method: str, path: str, headers: Mapping[bytes, bytes], body: bytes) -> bytes:
    lines = [f"{method} {path} HTTP/1.1".encode("ascii")]
    if b"host" not in headers:
        lines.append(b"host: localhost")
    lines += [name + b": " + value for name, value in headers.items() if name not in _OF_CONNECTION]
    lines.append(b"content-length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def _head(raw: bytes) -> tuple[int, dict[bytes, bytes]]:
    first, *lines = raw[:-4].split(b"\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(b":")
        headers[name.strip().lower()] = value.strip()
    return int(first.split(b" ", 2)[1]), headers
