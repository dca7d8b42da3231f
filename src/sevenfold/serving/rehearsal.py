"""Everything compiled is run once on made-up events, so that nobody waits for the compiler later."""

from __future__ import annotations

from tempfile import TemporaryDirectory

import numpy as np

from sevenfold.clock import Clock
from sevenfold.engines.offline import read_at
from sevenfold.engines.online import OnlineEngine
from sevenfold.features.frame import Spine
from sevenfold.hashing import siphash128
from sevenfold.models.trees import rehearse_trees
from sevenfold.serving.audit import rehearse_round
from sevenfold.serving.definition import Definition
from sevenfold.serving.ingest import Ingest
from sevenfold.serving.made_up import MADE_UP, made_up
from sevenfold.stores.kv import Store
from sevenfold.stores.lmdb import LmdbStore
from sevenfold.stores.state_rehearsal import rehearse_states
from sevenfold.stores.syncing import rehearse_syncing
from sevenfold.types import US_PER_DAY, Texts

__all__ = ["rehearse"]

_MANY = 600  # ids of one event each: more than lie in a run that has no filter


def rehearse(definition: Definition, clock: Clock, audits: bool = True) -> None:
    """Compile what takes events in, what reads features, now and as of then, what keeps states, what scores trees and what audits.

    Compiled code is kept on disk, beside the library or where NUMBA_CACHE_DIR says: other processes find it there.
    Without `audits` nothing is read as of then.
    """
    rehearse_trees()
    rehearse_states()
    rehearse_syncing()
    siphash128(MADE_UP.encode())
    with TemporaryDirectory(prefix="sevenfold-") as folder:
        store = LmdbStore(folder)
        try:
            _ingest_and_read(definition, store, clock)
        finally:
            store.close()
    if audits:
        plan, streams = definition.plan, definition.system.streams
        read_at(plan, plan.stored, _spine(definition), {n: made_up(s) for n, s in streams.items()})
        rehearse_round(definition)


def _ingest_and_read(definition: Definition, store: Store, clock: Clock) -> None:
    """Events alone and many at once, each of them twice; then all that is kept of them."""
    plan, streams = definition.plan, definition.system.streams
    engine = OnlineEngine(plan)
    stage = Ingest(store, streams, engine, clock)
    for stream in streams.values():
        for n in (1, 1, _MANY, _MANY):
            stage.rehearse(made_up(stream, n))
    with store.read() as txn:
        engine.read(txn, plan.stored, _spine(definition))


def _spine(definition: Definition) -> Spine:
    keys = {entity.name: Texts.of([MADE_UP]) for entity in definition.system.entities}
    return Spine(np.full(1, US_PER_DAY), keys)
