"""How the server is: alive, ready, and its counters."""

from __future__ import annotations

import logging

from sevenfold.serving.problem import HttpError
from sevenfold.serving.request import Status
from sevenfold.serving.route import Asked, Reply, Route
from sevenfold.serving.site import Site

__all__ = ["STATE", "own_metrics"]

_LOG = logging.getLogger(__name__)
_TEXT = "text/plain"


def _alive(site: Site, asked: Asked) -> Reply:
    return Reply(b'{"status":"ok"}')


def _ready(site: Site, asked: Asked) -> Reply:
    reason = site.service.ready()
    if reason is not None:
        _LOG.error("not ready reason=%s", reason)
        raise HttpError(503, "not_ready", "a probe row cannot be scored; the log says why")
    return Reply(b'{"status":"ready"}')


def _metrics(site: Site, asked: Asked) -> Reply:
    return own_metrics(site)


def own_metrics(site: Site) -> Reply:
    """The counters of this process; what is of the whole store, whoever owns that tells."""
    service, metrics = site.service, site.metrics
    if service.owns:
        status = service.changing.status
        metrics.change(status.done, status.total)
        audited = service.audit.totals
        metrics.audit(audited.compared, audited.different, audited.rates(service.features))
    if service.keeping is not None:
        metrics.history(service.keeping.kept())
    metrics.choices(service.choices())
    raw = metrics.text(service.position(), site.version_now())
    return Reply(raw, b"text/plain; version=0.0.4; charset=utf-8")


STATE = (
    Route("GET", "/healthz", None, "Whether the process lives.", _alive, None, Status),
    Route(
        "GET",
        "/readyz",
        None,
        "Whether it can answer, by scoring a probe row.",
        _ready,
        None,
        Status,
    ),
    Route(
        "GET",
        "/metrics",
        "metrics",
        "Counters and times in the text format of Prometheus.",
        _metrics,
        kind=_TEXT,
    ),
)
