"""What is asked of the server and what it answers, as typed JSON."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

__all__ = [
    "ChangeAnswer",
    "EventsAnswer",
    "EventsRequest",
    "FeaturesAnswer",
    "FeaturesRequest",
    "ForgetAnswer",
    "ForgetRequest",
    "Item",
    "JobAnswer",
    "JobPage",
    "JobRequest",
    "JobSlate",
    "RankRequest",
    "RecommendAnswer",
    "RecommendRequest",
    "RefusedEvent",
    "ReloadAnswer",
    "Status",
]

Key = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
RequestId = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Instant = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
Size = Annotated[int, msgspec.Meta(ge=1, le=1000)]


class EventsRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Events of one stream: `event` for a single one, `events` for many.

    `known_us` is for a replay: the instant at which they became known.
    """

    stream: Key
    event: dict[str, Any] | None = None
    events: Annotated[list[Any], msgspec.Meta(max_length=10_000)] | None = None
    known_us: Instant | None = None


class RefusedEvent(msgspec.Struct):
    """An item that lies with the dead letters now: its place in the batch, and why."""

    index: int
    reason: str
    message: str


class EventsAnswer(msgspec.Struct):
    """What became of the events; all that is counted here is on disk."""

    position: int
    events: int
    duplicates: int
    dead_letters: int
    refused: list[RefusedEvent]


class ForgetRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The key of an entity that is to leave: the log, the states, the answers and the dead letters."""

    entity: Key
    key: Key


class ForgetAnswer(msgspec.Struct):
    """How many orders are open, and what has been taken out of the home since it was made."""

    open: int
    entities: int
    events: int
    predictions: int
    dead_letters: int
    states: int


class ReloadAnswer(msgspec.Struct):
    """Whether another version serves now, and which; 0 when there is none."""

    changed: bool
    version: int


class Status(msgspec.Struct):
    """`ok` or `ready`."""

    status: str


class RecommendRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Who asks (`keys` by entity) and for how many items; `t` is for a replay."""

    request_id: RequestId
    keys: dict[Key, Key]
    k: Size | None = None
    t: Instant | None = None
    timeout_ms: Annotated[float, msgspec.Meta(gt=0, le=60_000)] | None = None


class RankRequest(RecommendRequest, forbid_unknown_fields=True, kw_only=True):
    """As a recommendation, over the items given."""

    items: Annotated[
        list[Key],
        msgspec.Meta(min_length=1, max_length=2000, extra_json_schema={"uniqueItems": True}),
    ]


class Item(msgspec.Struct):
    """One place of the slate: position from 1, the score it was ranked by, and who proposed it."""

    item: str
    position: int
    score: float
    sources: list[str]


class RecommendAnswer(msgspec.Struct, omit_defaults=True):
    """The slate, which model made it, and which rung of the ladder served.

    `degraded` says by stage what the answer had to do without; it is empty for one that lacks nothing. `as_of` is when the
    slate (the rung `batch`) or its candidates were made, where that was ahead, and `age_s` how long before the answer.
    """

    request_id: str
    items: list[Item]
    model: str
    version: int
    rung: str
    t: int
    repeated: bool
    timing_ms: dict[str, float]
    degraded: dict[str, str]
    as_of: int | None = None
    age_s: float | None = None


class JobRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Whose slates: the keys of each request, in order, and for how many items.

    A `job_id` of the caller's own makes it safe to send again: the job that there is answers.
    """

    keys: Annotated[list[dict[Key, Key]], msgspec.Meta(min_length=1, max_length=10_000)]
    k: Annotated[int, msgspec.Meta(ge=1, le=100)] | None = None
    job_id: Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_-]{1,64}$")] | None = None


class JobAnswer(msgspec.Struct):
    """How a job is: `queued`, `running`, `done`, `failed` (`error` says why) or `cancelled`; instants in microseconds.

    `done` of `total` keys have been looked at. When it is done its slates are on `pages` pages; at `expires` it is let go
    of.
    """

    job_id: str
    state: str
    done: int
    total: int
    k: int
    made: int
    ended: int | None
    expires: int | None
    pages: int
    error: str | None


class JobSlate(msgspec.Struct):
    """The slate of one request's keys as of an instant, null where there was nothing to rank."""

    keys: dict[str, str]
    items: list[Item]
    model: str
    version: int
    rung: str
    as_of: int | None


class JobPage(msgspec.Struct):
    """Some slates of a job, in the order of its keys; pages are numbered from 1."""

    job_id: str
    page: int
    pages: int
    slates: list[JobSlate]


class FeaturesRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Whose features: one mapping of entity to key a row; all features when `features` is not given."""

    rows: Annotated[list[dict[Key, Key]], msgspec.Meta(min_length=1, max_length=2000)]
    features: Annotated[list[Key], msgspec.Meta(min_length=1, max_length=1000)] | None = None
    t: Instant | None = None


class FeaturesAnswer(msgspec.Struct):
    """The values by row and feature, null where there is none, and why: VALUE, NULL, MISSING, STALE or ESTIMATE.

    `definition` names the version of the declaration that they were computed by, `position` how many events of the
    log they reflect. `ages_s` says, by view and row, how many seconds before `t` the newest event of the row's key
    happened, null where the view has seen none.
    """

    features: list[str]
    values: list[list[float | None]]
    states: list[list[str]]
    t: int
    position: int
    definition: str
    ages_s: dict[str, list[float | None]]


class ChangeAnswer(msgspec.Struct):
    """A change of the declaration: `filling` its new views, `waiting` for a model that reads it, or `failed`.

    `serving` names the definition that answers, `target` the one to come; `done` of `total` events are in
    the states of `views`; `reason` says what it waits for or why it failed.
    """

    state: str
    serving: str
    target: str | None
    views: list[str]
    done: int
    total: int
    reason: str | None
