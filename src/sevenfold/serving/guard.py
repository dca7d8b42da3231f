"""Who may pass: the host that was meant, no page of a browser, a token for the scope, and its rate."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

from sevenfold.serving.problem import HttpError
from sevenfold.serving.rate import Bucket
from sevenfold.serving.route import Headers, Scope
from sevenfold.serving.tokens import Holder, Tokens

__all__ = ["LOOPBACK_NAMES", "Guard", "is_loopback"]

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_BEARER = b"Bearer "
_MOST_HOSTS = 64  # headers that are known to be good: most clients call a server by one


class Guard:
    """Lets a request pass, or refuses it before its body is read.

    `open_scopes` need no token here. `hosts` are the names that clients may call this server by, None for any: on
    loopback a page in a browser could otherwise reach it under a name of its own that points there. `anonymous` is
    the rate of all who show no token.
    """

    def __init__(
        self,
        tokens: Tokens,
        open_scopes: Collection[Scope] = (),
        hosts: Collection[str] | None = None,
        anonymous: Bucket | None = None,
    ) -> None:
        self._tokens = tokens
        self._open = frozenset(open_scopes)
        self._hosts = None if hosts is None else frozenset(name.lower() for name in hosts)
        self._anonymous = anonymous
        self._heard_of: set[bytes] = set()  # of the headers, those that are good

    def needs_token(self, scope: Scope | None) -> bool:
        """Whether a route of that scope is for holders of a token only."""
        return scope is not None and scope not in self._open

    def admit(self, headers: Mapping[bytes, bytes], scope: Scope | None) -> Holder | None:
        """Who asks, None for who shows no token; raises HttpError 401, 403, 421 or 429 unless they may pass."""
        if self._hosts is not None:
            self._check_host(headers.get(b"host"))
        if scope is not None and b"origin" in headers:
            raise HttpError(
                403, "cross_site", "pages of a browser are not answered: ask from a program"
            )
        holder = self._holder(headers)
        if holder is None and self.needs_token(scope):
            _wait(self._anonymous)  # so that tokens cannot be tried out at any speed
            raise _unauthorized(scope)
        if scope is not None and scope not in self._open:
            assert holder is not None
            if scope not in holder.scopes:
                raise HttpError(
                    403,
                    "forbidden",
                    f"this token is not for `{scope}`; ask for one with that scope",
                )
        _wait(self._anonymous if holder is None else holder.bucket)
        return holder

    def _holder(self, headers: Mapping[bytes, bytes]) -> Holder | None:
        shown = headers.get(b"authorization", b"")
        if not shown.startswith(_BEARER):
            return None
        return self._tokens.holder(shown[len(_BEARER) :])

    def _check_host(self, host: bytes | None) -> None:
        if host is None:
            return  # HTTP/1.0; browsers always name it
        assert self._hosts is not None
        if host in self._heard_of:
            return
        if _name_of(host) in self._hosts:
            if len(self._heard_of) < _MOST_HOSTS:
                self._heard_of.add(host)
        else:
            raise HttpError(
                421,
                "wrong_host",
                "this server does not go by the name in the Host header; ask by one that it was started for",
            )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address, as text.

    >>> [is_loopback(host) for host in ("127.0.0.1", "127.8.0.1", "::1", "localhost", "0.0.0.0", "shop.example")]
    [True, True, True, True, False, False]
    """
    return host in LOOPBACK_NAMES or host.startswith("127.")


def _name_of(host: bytes) -> str:
    text = host.decode("latin-1").lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0]


def _unauthorized(scope: Scope | None) -> HttpError:
    challenge: Headers = ((b"www-authenticate", b"Bearer"),)
    return HttpError(
        401,
        "unauthorized",
        f"this route needs `Authorization: Bearer TOKEN` with a token for `{scope}`; `sevenfold token` gives one",
        headers=challenge,
    )


def _wait(bucket: Bucket | None) -> None:
    wait_s = 0.0 if bucket is None else bucket.take()
    if wait_s:
        seconds = str(math.ceil(wait_s)).encode()
        raise HttpError(
            429,
            "too_many",
            "more requests than this client may send; wait as Retry-After says",
            headers=((b"retry-after", seconds),),
        )
