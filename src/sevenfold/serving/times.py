"""How long something took, by one label, counted at the price of a few additions each."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = ["Times"]


class Times(Collector):
    """A histogram of Prometheus with one `label`, whose buckets end at `bounds_s`.

    Times are noted by one thread, so nothing is locked: under a great load there are thousands a second.
    """

    def __init__(self, name: str, text: str, label: str, bounds_s: Sequence[float]) -> None:
        self._name, self._text, self._label = name, text, label
        self._bounds_s = tuple(bounds_s)
        self._buckets: dict[str, list[int]] = {}
        self._seconds: dict[str, float] = {}

    def note(self, value: str, seconds: float) -> None:
        """Note a time under a value of the label."""
        buckets = self._buckets.get(value)
        if buckets is None:
            buckets = self._buckets[value] = [0] * (len(self._bounds_s) + 1)
            self._seconds[value] = 0.0
        buckets[bisect_left(self._bounds_s, seconds)] += 1
        self._seconds[value] += seconds

    def collect(self) -> Iterator[Metric]:
        """All of it as it is now."""
        metric = HistogramMetricFamily(self._name, self._text, labels=[self._label])
        for value, buckets in self._buckets.items():
            upto, total = [], 0
            for bound, n in zip((*self._bounds_s, "+Inf"), buckets, strict=True):
                total += n
                upto.append((str(bound), total))
            metric.add_metric([value], upto, self._seconds[value])
        yield metric
