"""What the server can be asked, as OpenAPI 3.1, from the same types that decode the requests."""

from __future__ import annotations

from typing import Any

import msgspec

from sevenfold.serving.request import (
    ChangeAnswer,
    EventsAnswer,
    EventsRequest,
    FeaturesAnswer,
    FeaturesRequest,
    ForgetAnswer,
    ForgetRequest,
    RankRequest,
    RecommendAnswer,
    RecommendRequest,
    ReloadAnswer,
    Status,
)

__all__ = ["openapi"]

_POSTS: dict[str, tuple[str, Any, Any, bool]] = {
    "/v1/events": (
        "Take events in; bad ones are named and kept apart.",
        EventsRequest,
        EventsAnswer,
        True,
    ),
    "/v1/recommend": ("Recommend items.", RecommendRequest, RecommendAnswer, False),
    "/v1/rank": ("Rank the items given.", RankRequest, RecommendAnswer, False),
    "/v1/features": ("The values of given keys now.", FeaturesRequest, FeaturesAnswer, False),
    "/v1/change": (
        "Change to the declaration that the home's change.json names, while serving.",
        None,
        ChangeAnswer,
        True,
    ),
    "/v1/forget": (
        "Take one entity out of the home; durable when answered, carried out beside the answers.",
        ForgetRequest,
        ForgetAnswer,
        True,
    ),
    "/v1/reload": ("Load the version that the alias names.", None, ReloadAnswer, True),
}
_GETS: dict[str, tuple[str, Any]] = {
    "/healthz": ("Whether the process lives.", Status),
    "/readyz": ("Whether it can answer, by scoring a probe row.", Status),
    "/v1/change": ("How far a change of the declaration is.", ChangeAnswer),
    "/v1/forget": ("How many entities are still to be taken out.", ForgetAnswer),
    "/metrics": ("Counters and times in the text format of Prometheus.", None),
    "/openapi.json": ("This description.", dict[str, Any]),
}
_TEXT = {"type": "string"}


class _Error(msgspec.Struct):
    """Why a request was refused: a code to act on, a sentence, and where in the body."""

    code: str
    message: str
    path: str | None
    request_id: str


class _Refusal(msgspec.Struct):
    """The one shape of all errors."""

    error: _Error


def openapi(title: str, version: str) -> dict[str, Any]:
    """The description of all routes."""
    kinds = [kind for _, asked, given, _ in _POSTS.values() for kind in (asked, given) if kind]
    kinds += [given for _, given in _GETS.values() if given]
    schemas, components = msgspec.json.schema_components(
        [*kinds, _Refusal], ref_template="#/components/schemas/{name}"
    )
    found = dict(zip([repr(kind) for kind in kinds], schemas, strict=False))
    refusal = {"description": "refused", "content": _json(schemas[-1])}
    paths: dict[str, Any] = {}
    for path, (summary, asked, given, guarded) in _POSTS.items():
        operation: dict[str, Any] = {
            "summary": summary,
            "responses": {
                "200": {"description": "done", "content": _json(found[repr(given)])},
                "default": refusal,
            },
        }
        if asked:
            operation["requestBody"] = {"required": True, "content": _json(found[repr(asked)])}
        if guarded:
            operation["security"] = [{"token": []}]
        paths[path] = {"post": operation}
    for path, (summary, given) in _GETS.items():
        content = _json(found[repr(given)]) if given else {"text/plain": {"schema": _TEXT}}
        answers = {"200": {"description": "done", "content": content}, "default": refusal}
        paths.setdefault(path, {})["get"] = {"summary": summary, "responses": answers}
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _json(schema: Any) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
