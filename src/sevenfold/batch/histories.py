"""The histories of a home, as reads as of then take them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sevenfold.errors import NotFoundError
from sevenfold.features.plan import Plan
from sevenfold.serving.histories import wanted_keys
from sevenfold.sources.validate import no_events
from sevenfold.spec.stream import Stream
from sevenfold.spec.system import System
from sevenfold.stores.history import HISTORY, History, StreamHistory
from sevenfold.stores.kv import Store
from sevenfold.stores.log import last_known_us, rewrites
from sevenfold.stores.open import open_store
from sevenfold.types import Instant

__all__ = ["Kept", "history_of", "kept_events"]


def history_of(home: Path, plan: Plan) -> History:
    """The history of a home, by the keys of the plan's views."""
    return History(home / HISTORY, wanted_keys(plan))


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """The histories of streams up to the end of the log.

    While they were read, the newest event of the log became known at `end_us`, first and last; `rewrites` says how
    often events in it were changed or taken out, first and last. No event can become known before the instant
    after the first.
    """

    events: Mapping[str, StreamHistory]
    end_us: tuple[Instant, Instant]
    rewrites: tuple[int, int]


def kept_events(
    system: System,
    plan: Plan,
    home: Path,
    head_events: int,
    advance: Callable[[int, int], None] | None = None,
) -> Kept:
    """The history of every stream up to the end of the log in LMDB of a home, brought up to date first.

    A stream that the log has no event of yet has an empty one: its features read as they do online. Raises
    NotFoundError when the log has no events of any of the plan's streams.
    """
    history = history_of(home, plan)
    store = open_store(f"lmdb:{home / 'store'}", readonly=True)
    try:
        begin_us, before = _end(store)
        events = history.brought_up(store, head_events, advance)
        end_us, after = _end(store)
    finally:
        store.close()
    if not events:
        raise NotFoundError(f"there are no events of {', '.join(plan.streams)}")
    empty = {
        stream: _empty(system.streams[stream], keys)
        for stream, keys in wanted_keys(plan).items()
        if stream not in events
    }
    return Kept({**events, **empty}, (begin_us, end_us), (before, after))


def _empty(stream: Stream, keys: Sequence[tuple[str, ...]]) -> StreamHistory:
    """The history of a stream without an event."""
    return StreamHistory(
        stream.name, dict.fromkeys(keys, ()), dict.fromkeys(keys, no_events(stream))
    )


def _end(store: Store) -> tuple[Instant, int]:
    with store.read() as txn:
        return last_known_us(txn), rewrites(txn)
