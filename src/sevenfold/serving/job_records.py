"""Jobs as a store keeps them: how far each is, and whose keys it is to score; its slates lie in a table of their own.

meta "job/ID"       how the job is
meta "job-keys/ID"  the keys of its requests, in order; one that was forgotten is empty
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import msgspec

from sevenfold.errors import StoreError
from sevenfold.hashing import canonical_json, digest
from sevenfold.serving.slate_table import drop_table
from sevenfold.stores.kv import Transaction
from sevenfold.stores.tables import META

__all__ = [
    "JobRecord",
    "JobState",
    "drop_job",
    "forget_in_jobs",
    "keep_job",
    "keep_keys",
    "read_jobs",
    "read_keys",
    "request_digest",
]

JobState: TypeAlias = Literal["queued", "running", "done", "failed", "cancelled"]

_JOB = b"job/"
_KEYS = b"job-keys/"
_END = b"\xff" * 65


class JobRecord(msgspec.Struct, frozen=True):
    """A job: `done` of `total` keys have been looked at, and `slates` of them have a slate in its `table`.

    `asked` is the digest of what was asked for: the same id with other keys is another job. `made_us` and `ended_us` are
    instants, the second 0 while it is at work.
    """

    id: str
    asked: str
    k: int
    table: int
    total: int
    made_us: int
    state: JobState = "queued"
    done: int = 0
    slates: int = 0
    ended_us: int = 0
    error: str = ""

    @property
    def is_open(self) -> bool:
        """Whether there is still something to do."""
        return self.state in ("queued", "running")


_RECORD = msgspec.msgpack.Decoder(JobRecord)
_LIST = msgspec.msgpack.Decoder(list[dict[str, str]])
_ENCODE = msgspec.msgpack.Encoder().encode


def request_digest(keys: Sequence[Mapping[str, str]], k: int) -> str:
    """What tells one request for a job from another."""
    return digest(canonical_json([[dict(one) for one in keys], k]))


def keep_job(txn: Transaction, record: JobRecord) -> None:
    """Note how a job is."""
    txn.put(META, _JOB + record.id.encode(), _ENCODE(record))


def keep_keys(txn: Transaction, name: str, keys: Sequence[Mapping[str, str]]) -> None:
    """Keep whom a job is to score."""
    txn.put(META, _KEYS + name.encode(), _ENCODE([dict(one) for one in keys]))


def read_jobs(txn: Transaction) -> list[JobRecord]:
    """All jobs, the oldest first."""
    found = [_RECORD.decode(raw) for _, raw in txn.scan(META, _JOB, _JOB + _END)]
    return sorted(found, key=lambda record: record.table)


def read_keys(txn: Transaction, name: str) -> list[dict[str, str]]:
    """Whom a job is to score; StoreError when the store has lost it."""
    raw = txn.get(META, _KEYS + name.encode())
    if raw is None:
        raise StoreError(f"job {name!r} is known, its keys are not: the store is damaged")
    return _LIST.decode(raw)


def drop_job(txn: Transaction, record: JobRecord) -> None:
    """Let go of a job, and have its slates freed."""
    txn.delete(META, _JOB + record.id.encode())
    txn.delete(META, _KEYS + record.id.encode())
    drop_table(txn, record.table)


def forget_in_jobs(txn: Transaction, entity: str, key: str) -> None:
    """Take the requests of an entity out of all jobs; the places of the others stay."""
    for name, raw in list(txn.scan(META, _KEYS, _KEYS + _END)):
        keys = _LIST.decode(raw)
        if any(one.get(entity) == key for one in keys):
            left = [{} if one.get(entity) == key else one for one in keys]
            txn.put(META, name, _ENCODE(left))
