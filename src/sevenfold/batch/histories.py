"""The histories of a home, as reads as of then take them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sevenfold.errors import NotFoundError
from sevenfold.features.plan import Plan
from sevenfold.serving.histories import wanted_keys
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
    plan: Plan,
    home: Path,
    store_url: str,
    head_events: int,
    advance: Callable[[int, int], None] | None = None,
) -> Kept:
    """The history of every stream up to the end of the home's log, brought up to date first.

    Raises NotFoundError when the log has no events of the plan's streams.
    """
    history = history_of(home, plan)
    store = open_store(store_url, readonly=True)
    try:
        begin_us, before = _end(store)
        events = history.brought_up(store, head_events, advance)
        end_us, after = _end(store)
    finally:
        store.close()
    if not events:
        raise NotFoundError(f"there are no events of {', '.join(plan.streams)}")
    return Kept(events, (begin_us, end_us), (before, after))


def _end(store: Store) -> tuple[Instant, int]:
    with store.read() as txn:
        return last_known_us(txn), rewrites(txn)
