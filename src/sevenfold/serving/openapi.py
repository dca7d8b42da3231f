"""What the server can be asked, as OpenAPI 3.1, from the same routes and types that it answers by."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from sevenfold.serving.problem import OipRefusal, Refusal
from sevenfold.serving.route import Reply, Route, Scope
from sevenfold.serving.routes.table import ROUTES

__all__ = ["description", "openapi"]

_TEXT = {"type": "string"}
_BYTES = {"type": "string", "format": "binary"}
_NAMES = re.compile(r"{(\w+)}")
_DEADLINE = {
    "name": "x-deadline-ms",
    "in": "header",
    "required": False,
    "description": "How many milliseconds the caller has left.",
    "schema": {"type": "string", "pattern": r"^[0-9]{1,8}(\.[0-9]{1,6})?$"},
}


def description(raw: bytes) -> Route:
    """The route that answers with the description."""
    reply = Reply(raw)
    summary = "This description."
    return Route(
        "GET", "/openapi.json", None, summary, lambda site, asked: reply, None, dict[str, Any]
    )


def openapi(
    title: str,
    version: str,
    routes: Iterable[Route] = ROUTES,
    needs_token: Callable[[Scope | None], bool] = lambda scope: scope is not None,
) -> dict[str, Any]:
    """The description of the routes and of its own; `needs_token` says which scopes are not for everybody."""
    described = [*routes, description(b"")]
    kinds = [kind for route in described for kind in (route.asked, route.given) if kind]
    schemas, components = msgspec.json.schema_components(
        [*kinds, OipRefusal, Refusal], ref_template="#/components/schemas/{name}"
    )
    found = dict(zip([repr(kind) for kind in kinds], schemas, strict=False))
    *_, text, refused = schemas
    paths: dict[str, Any] = {}
    for route in described:
        refusal = _json(text if route.path.startswith("/v2") else refused)
        operation = _operation(route, found, {"description": "refused", "content": refusal})
        if needs_token(route.scope):
            operation["security"] = [{"token": [route.scope]}]
        paths.setdefault(route.path, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route, found: dict[str, Any], refusal: dict[str, Any]) -> dict[str, Any]:
    given = _json(found[repr(route.given)]) if route.given else {route.kind: {"schema": _TEXT}}
    given |= {kind: {"schema": _BYTES} for kind in route.also}
    operation: dict[str, Any] = {
        "summary": route.summary,
        "responses": {
            str(route.status): {"description": "done", "content": given},
            "default": refusal,
        },
    }
    if route.asked:
        operation["requestBody"] = {"required": True, "content": _json(found[repr(route.asked)])}
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _TEXT}
        for name in _NAMES.findall(route.path)
    ]
    if route.has_deadline:
        parameters.append(_DEADLINE)
    if parameters:
        operation["parameters"] = parameters
    return operation


def _json(schema: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
