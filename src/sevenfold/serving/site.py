"""What the routes of one server share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from sevenfold.serving.ahead import AheadMetrics
from sevenfold.serving.caches import CacheMetrics
from sevenfold.serving.changing import ChangeStatus
from sevenfold.serving.gate import Gate
from sevenfold.serving.gate_metrics import GateMetrics
from sevenfold.serving.gathering import Gathering
from sevenfold.serving.jobs import JobMetrics
from sevenfold.serving.metrics import Metrics
from sevenfold.serving.referee import RefereeMetrics
from sevenfold.serving.service import Service
from sevenfold.serving.shadow import ShadowMetrics
from sevenfold.serving.tracing import Tracing

__all__ = ["Site"]


class Site:
    """A service with its counters, its gate and what gathers its posts; every listener of a server has the same one.

    `order_change` begins the change that the home orders; None where there is no home. Without `admission`, or in a
    replay, there is no gate. `tracing` decides which answers are traced; without it none is. `version` is that of the
    library.
    """

    def __init__(
        self,
        service: Service,
        order_change: Callable[[], ChangeStatus] | None = None,
        admission: bool = True,
        tracing: Tracing | None = None,
        version: str = "",
    ) -> None:
        self.service = service
        self.tracing = tracing
        self.version = version
        self.order_change = order_change
        self.metrics = Metrics()
        self.metrics.watch(CacheMetrics(service.caches))
        if service.owns:
            self.metrics.watch(JobMetrics(service.scoring))
        self.metrics.watch(AheadMetrics(service.table_outcomes, service.table_now))
        self.metrics.watch(RefereeMetrics(service.referee))
        self.metrics.watch(ShadowMetrics(service.shadow))
        service.auditing.note = self.metrics.job
        # A replay is to answer the same on any machine, so nothing there may depend on the load.
        self._gate: Gate | None = None
        self._gated = service.definition
        if admission and not service.replay:
            self._gate = Gate(service.budget_s, service.ladder, kept=service.pending)
            self.metrics.watch(GateMetrics(self._gate))
            service.shadow.pressed = self._gate.is_pressed
            service.auditing.pressed = self._gate.is_refusing
            for beside in (service.moving, service.keeping):
                if beside is not None:
                    beside.pressed = self._gate.is_refusing
        self.gathering = Gathering(service.accept_posts)
        self.encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode

    @property
    def gate(self) -> Gate | None:
        """What gives turns to what is asked; None in a replay."""
        if self._gate is not None and self._gated is not self.service.definition:
            self._gated = self.service.definition
            self._gate.use(self.service.budget_s, self.service.ladder)
        return self._gate

    def version_now(self) -> int:
        """The version of the model that serves; 0 when there is none."""
        loaded = self.service.champion.loaded
        return loaded.version if loaded else 0
