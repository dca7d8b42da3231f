"""All routes, in the order in which the description lists them."""

from __future__ import annotations

from sevenfold.serving.route import Route
from sevenfold.serving.routes.admin import ADMIN
from sevenfold.serving.routes.events import EVENTS
from sevenfold.serving.routes.jobs import JOBS
from sevenfold.serving.routes.oip import OIP
from sevenfold.serving.routes.predict import PREDICT
from sevenfold.serving.routes.state import STATE
from sevenfold.serving.routes.trials import TRIALS

__all__ = ["ADMIN_ROUTES", "PUBLIC_ROUTES", "ROUTES"]

ROUTES: tuple[Route, ...] = (*EVENTS, *PREDICT, *JOBS, *ADMIN, *TRIALS, *STATE, *OIP)
# What a port has, and what only the socket in the home has: no listener has both.
PUBLIC_ROUTES = tuple(route for route in ROUTES if route.scope != "admin")
ADMIN_ROUTES = (*ADMIN, *TRIALS, *STATE)
