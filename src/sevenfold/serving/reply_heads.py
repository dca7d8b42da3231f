"""The heads of answers as they are sent, of which all that does not change is made once a second."""

from __future__ import annotations

import re
from http import HTTPStatus

from sevenfold.serving.route import Headers, Reply

__all__ = ["ReplyHeads", "head_of"]

# What would end a line, or the head: no header of ours is made of what a client says, and none ever shall.
_NO_LINE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def head_of(status: int, headers: Headers) -> bytes:
    """The status and the headers of an answer as they are sent, but for the empty line that ends them."""
    return _first(status) + _lines(headers)


class ReplyHeads:
    """Makes the heads of one listener's answers, of which each has the headers `fixed`."""

    def __init__(self, fixed: Headers) -> None:
        self._fixed = _lines(fixed)
        self._given: Headers | list[tuple[bytes, bytes]] = ()
        self._given_lines = b""
        self._before: dict[tuple[int, bytes], bytes] = {}

    def head(self, reply: Reply, given: list[tuple[bytes, bytes]], keeps: bool) -> bytes:
        """The head of an answer, with the empty line; `given` are the server's headers: the same list for as long as they are the same.

        With `keeps` the connection stays open. Raises ValueError for a header that is none.
        """
        lines = self.lines(given)
        key = reply.status, reply.kind
        before = self._before.get(key)
        if before is None:
            kind = _lines(((b"content-type", reply.kind),))
            before = b"%b%b%bcontent-length: " % (_first(reply.status), lines, kind)
            self._before[key] = before
        more = _checked(reply.headers) if reply.headers else b""
        if not keeps and (b"connection", b"close") not in reply.headers:
            more += b"connection: close\r\n"
        return b"%b%d\r\n%b%b\r\n" % (before, len(reply.body), self._fixed, more)

    def lines(self, given: list[tuple[bytes, bytes]]) -> bytes:
        """The server's headers as they are sent."""
        if given is not self._given:
            self._given, self._given_lines = given, _lines(given)
            self._before.clear()
        return self._given_lines


def _first(status: int) -> bytes:
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode()


def _lines(headers: Headers | list[tuple[bytes, bytes]]) -> bytes:
    return b"".join(b"%b: %b\r\n" % line for line in headers)


def _checked(headers: Headers) -> bytes:
    for name, value in headers:
        if _NO_LINE.search(name + value) is not None:
            raise ValueError(f"the header {name!r} of an answer has the value {value!r}")
    return _lines(headers)
