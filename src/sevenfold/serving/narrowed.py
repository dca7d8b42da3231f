"""The description of a server's routes, narrowed to what its system takes: types alone allow more than is answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["narrowed"]

_NEVER = {"type": "null"}


def narrowed(
    described: Mapping[str, Any], query: Sequence[str], is_replay: bool
) -> Mapping[str, Any]:
    """The same description, with the keys that a request names and the fields that a live server takes.

    `query` are the entities of a request. What depends on the values (an id used before, a tensor that has not the
    size of its shape) no schema can say.
    """
    schemas = described["components"]["schemas"]
    for name in ("RecommendRequest", "RankRequest"):
        properties = _properties(schemas, name)
        if properties is not None:
            key = properties["keys"]["additionalProperties"]
            properties["keys"] = _keys(query, key)
    job = _properties(schemas, "JobRequest")
    if job is not None:
        key = job["keys"]["items"]["additionalProperties"]
        job["keys"]["items"] = _keys(query, key)
    instants = {
        "RecommendRequest": "t",
        "RankRequest": "t",
        "FeaturesRequest": "t",
        "EventsRequest": "known_us",
    }
    for name, field in () if is_replay else instants.items():
        properties = _properties(schemas, name)
        if properties is not None:
            properties[field] = _NEVER
    if "EventsRequest" in schemas:
        schemas["EventsRequest"]["oneOf"] = [_one("event", "object"), _one("events", "array")]
    return described


def _keys(query: Sequence[str], key: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict.fromkeys(query, key),
        "required": [*query],
        "additionalProperties": False,
    }


def _properties(schemas: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    found: dict[str, Any] | None = schemas.get(name, {}).get("properties")
    return found


def _one(given: str, kind: str) -> dict[str, Any]:
    """One of `event` and `events` is given, and the other is not."""
    other = "events" if given == "event" else "event"
    return {"required": [given], "properties": {given: {"type": kind}, other: _NEVER}}
