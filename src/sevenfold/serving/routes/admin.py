"""What changes the server itself: another declaration, an entity that leaves, another model."""

from __future__ import annotations

import msgspec

from sevenfold.serving.problem import HttpError, decoded
from sevenfold.serving.request import ChangeAnswer, ForgetAnswer, ForgetRequest, ReloadAnswer
from sevenfold.serving.route import Asked, Reply, Route
from sevenfold.serving.site import Site

__all__ = ["ADMIN"]

_FORGET = msgspec.json.Decoder(ForgetRequest)
_BODY_BYTES = 1024 * 1024


def _change(site: Site, asked: Asked) -> Reply:
    if site.order_change is None:
        raise HttpError(409, "conflict", "this server cannot change: it has no home to be told in")
    site.order_change()
    return _change_status(site, asked)


def _change_status(site: Site, asked: Asked) -> Reply:
    status = site.service.changing.status
    answer = ChangeAnswer(
        status.state,
        site.service.definition.name,
        status.target,
        list(status.views),
        status.done,
        status.total,
        status.reason,
    )
    return Reply(site.encode(answer))


def _forget(site: Site, asked: Asked) -> Reply:
    who = decoded(_FORGET, asked.body)
    site.service.forget(who.entity, who.key)
    return _forget_status(site, asked)


def _forget_status(site: Site, asked: Asked) -> Reply:
    still_open, done = site.service.forgotten()
    counts = (done.entities, done.events, done.predictions, done.dead_letters, done.states)
    return Reply(site.encode(ForgetAnswer(still_open, *counts)))


def _reload(site: Site, asked: Asked) -> Reply:
    site.service.changing.settle()
    champion = site.service.champion
    changed = champion.reload()
    if champion.refused is not None:
        raise HttpError(409, "model_refused", champion.refused)
    return Reply(site.encode(ReloadAnswer(changed, site.version_now())))


ADMIN = (
    Route(
        "POST",
        "/v1/change",
        "admin",
        "Change to the declaration that the home's change.json names, while serving.",
        _change,
        None,
        ChangeAnswer,
        max_body_bytes=_BODY_BYTES,
    ),
    Route(
        "POST",
        "/v1/forget",
        "admin",
        "Take one entity out of the home; durable when answered, carried out beside the answers.",
        _forget,
        ForgetRequest,
        ForgetAnswer,
        max_body_bytes=_BODY_BYTES,
    ),
    Route(
        "POST",
        "/v1/reload",
        "admin",
        "Load the version that the alias names.",
        _reload,
        None,
        ReloadAnswer,
        max_body_bytes=_BODY_BYTES,
    ),
    Route(
        "GET",
        "/v1/change",
        "admin",
        "How far a change of the declaration is.",
        _change_status,
        None,
        ChangeAnswer,
    ),
    Route(
        "GET",
        "/v1/forget",
        "admin",
        "How many entities are still to be taken out.",
        _forget_status,
        None,
        ForgetAnswer,
    ),
)
