"""A route as data: where, how, who may, how much, and what answers; and the table that finds it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import msgspec

from sevenfold.serving.admission import Ticket
from sevenfold.serving.problem import HttpError
from sevenfold.serving.site import Site

__all__ = [
    "JSON",
    "Asked",
    "Handler",
    "Head",
    "Headers",
    "Heard",
    "Refused",
    "Reply",
    "Route",
    "Scope",
    "Table",
]

Scope: TypeAlias = Literal["events", "predict", "metrics", "admin"]
Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]

JSON = b"application/json"
_MIB = 1024 * 1024


class Asked(msgspec.Struct, frozen=True):
    """A request as its handler sees it: the body, the headers, and what stood in the path's `{names}`.

    `arrived_s` is when its head was there, an instant of `clock.elapsed_s`. The `ticket` is that of its turn, where
    the route needs one and the server gives any.
    """

    body: bytes
    headers: Mapping[bytes, bytes]
    names: Mapping[str, str]
    arrived_s: float
    ticket: Ticket | None = None


class Reply(msgspec.Struct, frozen=True):
    """The body of a good answer, its kind, the headers that go with it, and its status."""

    body: bytes
    kind: bytes = JSON
    headers: Headers = ()
    status: int = 200


Handler: TypeAlias = Callable[[Site, Asked], "Reply | Awaitable[Reply]"]


@dataclass(frozen=True, slots=True)
class Route:
    """One thing that can be asked.

    A path may have `{names}`, each of which stands for one part without `/`. `scope` is what a token must be for;
    None is for everybody. `asked` and `given` are the types of body and answer, None where there is none or it is
    not JSON; then `kind` says what it is. With `has_deadline` the header `x-deadline-ms` says how many
    milliseconds the caller has left. `turn` is the group that it takes turns in (see `Gate`): None is answered as it
    comes, whatever the load. What is `laddered` is answered at a level of the ladder. `also` are the kinds other than JSON
    that an answer can be of when it is asked for so. `status` is that of a good answer.
    """

    method: Literal["GET", "POST", "DELETE"]
    path: str
    scope: Scope | None
    summary: str
    answer: Handler
    asked: Any = None
    given: Any = None
    kind: str = "application/json"
    max_body_bytes: int = 4 * _MIB
    has_deadline: bool = False
    turn: Literal["answers", "events"] | None = None
    laddered: bool = False
    also: tuple[str, ...] = ()
    status: int = 200


@dataclass(frozen=True, slots=True)
class Head:
    """What the head of a request asks, as far as it follows from its bytes alone.

    Its body is of `size` bytes where that is declared, and of `limit` at most; its caller waits for `left_s` seconds.
    """

    method: str
    path: str
    route: Route
    names: Mapping[str, str]
    headers: Mapping[bytes, bytes]
    limit: int
    size: int
    left_s: float


@dataclass(slots=True)
class Heard:
    """A request whose head is there: when that was, an instant of `clock.elapsed_s`, what it asks, and the ticket of its turn.

    `label` names it on the metrics, also where it has no route, and then no `head` either.
    """

    arrived_s: float
    path: str
    label: str = "other"
    head: Head | None = None
    ticket: Ticket | None = None

    @property
    def known(self) -> Head:
        """What it asks; only of what was not refused at its head."""
        assert self.head is not None
        return self.head


class Refused(msgspec.Struct, frozen=True):
    """The answer to a request of which no more than the head was looked at.

    `sent` is the status and the headers of the answer as they are sent, but for the empty line that ends them; with `closes` one of them
    says that the connection ends. `head` is what was asked, where that was all understood and there is only no time for it.
    """

    sent: bytes
    body: bytes
    closes: bool = False
    head: Head | None = None


@dataclass(slots=True)
class _Place:
    """The routes of one path, by method."""

    path: str
    routes: dict[str, Route] = field(default_factory=dict)

    def route(self, method: str) -> Route:
        """The route of a method, HEAD as GET; raises HttpError 405 naming those there are."""
        found = self.routes.get("GET" if method == "HEAD" else method)
        if found is None:
            known = [*self.routes, "HEAD"] if "GET" in self.routes else [*self.routes]
            allowed = ", ".join(known)
            raise HttpError(
                405,
                "wrong_method",
                f"this route takes {allowed} only",
                headers=((b"allow", allowed.encode()),),
            )
        return found


class Table:
    """Finds the route of a request: a look-up for plain paths, a walk over the few with names in them."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._plain: dict[str, _Place] = {}
        self._named: dict[tuple[str, ...], _Place] = {}
        for route in self.routes:
            place = _Place(route.path)
            if "{" in route.path:
                place = self._named.setdefault(tuple(route.path.split("/")), place)
            else:
                place = self._plain.setdefault(route.path, place)
            place.routes[route.method] = route

    def find(self, method: str, path: str) -> tuple[Route, Mapping[str, str]]:
        """The route and what its names stand for; raises HttpError 404 or 405."""
        place = self._plain.get(path)
        if place is not None:
            return place.route(method), {}
        parts = path.split("/")
        for pattern, named in self._named.items():
            names = _names(pattern, parts)
            if names is not None:
                return named.route(method), names
        raise HttpError(404, "no_such_route", "no such route; /openapi.json lists them")


def _names(pattern: tuple[str, ...], parts: list[str]) -> dict[str, str] | None:
    """What the names of a pattern stand for in a path; None when it is not of that pattern."""
    if len(pattern) != len(parts):
        return None
    names = {}
    for wanted, given in zip(pattern, parts, strict=True):
        if wanted.startswith("{") and given:
            names[wanted[1:-1]] = given
        elif wanted != given:
            return None
    return names
