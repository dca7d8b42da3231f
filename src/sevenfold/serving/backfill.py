"""States of views beside those that serve: filled from the log in slices, paused, and freed in the end.

    meta "views"        ids of the views whose states are true to the log's end: every ingest brings them up to date
    meta "behind/ID"    a view whose state is true to a position before that: being filled, or left out for a while;
                        and since when nobody has wanted it
    meta "freeing/ID"   a view whose states are being deleted

Each slice is one durable transaction of bounded size, so a process killed at any instant goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import islice

from sevenfold.engines.online import OnlineEngine
from sevenfold.features.plan import Plan, ViewPlan
from sevenfold.stores.kv import Store, Transaction
from sevenfold.stores.log import blocks, position
from sevenfold.stores.tables import META, STATE
from sevenfold.types import EventBatch, Instant

__all__ = ["Filled", "backfill", "drop_behind", "expire", "fill", "free", "kept_views", "leave_out"]

_KEPT = b"views"
_BEHIND = b"behind/"
_FREEING = b"freeing/"
_ID_BYTES = 8
_SLICE = 1 << 17  # at the start nobody waits: fewer, larger commits
_BEFORE_ALL = -(1 << 62)


@dataclass(frozen=True, slots=True)
class Filled:
    """How many events the view that is furthest behind has seen, and how many there are."""

    done: int
    total: int
    complete: bool


def backfill(
    store: Store, plan: Plan, progress: Callable[[int], None] | None = None
) -> tuple[str, ...]:
    """The names of the views that were filled: new ones, changed ones, and ones that had not been kept.

    Afterwards the store keeps the views of `plan` and no others. Killed at it, the next call goes on where
    this one was; the states that were kept before stay true until all is done. `progress` is told how many
    events have been seen.
    """
    with store.read() as txn:
        known = kept_views(txn)
    wanted = {view.view_id for view in plan.views}
    missing = tuple(view.name for view in plan.views if view.view_id not in known)
    while missing:
        filled = fill(store, plan.views, _SLICE)
        if progress is not None:
            progress(filled.done)
        if filled.complete:
            break
    if known - wanted:
        with store.write() as txn:
            leave_out(txn, wanted)
    return missing


def kept_views(txn: Transaction) -> set[bytes]:
    """The ids of the views whose states are true to the log's end."""
    raw = txn.get(META, _KEPT) or b""
    return {raw[at : at + _ID_BYTES] for at in range(0, len(raw), _ID_BYTES)}


def fill(store: Store, views: Sequence[ViewPlan], limit: int) -> Filled:
    """Bring the states of those of `views` that are not kept nearer to the log's end, by one slice.

    A slice is at most `limit` events applied, or `limit` old states of a wanted view deleted first. The slice
    in which all have seen the whole log makes them kept: from then on the caller's ingest must apply them.
    """
    with store.write() as txn:
        known = kept_views(txn)
        end = position(txn)
        missing = [view for view in views if view.view_id not in known]
        for view in missing:
            if txn.get(META, _FREEING + view.view_id) is not None:
                _free(txn, view.view_id, limit)
                return Filled(0, end, complete=False)
        seen = {view.view_id: _seen(txn, view.view_id) for view in missing}
        start = min(seen.values(), default=end)
        stop = min([end, start + limit, *(at for at in seen.values() if at > start)])
        _apply(txn, [view for view in missing if seen[view.view_id] == start], start, stop)
        for name, at in seen.items():
            seen[name] = max(at, stop)
            txn.put(META, _BEHIND + name, seen[name].to_bytes(8, "big"))
        done = min(seen.values(), default=end)
        if done == end:
            txn.put(META, _KEPT, _packed(known | seen.keys()))
            for name in seen:
                txn.delete(META, _BEHIND + name)
        return Filled(done, end, complete=done == end)


def leave_out(txn: Transaction, wanted: Collection[bytes]) -> None:
    """Keep only `wanted` of the kept views from now on; the others stay true to this position."""
    known = kept_views(txn)
    here = position(txn).to_bytes(8, "big")
    for name in sorted(known.difference(wanted)):
        txn.put(META, _BEHIND + name, here)
    txn.put(META, _KEPT, _packed(known.intersection(wanted)))


def expire(store: Store, wanted: Collection[bytes], now_us: Instant, grace_us: int) -> bool:
    """Have the states freed that nobody has wanted for `grace_us`; whether there are any to be freed."""
    with store.read() as txn:
        behind = [
            (key[len(_BEHIND) :], value)
            for key, value in txn.scan(META, _BEHIND, _after(_BEHIND))
            if key[len(_BEHIND) :] not in wanted
        ]
        freeing = next(iter(txn.scan(META, _FREEING, _after(_FREEING))), None) is not None
    due = [(name, value) for name, value in behind if _since(value) + grace_us <= now_us]
    if not due:
        return freeing
    with store.write() as txn:
        for name, value in due:
            if len(value) == 8 and grace_us:  # seen without a taker for the first time
                txn.put(META, _BEHIND + name, value + now_us.to_bytes(8, "big", signed=True))
            else:
                txn.delete(META, _BEHIND + name)
                txn.put(META, _FREEING + name, b"")
    return True


def drop_behind(txn: Transaction) -> None:
    """Give up every state that is true only to an earlier position: it is freed, and filled anew if wanted."""
    for key in [key for key, _ in txn.scan(META, _BEHIND, _after(_BEHIND))]:
        txn.delete(META, key)
        txn.put(META, _FREEING + key[len(_BEHIND) :], b"")


def free(store: Store, limit: int) -> bool:
    """Delete up to `limit` states that nobody wants, in one transaction; whether there were any."""
    with store.write() as txn:
        for key, _ in txn.scan(META, _FREEING, _after(_FREEING)):
            _free(txn, key[len(_FREEING) :], limit)
            return True
    return False


def _apply(txn: Transaction, views: Sequence[ViewPlan], start: int, stop: int) -> None:
    if start == stop:
        return
    engine = OnlineEngine(Plan(tuple(views), ()))
    streams = {view.stream for view in views}
    # The events of other streams need not even be unpacked.
    only = streams.pop() if len(streams) == 1 else None
    # Together: the state of a key that many blocks touch is read and written once.
    together: dict[str, list[EventBatch]] = {}
    for _, batch in blocks(txn, only, start, stop):
        parts = together.setdefault(batch.stream, [])
        if (
            parts and parts[0].fields.keys() != batch.fields.keys()
        ):  # a field was added to the stream
            engine.apply(txn, EventBatch.concat(parts))
            parts.clear()
        parts.append(batch)
    for parts in together.values():
        engine.apply(txn, EventBatch.concat(parts))


def _free(txn: Transaction, name: bytes, limit: int) -> None:
    doomed = [key for key, _ in islice(txn.scan(STATE, name, name + b"\xff" * 17), limit)]
    for key in doomed:
        txn.delete(STATE, key)
    if len(doomed) < limit:
        txn.delete(META, _FREEING + name)


def _packed(ids: Collection[bytes]) -> bytes:
    return b"".join(sorted(ids))


def _seen(txn: Transaction, name: bytes) -> int:
    return int.from_bytes((txn.get(META, _BEHIND + name) or b"")[:8], "big")


def _since(value: bytes) -> Instant:
    """Since when nobody has wanted the view; before all time when that has not been noticed yet."""
    return int.from_bytes(value[8:], "big", signed=True) if len(value) > 8 else _BEFORE_ALL


def _after(prefix: bytes) -> bytes:
    return prefix + b"\xff" * (_ID_BYTES + 1)
