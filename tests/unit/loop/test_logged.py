"""A log is learned from as it is: of outcomes that no feature reads, and of streams that have no event yet."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import sevenfold as sf
from sevenfold.clock import ManualClock
from sevenfold.errors import RunError
from sevenfold.loop.logged import Logged
from sevenfold.registry.registry import Registry
from sevenfold.serving.request import RecommendRequest
from sevenfold.serving.service import Service
from sevenfold.stores.kv import Store
from sevenfold.stores.open import open_store
from tests.unit.batch.shop import item, sales, system, user

START_US = 1_700_000_000_000_000
views = sf.Stream("views", time="at", id="id", keys=[user, item], fields={}, timezone="UTC")
stock = sf.Table("stock", item, {"price": sf.Number()}, time="at", timezone="UTC")
SYSTEM = replace(
    system,
    data=[sales, views, stock],
    features=[
        sf.aggregate(item, views, sf.count(windows=["1 d"])),
        sf.attribute(item, stock, "price", name="stock"),
    ],
    models=[
        sf.Rule(by="item__count_1d"),
        sf.LogisticRegression(features=["item__count_1d", "stock__price"]),
    ],
    serving=sf.Pipeline(retrieve=[sf.Popular(views, item, half_life="14 d", n=10)], limit=20),
)


def serving(home: Path, clock: ManualClock) -> tuple[Service, Store]:
    """A service over the store of a home."""
    store = open_store(f"lmdb:{home / 'store'}")
    return Service(SYSTEM, store, Registry(home / "registry"), clock, False), store


def test_outcomes_that_no_feature_reads_label_what_was_shown(tmp_path: Path) -> None:
    clock = ManualClock(START_US)
    service, store = serving(tmp_path, clock)
    looks = [
        {"id": f"v{i}", "at": START_US - i, "user": "ann", "item": f"{i % 3}"} for i in range(6)
    ]
    service.accept("views", looks, None)
    clock.advance(1_000_000)
    service.recommend(RecommendRequest("visit", {"user": "ann"}))
    store.close()
    with pytest.raises(RunError, match="holds no event of stream 'sales'"):
        Logged(SYSTEM, tmp_path).digest(0, 1 << 60, {})
    service, store = serving(tmp_path, clock)
    clock.advance(1_000_000)
    sold = {"line": "l1", "sold_at": clock.now_us(), "user": "ann", "item": "1", "pieces": 1}
    service.accept("sales", [{**sold, "basket": "visit"}], None)
    store.close()
    digest = Logged(SYSTEM, tmp_path).digest(0, 1 << 60, {})
    assert digest.request_ids == ["visit"]
    assert digest.parity.compared == 3
    assert digest.parity.mismatched == 0
    assert digest.training is not None
    assert digest.training.y.sum() == 1
    price = digest.training.x[:, digest.training.feature_names.index("stock__price")]
    assert np.isnan(price).all()
