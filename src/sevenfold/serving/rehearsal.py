"""Everything compiled is run once on made-up events, so that nobody waits for the compiler later."""

from __future__ import annotations

import numpy as np

from sevenfold.clock import Clock
from sevenfold.engines.offline import read_at
from sevenfold.engines.online import OnlineEngine
from sevenfold.features.frame import Spine
from sevenfold.models.trees import rehearse_trees
from sevenfold.serving.audit import rehearse_round
from sevenfold.serving.definition import Definition
from sevenfold.serving.ingest import Ingest, made_up
from sevenfold.spec.system import System
from sevenfold.stores.memory import MemoryStore
from sevenfold.stores.state_rehearsal import rehearse_states
from sevenfold.stores.syncing import rehearse_syncing
from sevenfold.types import US_PER_DAY, Texts

__all__ = ["rehearse"]


def rehearse(system: System, clock: Clock) -> None:
    """Compile what takes events of `system` in, what reads its features, now and as of then, what keeps states, what scores trees and what audits.

    Compiled code is kept on disk, beside the library or where NUMBA_CACHE_DIR says: other processes find it there.
    """
    rehearse_trees()
    rehearse_states()
    rehearse_syncing()
    definition = Definition(system)
    plan = definition.plan
    store, engine = MemoryStore(), OnlineEngine(plan)
    Ingest(store, system.streams, engine, clock).rehearse()
    keys = {entity.name: Texts.of(["made up"]) for entity in system.entities}
    spine = Spine(np.full(1, US_PER_DAY), keys)
    with store.read() as txn:
        engine.read(txn, plan.stored, spine)
    read_at(plan, plan.stored, spine, {n: made_up(s) for n, s in system.streams.items()})
    rehearse_round(definition)
