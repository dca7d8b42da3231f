"""What the routes of one server share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from sevenfold.serving.changing import ChangeStatus
from sevenfold.serving.gathering import Gathering
from sevenfold.serving.metrics import Metrics
from sevenfold.serving.service import Service

__all__ = ["Site"]


class Site:
    """A service with its counters and what gathers its posts; every listener of a server has the same one.

    `order_change` begins the change that the home orders; None where there is no home. `described` is what
    `/openapi.json` answers, set by the listener that has it.
    """

    def __init__(
        self, service: Service, order_change: Callable[[], ChangeStatus] | None = None
    ) -> None:
        self.service = service
        self.order_change = order_change
        self.metrics = Metrics()
        self.gathering = Gathering(service.accept_posts)
        self.encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode

    def version_now(self) -> int:
        """The version of the model that serves; 0 when there is none."""
        loaded = self.service.champion.loaded
        return loaded.version if loaded else 0
