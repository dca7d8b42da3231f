"""The canary and the shadow: begun, looked at, promoted, stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import msgspec

from sevenfold.errors import RegistryError
from sevenfold.registry.trial import Kind
from sevenfold.serving.problem import HttpError, decoded
from sevenfold.serving.route import Asked, Reply, Route
from sevenfold.serving.site import Site
from sevenfold.serving.trials import (
    EndRequest,
    TrialAnswer,
    TrialRequest,
    begin,
    finish,
    promote,
    told,
    told_shadow,
)

__all__ = ["TRIALS"]

_TRIAL = msgspec.json.Decoder(TrialRequest)
_END = msgspec.json.Decoder(EndRequest)
_BODY_BYTES = 64 * 1024


@contextmanager
def _telling() -> Iterator[None]:
    """Have whoever asks hear why the registry does not do it; the socket is the owner's."""
    try:
        yield
    except RegistryError as error:
        raise HttpError(409, "conflict", str(error)) from error


def _told(kind: Kind, site: Site, asked: Asked) -> Reply:
    service = site.service
    if kind == "canary":
        return Reply(site.encode(told(service.registry, kind, service.referee.evidence)))
    with service.store.read() as txn:
        return Reply(site.encode(told_shadow(service.registry, txn)))


def _begin(kind: Kind, site: Site, asked: Asked) -> Reply:
    service, wanted = site.service, decoded(_TRIAL, asked.body)
    with _telling():
        begin(service.registry, service.definition, kind, wanted, service.now_us())
    return _told(kind, site, asked)


def _promote(kind: Kind, site: Site, asked: Asked) -> Reply:
    with _telling():
        promote(site.service.registry, kind, decoded(_END, asked.body), site.service.now_us())
    return _told(kind, site, asked)


def _stop(kind: Kind, site: Site, asked: Asked) -> Reply:
    with _telling():
        finish(site.service.registry, kind, decoded(_END, asked.body), site.service.now_us())
    return _told(kind, site, asked)


TRIALS = (
    Route(
        "POST",
        "/v1/canary",
        "admin",
        "Have a version answer a share of those who ask; of the canary there is, change share and guardrails.",
        partial(_begin, "canary"),
        TrialRequest,
        TrialAnswer,
        max_body_bytes=_BODY_BYTES,
    ),
    Route(
        "POST",
        "/v1/canary/stop",
        "admin",
        "Have the champion answer all again.",
        partial(_stop, "canary"),
        EndRequest,
        TrialAnswer,
        max_body_bytes=_BODY_BYTES,
    ),
    Route(
        "POST",
        "/v1/canary/promote",
        "admin",
        "Make the canary the champion.",
        partial(_promote, "canary"),
        EndRequest,
        TrialAnswer,
        max_body_bytes=_BODY_BYTES,
    ),
    Route(
        "GET",
        "/v1/canary",
        "admin",
        "The canary, and what its guardrails have seen.",
        partial(_told, "canary"),
        None,
        TrialAnswer,
    ),
    Route(
        "POST",
        "/v1/shadow",
        "admin",
        "Have a version score a share of what is answered, after it was; of the shadow there is, change the share.",
        partial(_begin, "shadow"),
        TrialRequest,
        TrialAnswer,
        max_body_bytes=_BODY_BYTES,
    ),
    Route(
        "POST",
        "/v1/shadow/stop",
        "admin",
        "Have it score no more.",
        partial(_stop, "shadow"),
        EndRequest,
        TrialAnswer,
        max_body_bytes=_BODY_BYTES,
    ),
    Route(
        "POST",
        "/v1/shadow/promote",
        "admin",
        "Make the shadow the champion.",
        partial(_promote, "shadow"),
        EndRequest,
        TrialAnswer,
        max_body_bytes=_BODY_BYTES,
    ),
    Route(
        "GET",
        "/v1/shadow",
        "admin",
        "The shadow, and how alike it scores.",
        partial(_told, "shadow"),
        None,
        TrialAnswer,
    ),
)
