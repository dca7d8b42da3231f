"""What each of the processes of one server answers, and the counters of all of them together.

What is not answered by whoever is asked is the owner's: a route is passed on unless it is known to need nothing but the
store to read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from sevenfold.serving.passing import Neighbour, passed, unless_overtaken
from sevenfold.serving.problem import HttpError
from sevenfold.serving.route import Asked, Reply, Route
from sevenfold.serving.routes.oip import OIP
from sevenfold.serving.routes.predict import PREDICT
from sevenfold.serving.routes.state import STATE, own_metrics
from sevenfold.serving.routes.table import PUBLIC_ROUTES
from sevenfold.serving.site import Site
from sevenfold.serving.supervisor import Place
from sevenfold.serving.tokens import home_token

__all__ = ["inner_routes", "merged", "outer_routes", "socket_name"]

_PATIENCE_S = 1.0  # for the counters of another process


def socket_name(number: int) -> str:
    """The socket in the home by which the others reach the process of that number; the owner is 0."""
    return f"worker-{number}.sock"


def inner_routes(place: Place, home: Path) -> tuple[Route, ...]:
    """What the process of a place answers on its socket: all that the port does, and of the counters its own."""
    owner = Neighbour(home, socket_name(0)) if place.number else None
    return tuple(_route(route, owner) for route in PUBLIC_ROUTES)


def outer_routes(inner: Sequence[Route], place: Place, home: Path) -> tuple[Route, ...]:
    """The same as the port has it, with the counters of all processes."""
    return tuple(
        replace(route, answer=_all_metrics(place, home)) if route.path == "/metrics" else route
        for route in inner
    )


def _route(route: Route, owner: Neighbour | None) -> Route:
    if route in PREDICT or route in OIP:
        return unless_overtaken(route, owner)
    if route in STATE or owner is None:
        return route
    return passed(route, owner)


def _all_metrics(place: Place, home: Path) -> Callable[[Site, Asked], Awaitable[Reply]]:
    """What gives the counters of all processes, each of them labelled with its number."""
    others = {
        number: Neighbour(home, socket_name(number), _PATIENCE_S)
        for number in range(place.among)
        if number != place.number
    }
    headers = {b"authorization": b"Bearer " + home_token(home).encode()}

    async def counters(neighbour: Neighbour) -> str | None:
        try:
            reply = await neighbour.ask("GET", "/metrics", headers)
        except HttpError:
            return None
        return reply.body.decode() if reply.status == 200 else None

    async def answer(site: Site, asked: Asked) -> Reply:
        own = own_metrics(site)
        texts: dict[int, str | None] = {place.number: own.body.decode()}
        found = await asyncio.gather(*(counters(one) for one in others.values()))
        texts |= dict(zip(others, found, strict=True))
        return Reply(merged([texts[number] for number in range(place.among)]), own.kind)

    return answer


def merged(texts: Sequence[str | None]) -> bytes:
    """The counters of several processes as one text: every sample has the label `worker`, its place among them.

    None is a process that did not answer: of it there is only that `sevenfold_worker_up` is 0.
    """
    up = GaugeMetricFamily(
        "sevenfold_worker_up",
        "Whether a process of the server has told its counters",
        labels=["worker"],
    )
    families: dict[str, Metric] = {}
    for number, text in enumerate(texts):
        up.add_metric([str(number)], 0.0 if text is None else 1.0)
        for family in text_string_to_metric_families(text or ""):
            kept = families.setdefault(
                family.name, Metric(family.name, family.documentation, family.type)
            )
            for sample in family.samples:
                labels = {"worker": str(number), **sample.labels}
                kept.add_sample(sample.name, labels, sample.value)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Fixed([up, *families.values()]))
    return generate_latest(registry)


class _Fixed(Collector):
    """Metrics as they are."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Sequence[Metric]:
        """All of them."""
        return self._metrics
