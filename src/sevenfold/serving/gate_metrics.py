"""What the gate lets in, refuses and knows, for Prometheus; read when it is asked for, so a refusal costs no more."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sevenfold.serving.admission import Priority
from sevenfold.serving.gate import Gate

__all__ = ["GateMetrics"]


class GateMetrics(Collector):
    """The metrics of one gate."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def collect(self) -> Iterator[Metric]:
        """Everything as it is now."""
        gate = self._gate
        admitted = CounterMetricFamily(
            "sevenfold_admitted", "Requests let in", labels=["route", "class"]
        )
        for (route, priority), n in gate.admitted.items():
            admitted.add_metric([route, priority.name.lower()], n)
        yield admitted
        refused = CounterMetricFamily(
            "sevenfold_refused",
            "Requests refused for want of time: at the door, as too many waited, or when their turn came too late",
            labels=["route", "class", "reason"],
        )
        for (route, priority, reason), n in gate.refused.items():
            refused.add_metric([route, priority.name.lower(), reason], n)
        yield refused
        capacity = GaugeMetricFamily(
            "sevenfold_capacity",
            "Requests a second that can be answered at the level of now, as measured",
            labels=["route"],
        )
        for route, rate in gate.admission.capacities().items():
            capacity.add_metric([route], rate)
        yield capacity
        wait = GaugeMetricFamily(
            "sevenfold_predicted_wait_seconds",
            "How long a request that comes now would wait for its turn",
            labels=["route", "class"],
        )
        for route in gate.routes:
            for priority in Priority:
                wait.add_metric(
                    [route, priority.name.lower()], gate.admission.wait_s(route, priority)
                )
        yield wait
        yield GaugeMetricFamily(
            "sevenfold_waiting", "Requests that wait for their turn", value=len(gate.admission)
        )
        yield GaugeMetricFamily(
            "sevenfold_level",
            "The level of the ladder of answers that begin now; 0 is full quality",
            value=gate.ladder.level,
        )
        yield GaugeMetricFamily(
            "sevenfold_load",
            "What is asked for as a share of what can be done at that level",
            value=gate.load,
        )
