"""A small world of users and items: its features, and logs of it with nulls and late events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import sevenfold as sf
from sevenfold.features.plan import Plan, compile_plan
from sevenfold.stores.kv import Store
from sevenfold.stores.open import open_store
from sevenfold.types import US_PER_S, EventBatch, Texts

user, item = sf.Entity("user"), sf.Entity("item")
sales = sf.Stream(
    "sales",
    time="at",
    keys=[user, item],
    fields={"price": sf.Number(), "pieces": sf.Number(), "basket": sf.Id()},
)
profiles = sf.Stream("profiles", time="at", keys=[user], fields={"age": sf.Number()})


def worth(price: np.ndarray, pieces: np.ndarray) -> np.ndarray:
    return price * pieces


@sf.on_demand
def share(user__sum_worth_1h: np.ndarray, budget: np.ndarray) -> np.ndarray:
    return user__sum_worth_1h / budget


def make_log(seed: int, n: int) -> dict[str, EventBatch]:
    """Random events of two streams over four hours, in log order; a third late by up to two hours."""
    rng = np.random.default_rng(seed)

    def texts(prefix: str, kinds: int, null: float = 0.1) -> Texts:
        drawn = rng.integers(0, kinds, n).tolist()
        gone = rng.random(n) < null
        return Texts.of([None if g else f"{prefix}{i}" for i, g in zip(drawn, gone, strict=True)])

    def numbers() -> np.ndarray:
        x = np.round(rng.normal(size=n) * 10.0 ** rng.integers(-3, 9, n), 3)
        x[rng.random(n) < 0.15] = np.nan
        return x

    def instants() -> tuple[np.ndarray, np.ndarray]:
        known = np.sort(rng.integers(0, 4 * 3600, n)) * US_PER_S
        late = np.where(rng.random(n) < 0.3, rng.integers(0, 2 * 3600, n), 0) * US_PER_S
        return known - late, known

    ids = Texts.of([f"e{i:04}" for i in range(n)])
    return {
        "sales": EventBatch(
            "sales",
            *instants(),
            ids,
            {"user": texts("u", 3), "item": texts("i", 3)},
            {"price": numbers(), "pieces": numbers(), "basket": texts("b", 6)},
        ),
        "profiles": EventBatch(
            "profiles", *instants(), ids, {"user": texts("u", 3)}, {"age": numbers()}
        ),
    }


@pytest.fixture(scope="session")
def log() -> Callable[[int, int], dict[str, EventBatch]]:
    """Makes a random log from a seed and a number of events."""
    return make_log


@pytest.fixture(scope="session")
def plan() -> Plan:
    """Every kind of aggregate, in views of one key and of two, of all events and of some."""
    both = {"windows": ["10 min", "1 h"]}
    return compile_plan(
        [
            sf.aggregate(
                user,
                sales,
                sf.count(),
                sf.count("price", **both),
                sf.sum(worth, windows=["1 h"]),
                sf.mean("price"),
                sf.mean("price", **both),
                sf.min("pieces", windows=["1 h"], hop="5 min"),
                sf.max("pieces"),
                sf.last("price"),
                sf.last("price", windows=["10 min"], nulls=True),
                sf.since_last(),
                sf.distinct("basket", cap=3),
                sf.distinct("item", **both),
                sf.decayed(half_life="30 min"),
                sf.decayed("price", half_life="2 h"),
            ),
            sf.aggregate([user, item], sales, sf.count(**both), sf.sum("price")),
            sf.aggregate(
                item, sales, sf.sum("price", **both), name="dear", where=lambda price: price > 1
            ),
            sf.aggregate(
                item, sales, sf.sum("price", **both), name="other", where=lambda price: price <= 1
            ),
            sf.attribute(user, profiles, "age", ttl="30 min"),
            share,
        ]
    )


@pytest.fixture(params=["memory", "lmdb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store of each kind."""
    opened = open_store("memory:" if request.param == "memory" else f"lmdb:{tmp_path / 'store'}")
    yield opened
    opened.close()
