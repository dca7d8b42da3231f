"""What filling the states of views will cost, measured on a sample of the log."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from sevenfold.clock import elapsed_s
from sevenfold.features.plan import ViewPlan
from sevenfold.serving.backfill import fill
from sevenfold.stores.kv import Store
from sevenfold.stores.log import append, blocks, position
from sevenfold.stores.open import open_store
from sevenfold.stores.tables import STATE
from sevenfold.types import EventBatch

__all__ = ["Cost", "estimate"]

_CHUNKS = 32
_CHUNK = 2_048
_SLICE = 8_192


class Cost(msgspec.Struct, frozen=True):
    """What filling a view takes: events of its stream, keys and bytes of its states, seconds of one core.

    `exact` when the whole log was tried; otherwise keys and bytes follow the growth seen in the sample,
    which slows down in most logs, so they are rather too high.
    """

    view: str
    events: int
    keys: int
    bytes: int
    seconds: float
    exact: bool


class _Trial(msgspec.Struct, frozen=True):
    """What a part of the log gave: events of the stream, keys, bytes, seconds."""

    events: int
    keys: int
    bytes: int
    seconds: float


def estimate(store: Store, views: Sequence[ViewPlan]) -> list[Cost]:
    """The cost of each view over the log of `store`, which is only read; some seconds at most.

    Chunks at even distances are filled into a store on disk that is thrown away, once every other one and
    once all of them; what grows from one to the other is taken to go on growing by the same power.
    """
    with store.read() as txn:
        end = position(txn)
        starts = _starts(end)
        chunks = [_chunk(list(blocks(txn, None, at, at + _CHUNK))) for at in starts]
    share = min(1.0, len(starts) * _CHUNK / end) if end else 1.0
    return [_cost(view, chunks, share) for view in views]


def _starts(end: int) -> list[int]:
    if end <= _CHUNKS * _CHUNK:
        return list(range(0, end, _CHUNK))
    return [i * (end - _CHUNK) // (_CHUNKS - 1) for i in range(_CHUNKS)]


def _chunk(found: list[tuple[int, EventBatch]]) -> list[EventBatch]:
    return [batch for _, batch in found]


def _cost(view: ViewPlan, chunks: Sequence[Sequence[EventBatch]], share: float) -> Cost:
    mine = [[batch for batch in chunk if batch.stream == view.stream] for chunk in chunks]
    _try(view, mine[:1])  # a kernel that has to be loaded first is no cost of the events
    whole = _try(view, mine)
    if share >= 1:
        return Cost(view.name, whole.events, whole.keys, whole.bytes, whole.seconds, exact=True)
    half = _try(view, mine[::2])
    more = math.log(whole.events / half.events) if half.events else 0.0
    return Cost(
        view.name,
        round(whole.events / share),
        round(_grown(half.keys, whole.keys, more, share)),
        round(_grown(half.bytes, whole.bytes, more, share)),
        whole.seconds / share,
        exact=False,
    )


def _grown(half: int, whole: int, more: float, share: float) -> float:
    """What `whole` becomes with 1 / share as many events, growing as it did from `half` with e^more as many."""
    power = math.log(whole / half) / more if half and more > 0 else 1.0
    return float(whole * math.pow(1 / share, min(max(power, 0.0), 1.0)))


def _try(view: ViewPlan, chunks: Sequence[Sequence[EventBatch]]) -> _Trial:
    with TemporaryDirectory(prefix="sevenfold-") as folder:
        trial = open_store(f"lmdb:{Path(folder) / 'store'}")
        try:
            with trial.write() as txn:
                events = [append(txn, batch) for chunk in chunks for batch in chunk][-1:]
            begin_s = elapsed_s()
            while not fill(trial, [view], _SLICE).complete:
                pass
            seconds = elapsed_s() - begin_s
            with trial.read() as txn:
                sizes = [len(key) + len(value) for key, value in txn.scan(STATE)]
            return _Trial(sum(events), len(sizes), sum(sizes), seconds)
        finally:
            trial.close()
