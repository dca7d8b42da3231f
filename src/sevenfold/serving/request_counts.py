"""How many requests were answered and how long they took, counted at the price of a few additions each."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = ["RequestCounts"]

_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class RequestCounts(Collector):
    """Requests by route and status, and their time by route, for Prometheus.

    They are noted by one thread, so nothing is locked: under a great load there are thousands a second to be refused.
    """

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, int]] = Counter()
        self._buckets: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = {}

    def note(self, route: str, status: int, seconds: float) -> None:
        """Note a request."""
        self._requests[route, status] += 1
        buckets = self._buckets.get(route)
        if buckets is None:
            buckets = self._buckets[route] = [0] * (len(_BUCKETS_S) + 1)
            self._seconds[route] = 0.0
        buckets[bisect_left(_BUCKETS_S, seconds)] += 1
        self._seconds[route] += seconds

    def collect(self) -> Iterator[Metric]:
        """Everything as it is now."""
        requests = CounterMetricFamily(
            "sevenfold_requests", "Requests answered", labels=["route", "status"]
        )
        for (route, status), n in self._requests.items():
            requests.add_metric([route, str(status)], n)
        yield requests
        seconds = HistogramMetricFamily(
            "sevenfold_request_seconds", "Time of a request", labels=["route"]
        )
        for route, buckets in self._buckets.items():
            upto, total = [], 0
            for bound, n in zip((*_BUCKETS_S, "+Inf"), buckets, strict=True):
                total += n
                upto.append((str(bound), total))
            seconds.add_metric([route], upto, self._seconds[route])
        yield seconds
