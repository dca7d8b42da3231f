"""The kinds of answers that a client may ask for with `Accept`: JSON, or columns as an Arrow stream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from sevenfold.errors import InputError
from sevenfold.serving.arrow import stream
from sevenfold.serving.problem import HttpError
from sevenfold.serving.request import FeaturesAnswer, RecommendAnswer
from sevenfold.serving.route import JSON, Headers, Reply

__all__ = ["ARROW", "encoded", "wants_arrow"]

ARROW = "application/vnd.apache.arrow.stream"
_WORD = b"arrow"
_METADATA = "sevenfold"
_VARY: Headers = ((b"vary", b"accept"),)
_JSON_ENCODE = msgspec.json.Encoder().encode


def wants_arrow(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a request asks for Arrow: it names that kind, not with `q=0`, and no kind of ours before it.

    >>> wants_arrow({b"accept": b"application/vnd.apache.arrow.stream"})
    True
    >>> wants_arrow({b"accept": b"application/json, application/vnd.apache.arrow.stream;q=0.5"})
    False
    """
    accepted = headers.get(b"accept", b"").lower()
    if _WORD not in accepted:
        return False
    found: dict[bytes, float] = {}
    for one in accepted.split(b","):
        kind, *parameters = (part.strip() for part in one.split(b";"))
        found[kind] = max(_quality(parameters), found.get(kind, 0.0))
    wanted = found.get(ARROW.encode(), 0.0)
    return wanted > 0 and wanted >= found.get(JSON, 0.0)


def encoded(
    answer: FeaturesAnswer | RecommendAnswer,
    asked: Mapping[bytes, bytes],
    headers: Headers = (),
) -> Reply:
    """An answer in the kind that is asked for; raises HttpError 406 where that cannot be given."""
    if not wants_arrow(asked):
        return Reply(_JSON_ENCODE(answer), JSON, (*headers, *_VARY))
    columns = _slate(answer) if isinstance(answer, RecommendAnswer) else _features(answer)
    told = msgspec.structs.asdict(answer)
    for name in ("items", "features", "values", "states"):
        told.pop(name, None)
    told = {name: value for name, value in told.items() if value is not None}
    try:
        raw = stream(columns, {_METADATA: _JSON_ENCODE(told)})
    except InputError as error:
        raise HttpError(406, "not_acceptable", str(error)) from None
    return Reply(raw, ARROW.encode(), (*headers, *_VARY))


def _slate(answer: RecommendAnswer) -> list[tuple[str, str, list[Any]]]:
    return [
        ("item", "string", [one.item for one in answer.items]),
        ("position", "int32", [one.position for one in answer.items]),
        ("score", "float64", [one.score for one in answer.items]),
        ("sources", "list<string>", [one.sources for one in answer.items]),
    ]


def _features(answer: FeaturesAnswer) -> list[tuple[str, str, list[Any]]]:
    values = [[row[i] for row in answer.values] for i in range(len(answer.features))]
    states = [[row[i] for row in answer.states] for i in range(len(answer.features))]
    return [
        *((name, "float64", column) for name, column in zip(answer.features, values, strict=True)),
        *(
            (f"{name}.state", "dictionary", column)
            for name, column in zip(answer.features, states, strict=True)
        ),
    ]


def _quality(parameters: list[bytes]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        if name.strip() == b"q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0
