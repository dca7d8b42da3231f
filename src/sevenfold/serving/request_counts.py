"""How many requests were answered and how long they took, counted at the price of a few additions each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from sevenfold.serving.times import Times

__all__ = ["RequestCounts"]

_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class RequestCounts(Collector):
    """Requests by route and status, and their time by route, for Prometheus; noted by one thread."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, int]] = Counter()
        self._times = Times("sevenfold_request_seconds", "Time of a request", "route", _BUCKETS_S)

    def note(self, route: str, status: int, seconds: float) -> None:
        """Note a request."""
        self._requests[route, status] += 1
        self._times.note(route, seconds)

    def collect(self) -> Iterator[Metric]:
        """Everything as it is now."""
        requests = CounterMetricFamily(
            "sevenfold_requests", "Requests answered", labels=["route", "status"]
        )
        for (route, status), n in self._requests.items():
            requests.add_metric([route, str(status)], n)
        yield requests
        yield from self._times.collect()
