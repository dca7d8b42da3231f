"""All routes, in the order in which the description lists them."""

from __future__ import annotations

from sevenfold.serving.route import Route
from sevenfold.serving.routes.admin import ADMIN
from sevenfold.serving.routes.events import EVENTS
from sevenfold.serving.routes.predict import PREDICT
from sevenfold.serving.routes.state import STATE

__all__ = ["ROUTES"]

ROUTES: tuple[Route, ...] = (*EVENTS, *PREDICT, *ADMIN, *STATE)
