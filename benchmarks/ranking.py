"""A home for the benchmark of the server: a store with a month of sales, a model of five hundred trees, and what is asked of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from benchmarks.load import NUMBER
from benchmarks.ranking_system import FEATURES, system
from sevenfold.clock import SystemClock
from sevenfold.engines.online import OnlineEngine
from sevenfold.features.frame import Spine
from sevenfold.models.dataset import Dataset
from sevenfold.models.lightgbm import LightGBMModel, LightGBMSettings
from sevenfold.registry.registry import Registry
from sevenfold.serving.definition import Definition
from sevenfold.serving.ingest import Ingest
from sevenfold.serving.oip.scoring import MATRIX
from sevenfold.stores.kv import Store
from sevenfold.stores.log import last_known_us
from sevenfold.stores.open import open_store
from sevenfold.types import US_PER_DAY, Texts

__all__ = ["CANDIDATES", "MODEL", "SYSTEM", "TREES", "Prepared", "prepare"]

SYSTEM = Path(__file__).with_name("ranking_system.py")
CANDIDATES, TREES, ASKED = 100, 500, 64
MODEL = "trees"
_CUSTOMERS, _ITEMS, _EVENTS, _REQUESTS = 2_000, 1_000, 200_000, 300
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Prepared:
    """Requests that are to be ranked: for ours by customer and items, for a peer with the features ready.

    `vectors` float32 (requests, candidates, features) are those of the store; `trees` is the model as LightGBM's own text, `model` the same.
    """

    home: Path
    trees: Path
    model: LightGBMModel
    questions: list[tuple[str, list[str]]]
    vectors: Vectors

    def rank_bodies(self, n: int = CANDIDATES) -> tuple[bytes, ...]:
        """What ours is asked: a customer and n items."""
        return tuple(
            msgspec.json.encode(
                {"request_id": NUMBER.decode(), "keys": {"customer": who}, "items": items[:n]}
            )
            for who, items in self.questions
        )

    def ready_bodies(self, n: int = CANDIDATES) -> tuple[bytes, ...]:
        """What a peer is asked: n rows of ready-made features; a null is null."""
        return tuple(
            msgspec.json.encode({"rows": [_known(row) for row in rows[:n].tolist()]})
            for rows in self.vectors
        )

    def infer_bodies(self, n: int = CANDIDATES) -> tuple[bytes, ...]:
        """The same rows as ours takes them: one tensor of the Open Inference Protocol."""
        width = self.vectors.shape[2]
        return tuple(
            msgspec.json.encode(
                {
                    "inputs": [
                        {
                            "name": MATRIX,
                            "datatype": "FP32",
                            "shape": [n, width],
                            "data": _known(rows[:n].ravel().tolist()),
                        }
                    ]
                }
            )
            for rows in self.vectors
        )


def prepare(home: Path, scale: float) -> Prepared:
    """A home with its store filled and its model promoted; `scale` shortens the history and thins the trees' lessons."""
    rng = np.random.default_rng(0)
    store = open_store(f"lmdb:{home / 'store'}")
    try:
        _fill(store, rng, max(5_000, int(_EVENTS * scale)))
        definition = Definition(system)
        engine = OnlineEngine(definition.plan)
        taught = [_question(rng) for _ in range(max(100, int(_REQUESTS * scale)))]
        asked = [_question(rng) for _ in range(ASKED)]
        model = _taught(_read(store, engine, taught), rng)
        vectors = _read(store, engine, asked).reshape(ASKED, CANDIDATES, len(FEATURES))
    finally:
        store.close()
    trees = home / "trees.txt"
    trees.write_text(model.text, "utf-8")
    _promote(home, definition, model)
    return Prepared(home, trees, model, asked, vectors)


def _known(row: list[float]) -> list[float | None]:
    return [None if value != value else value for value in row]


def _fill(store: Store, rng: np.random.Generator, events: int) -> None:
    clock = SystemClock()
    ingest = Ingest(store, system.streams, OnlineEngine(Definition(system).plan), clock)
    end_us = clock.now_us()
    ages_us = np.sort(rng.integers(0, 30 * US_PER_DAY, events))[::-1]
    rows = [
        {
            "line": f"l{i}",
            "at": str(np.datetime64(end_us - age_us, "us")),
            "customer": f"customer-{who}",
            "item": f"item-{what}",
            "price": price,
            "basket": f"b{i}",
        }
        for i, (age_us, who, what, price) in enumerate(
            zip(
                ages_us.tolist(),
                rng.integers(0, _CUSTOMERS, events).tolist(),
                (_ITEMS * rng.random(events) ** 2).astype(int).tolist(),
                rng.lognormal(1, 1, events).round(2).tolist(),
                strict=True,
            )
        )
    ]
    for first in range(0, events, 10_000):
        ingest.accept("sales", rows[first : first + 10_000])


def _question(rng: np.random.Generator) -> tuple[str, list[str]]:
    items = rng.choice(_ITEMS, CANDIDATES, replace=False).tolist()
    return f"customer-{rng.integers(_CUSTOMERS)}", [f"item-{what}" for what in items]


def _read(store: Store, engine: OnlineEngine, asked: list[tuple[str, list[str]]]) -> Vectors:
    parts = []
    with store.read() as txn:
        t_us = last_known_us(txn) + 1
        for who, items in asked:
            keys = {"customer": Texts.of([who]), "item": Texts.of(items)}
            spine = Spine(np.full(len(items), t_us, dtype=np.int64), keys)
            parts.append(engine.read(txn, FEATURES, spine).vectors())
    return np.concatenate(parts)


def _taught(x: Vectors, rng: np.random.Generator) -> LightGBMModel:
    """Trees taught by an order that some features make, others bend, and noise blurs."""
    known = np.nan_to_num(x.astype(np.float64))
    wide = (known - known.mean(0)) / (known.std(0) + 1e-9)
    taste = wide @ rng.normal(size=x.shape[1]) + 2 * np.sin(wide @ rng.normal(size=x.shape[1]))
    grade = (taste + rng.normal(scale=taste.std(), size=len(x))).reshape(-1, CANDIDATES)
    y = (grade >= np.quantile(grade, 0.9, axis=1, keepdims=True)).astype(np.float32).ravel()
    groups = [CANDIDATES] * (len(x) // CANDIDATES)
    settings = LightGBMSettings(n_trees=TREES, min_rows_in_leaf=10)
    return LightGBMModel(settings).fit(Dataset.of(x, y, groups=groups, feature_names=FEATURES), rng)


def _promote(home: Path, definition: Definition, model: LightGBMModel) -> None:
    registry = Registry(home / "registry")
    model.save(home / "model")
    names = list(model.feature_names)
    version = registry.register(
        home / "model",
        name=MODEL,
        feature_names=names,
        feature_hashes={name: definition.hashes[name] for name in names},
        metrics={},
        lineage={},
        created_us=SystemClock().now_us(),
    )
    registry.set_alias("champion", version.version, "the benchmark", SystemClock().now_us())
