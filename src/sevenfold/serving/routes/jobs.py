"""Many slates beside the answers: a job is begun, looked at, read page by page, cancelled."""

from __future__ import annotations

import msgspec
import numpy as np

from sevenfold.serving.job_records import JobRecord
from sevenfold.serving.jobs import PAGE, CrowdedError
from sevenfold.serving.problem import HttpError, decoded
from sevenfold.serving.request import Item, JobAnswer, JobPage, JobRequest, JobSlate
from sevenfold.serving.route import Asked, Reply, Route
from sevenfold.serving.site import Site
from sevenfold.serving.slate_table import Slate

__all__ = ["JOBS"]

_JOB = msgspec.json.Decoder(JobRequest)
_RETRY = ((b"retry-after", b"10"),)


def _begin(site: Site, asked: Asked) -> Reply:
    request, service = decoded(_JOB, asked.body), site.service
    if service.replay:
        raise HttpError(
            409,
            "conflict",
            "a replay answers the same whatever the machine's speed, so nothing is done beside its answers; use "
            "`sevenfold score`",
        )
    for i, keys in enumerate(request.keys):
        service.check_keys(keys, f"$.keys[{i}]")
    k = min(request.k or service.system.task.k, service.system.serving.limit)
    try:
        record = service.scoring.begin(request.keys, k, request.job_id)
    except CrowdedError as error:
        raise HttpError(429, "too_many_jobs", str(error), headers=_RETRY) from None
    headers = ((b"location", f"/v1/jobs/{record.id}".encode()),)
    return Reply(site.encode(_told(site, record)), headers=headers, status=202)


def _find(site: Site, asked: Asked) -> Reply:
    return Reply(site.encode(_told(site, site.service.scoring.find(asked.names["job"]))))


def _cancel(site: Site, asked: Asked) -> Reply:
    return Reply(site.encode(_told(site, site.service.scoring.cancel(asked.names["job"]))))


def _page(site: Site, asked: Asked) -> Reply:
    number = asked.names["page"]
    if not (number.isascii() and number.isdigit() and len(number) <= 6):
        raise HttpError(404, "not_found", "no such page; pages are numbered from 1")
    name = asked.names["job"]
    found = site.service.scoring.page(name, int(number))
    pages = _pages(site.service.scoring.find(name))
    slates = [_slate(keys, slate) for keys, slate in found]
    return Reply(site.encode(JobPage(name, int(number), pages, slates)))


def _told(site: Site, record: JobRecord) -> JobAnswer:
    return JobAnswer(
        record.id,
        record.state,
        record.done,
        record.total,
        record.k,
        record.made_us,
        record.ended_us or None,
        site.service.scoring.expires_us(record),
        _pages(record) if record.state == "done" else 0,
        record.error or None,
    )


def _pages(record: JobRecord) -> int:
    return -(-record.total // PAGE)


def _slate(keys: dict[str, str], slate: Slate | None) -> JobSlate:
    if slate is None:
        return JobSlate(keys, [], "none", 0, "empty", None)
    masks = np.frombuffer(slate.sources, dtype=np.uint32).tolist()
    scores = np.frombuffer(slate.scores).tolist()
    items = [
        Item(item, place, score, [n for g, n in enumerate(slate.generators) if mask >> g & 1])
        for place, (item, score, mask) in enumerate(
            zip(slate.items, scores, masks, strict=True), start=1
        )
    ]
    return JobSlate(keys, items, slate.model, slate.version, slate.rung, slate.as_of_us)


JOBS = (
    Route(
        "POST",
        "/v1/jobs",
        "predict",
        "Have the slates of many made beside the answers.",
        _begin,
        JobRequest,
        JobAnswer,
        turn="answers",
        status=202,
    ),
    Route("GET", "/v1/jobs/{job}", "predict", "How far a job is.", _find, None, JobAnswer),
    Route(
        "DELETE",
        "/v1/jobs/{job}",
        "predict",
        "Cancel a job; one that has ended stays as it is.",
        _cancel,
        None,
        JobAnswer,
    ),
    Route(
        "GET",
        "/v1/jobs/{job}/pages/{page}",
        "predict",
        "Some slates of a job that is done, in the order of its keys.",
        _page,
        None,
        JobPage,
        turn="answers",
    ),
)
