"""Jobs of clients: many requests scored beside the answers, some at a time, kept until their time is over."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sevenfold.clock import elapsed_s
from sevenfold.errors import NotFoundError, ServingError, SevenfoldError
from sevenfold.serving.job_records import (
    JobRecord,
    drop_job,
    keep_job,
    keep_keys,
    read_jobs,
    read_keys,
    request_digest,
)
from sevenfold.serving.slate_table import Slate, find_slate, free_tables, next_table, put_slates
from sevenfold.spec.stage import Jobs as Declared
from sevenfold.spec.units import parse_duration
from sevenfold.stores.kv import Store
from sevenfold.stores.log import raise_frontier
from sevenfold.types import Instant

__all__ = ["PAGE", "CrowdedError", "JobMetrics", "Jobs"]

_LOG = logging.getLogger(__name__)

PAGE = 100
"""Slates of one page of a result."""

_STEP_S = 0.005
_MOST = 256  # slates a commit
_WRITE_S = 1.0  # a commit may take longer than many slates
_REST = 3  # times as long as a step took, while others ask
_SLICE = 2_048
_TRIES = 3


class CrowdedError(ServingError):
    """As many jobs as there may be are waiting."""


@dataclass(slots=True)
class _Work:
    """What is under way of a job: its keys, how many have been looked at, and the slates that are not on disk yet."""

    id: str
    keys: list[dict[str, str]]
    at: int
    since_s: float
    made: list[Slate] = field(default_factory=list)


class Jobs:
    """The work of `POST /v1/jobs`: jobs one after another, in the order in which they came.

    `make` gives the slate of a request's keys now, with at most `k` items; None where there are no candidates. `hold` says
    when to wait: while somebody is forgotten. While not `quiet` a step is followed by a rest, so that others who ask are
    seldom in its way. Slates are written some hundred at a time, or once a second, with how far the job is: one that was
    interrupted goes on after them. A step that fails is tried again, three times in all.
    """

    name = "jobs"

    def __init__(
        self,
        store: Store,
        declared: Declared,
        make: Callable[[Mapping[str, str], int], Slate | None],
        now_us: Callable[[], Instant],
        hold: Callable[[], bool] = lambda: False,
        quiet: Callable[[], bool] = lambda: True,
    ) -> None:
        self._store = store
        self._make, self._now_us = make, now_us
        self._hold, self._quiet = hold, quiet
        self.use(declared)
        self.reload()
        self._frees = True  # what a process before this one has left
        self._rested_s = 0.0
        self._failures = 0

    def use(self, declared: Declared) -> None:
        """Go by these bounds from now on."""
        self._ttl_us = parse_duration(declared.ttl)
        self._waiting, self._kept = declared.waiting, max(declared.kept, declared.waiting)

    def reload(self) -> None:
        """Take in what the store holds, as at the start."""
        with self._store.read() as txn:
            self._records = {record.id: record for record in read_jobs(txn)}
        self._work: _Work | None = None

    @property
    def records(self) -> Sequence[JobRecord]:
        """The jobs that are kept, the oldest first."""
        return tuple(self._records.values())

    def begin(self, keys: Sequence[Mapping[str, str]], k: int, name: str | None) -> JobRecord:
        """A new job for requests of these keys, durable when it is returned; the one there is, where it was begun before.

        Without a `name` it is given one. Raises CrowdedError when too many wait, ServingError for a name that another
        job has.
        """
        asked = request_digest(keys, k)
        before = None if name is None else self._records.get(name)
        if before is not None:
            if before.asked != asked:
                raise ServingError(
                    f"$.job_id: {name!r} was used for a job of other keys; give every job its own"
                )
            return before
        waiting = sum(record.is_open for record in self._records.values())
        if waiting >= self._waiting:
            raise CrowdedError(f"{waiting} jobs are waiting, as many as may; come back later")
        ended = [record for record in self._records.values() if not record.is_open]
        oldest = ended[0] if ended and len(self._records) >= self._kept else None
        with self._store.write() as txn:
            made = JobRecord(
                name or secrets.token_hex(8), asked, k, next_table(txn), len(keys), self._now_us()
            )
            keep_keys(txn, made.id, keys)
            keep_job(txn, made)
            if oldest is not None:
                drop_job(txn, oldest)
        if oldest is not None:
            self._let_go(oldest)
        self._records[made.id] = made
        return made

    def find(self, name: str) -> JobRecord:
        """A job by its id; NotFoundError where there is none, or its time is over."""
        record = self._records.get(name)
        if record is None or self._is_over(record):
            raise NotFoundError(
                "no such job; one that has ended is kept for as long as $.serving.jobs.ttl"
            )
        return record

    def expires_us(self, record: JobRecord) -> Instant | None:
        """When an ended job is let go of; None for one that is at work."""
        return None if record.is_open else record.ended_us + self._ttl_us

    def cancel(self, name: str) -> JobRecord:
        """The job, at which nothing is done any more, its slates to be freed; one that has ended stays as it is."""
        record = self.find(name)
        return self._ended(record, "cancelled") if record.is_open else record

    def page(self, name: str, number: int) -> list[tuple[dict[str, str], Slate | None]]:
        """The slates of a page of a job's result, from 1, with their keys; None where there were no candidates.

        Who was forgotten since is left out. Raises ServingError while the job is not done, NotFoundError for another page.
        """
        record = self.find(name)
        if record.state != "done":
            raise ServingError(f"the job is {record.state}; only one that is done has slates")
        begin = (number - 1) * PAGE
        if not 0 <= begin < record.total:
            raise NotFoundError(f"no such page; there are 1 to {-(-record.total // PAGE)}")
        with self._store.read() as txn:
            keys = [one for one in read_keys(txn, name)[begin : begin + PAGE] if one]
            return [(one, find_slate(txn, record.table, one)) for one in keys]

    def step(self) -> bool:
        """Score some, or let go of what is over; whether there was anything to do."""
        if elapsed_s() < self._rested_s or self._hold():
            return False
        begin_s = elapsed_s()
        worked = self._step()
        if worked and not self._quiet():
            now_s = elapsed_s()
            self._rested_s = now_s + _REST * (now_s - begin_s)
        return worked

    def failed(self, error: Exception) -> None:
        """Try again, but not for ever."""
        self._failures += 1
        record = self._next()
        if self._failures < _TRIES or record is None:
            return
        self._failures = 0
        words = str(error) if isinstance(error, SevenfoldError) else "the server's log says why"
        try:
            self._ended(record, "failed", f"it failed {_TRIES} times: {words}")
        except SevenfoldError as again:
            _LOG.error("job not ended id=%s error=%s", record.id, again)

    def _step(self) -> bool:
        over = next((one for one in self._records.values() if self._is_over(one)), None)
        if over is not None:
            with self._store.write() as txn:
                drop_job(txn, over)
            self._let_go(over)
            return True
        record = self._next()
        if record is None:
            self._frees = self._frees and free_tables(self._store, _SLICE)
            return self._frees
        self._score(record)
        self._failures = 0
        return True

    def _score(self, record: JobRecord) -> None:
        """Make some slates; they are written when there are many, or the first of them is a second old."""
        work = self._work_on(record)
        begin_s = elapsed_s()
        while work.at < record.total and work.at - record.done < _MOST:
            keys = work.keys[work.at]
            slate = self._make(keys, record.k) if keys else None
            if slate is not None:
                work.made.append(slate)
            work.at += 1
            if elapsed_s() - begin_s > _STEP_S:
                break
        is_whole = work.at == record.total
        if is_whole or work.at - record.done >= _MOST or elapsed_s() - work.since_s > _WRITE_S:
            self._write(record, work)

    def _write(self, record: JobRecord, work: _Work) -> None:
        told = {"state": "running", "done": work.at, "slates": record.slates + len(work.made)}
        if work.at == record.total:
            told |= {"state": "done", "ended_us": self._now_us()}
        after = msgspec.structs.replace(record, **told)
        with self._store.write() as txn:
            put_slates(txn, record.table, work.made)
            keep_job(txn, after)
            # What was read as of then is to stay so.
            raise_frontier(txn, max((slate.as_of_us for slate in work.made), default=0))
        self._records[record.id] = after
        work.made, work.since_s = [], elapsed_s()

    def _next(self) -> JobRecord | None:
        return next((record for record in self._records.values() if record.is_open), None)

    def _work_on(self, record: JobRecord) -> _Work:
        """What is under way of a job, begun where it is on disk."""
        if self._work is None or self._work.id != record.id:
            with self._store.read() as txn:
                keys = read_keys(txn, record.id)
            self._work = _Work(record.id, keys, record.done, elapsed_s())
        return self._work

    def _is_over(self, record: JobRecord) -> bool:
        expires_us = self.expires_us(record)
        return expires_us is not None and expires_us <= self._now_us()

    def _ended(self, record: JobRecord, state: str, error: str = "") -> JobRecord:
        """End a job before it is done: what it has made is of no use."""
        told = {"state": state, "error": error, "ended_us": self._now_us(), "slates": 0}
        after = msgspec.structs.replace(record, **told, table=0)
        with self._store.write() as txn:
            drop_job(txn, record)
            after = msgspec.structs.replace(after, table=next_table(txn))  # its place in the order
            keep_keys(txn, record.id, [])
            keep_job(txn, after)
        self._records[record.id] = after
        self._work, self._frees = None, True
        return after

    def _let_go(self, record: JobRecord) -> None:
        del self._records[record.id]
        self._work, self._frees = None, True


class JobMetrics(Collector):
    """The jobs of a server, for Prometheus."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    def collect(self) -> Iterator[Metric]:
        """How many jobs are kept, by state, and how many keys are still to be scored."""
        records = self._jobs.records
        states = GaugeMetricFamily(
            "sevenfold_jobs", "Jobs that are kept, by state", labels=["state"]
        )
        for state in ("queued", "running", "done", "failed", "cancelled"):
            states.add_metric([state], sum(record.state == state for record in records))
        yield states
        left = sum(record.total - record.done for record in records if record.is_open)
        yield GaugeMetricFamily(
            "sevenfold_jobs_keys", "Keys of jobs that are still to be scored", value=left
        )
