"""The histories of a home, as reads as of then take them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sevenfold.errors import NotFoundError
from sevenfold.features.plan import Plan
from sevenfold.serving.histories import wanted_keys
from sevenfold.stores.history import HISTORY, History, StreamHistory
from sevenfold.stores.open import open_store

__all__ = ["history_of", "kept_events"]


def history_of(home: Path, plan: Plan) -> History:
    """The history of a home, by the keys of the plan's views."""
    return History(home / HISTORY, wanted_keys(plan))


def kept_events(
    plan: Plan,
    home: Path,
    store_url: str,
    head_events: int,
    advance: Callable[[int, int], None] | None = None,
) -> dict[str, StreamHistory]:
    """The history of every stream up to the end of the home's log, brought up to date first.

    Raises NotFoundError when the log has no events of the plan's streams.
    """
    history = history_of(home, plan)
    store = open_store(store_url, readonly=True)
    try:
        events = history.brought_up(store, head_events, advance)
    finally:
        store.close()
    if not events:
        raise NotFoundError(f"there are no events of {', '.join(plan.streams)}")
    return events
