"""States of views that the store does not keep yet: filled from the log before anything is read."""

from __future__ import annotations

from sevenfold.engines.online import OnlineEngine
from sevenfold.features.plan import Plan
from sevenfold.stores.kv import Store, Transaction
from sevenfold.stores.log import blocks
from sevenfold.stores.tables import META, STATE

__all__ = ["backfill"]

_KEPT = b"views"
_ID_BYTES = 8


def backfill(store: Store, plan: Plan) -> tuple[str, ...]:
    """The names of the views that were filled: new ones, changed ones, and ones that had not been kept.

    Afterwards the store keeps the views of `plan` and no others. All of it is one transaction, so a process
    killed at it leaves the states as they were.
    """
    wanted = {view.view_id: view for view in plan.views}
    with store.read() as txn:
        kept = _kept(txn)
    if kept == wanted.keys():
        return ()
    missing = tuple(view for name, view in wanted.items() if name not in kept)
    with store.write() as txn:
        # A view that was left out for a while has missed events: its old state is worth nothing.
        for name in (*(view.view_id for view in missing), *sorted(kept - wanted.keys())):
            _forget(txn, name)
        engine = OnlineEngine(Plan(missing, ()))
        if missing:
            for _, batch in blocks(txn):
                engine.apply(txn, batch)
        txn.put(META, _KEPT, b"".join(sorted(wanted)))
    return tuple(view.name for view in missing)


def _kept(txn: Transaction) -> set[bytes]:
    raw = txn.get(META, _KEPT) or b""
    return {raw[at : at + _ID_BYTES] for at in range(0, len(raw), _ID_BYTES)}


def _forget(txn: Transaction, name: bytes) -> None:
    for key in [key for key, _ in txn.scan(STATE, name, name + b"\xff" * 17)]:
        txn.delete(STATE, key)
