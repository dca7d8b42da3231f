"""The benchmark of reads: what it reads bare beside a store is what the store holds."""

from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks import online
from sevenfold.engines.online import OnlineEngine
from sevenfold.features.columns import key_hashes
from sevenfold.hashing import key_bytes
from sevenfold.stores.lmdb import LmdbStore
from sevenfold.types import Texts


def test_the_bare_read_beside_lmdb_gives_the_bytes_of_the_states(tmp_path: Path) -> None:
    plan = online.windowed()
    store = LmdbStore(tmp_path / "store")
    online.fill(store, OnlineEngine(plan), 40, 600)
    view = plan.views[0]
    wanted = Texts.of([f"user-{i}" for i in np.random.default_rng(1).integers(0, 40, 25)])
    keys = key_bytes(key_hashes(view.entities, {"user": wanted}), view.view_id)
    with ExitStack() as stack:
        raw = online._raw_lmdb(stack, store, tmp_path / "raw")(keys)
        with store.read() as txn:
            assert raw == txn.gather("state", keys)[0]
        assert len(raw) > 25 * 100
    store.close()
