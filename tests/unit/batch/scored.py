"""A small shop with filters, reranks and functions of a request's candidates, homes of it, and what its server answers."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

import sevenfold as sf
from sevenfold.clock import ManualClock
from sevenfold.models.dataset import Dataset
from sevenfold.models.lightgbm import LightGBMModel, LightGBMSettings
from sevenfold.models.logistic import LogisticModel
from sevenfold.models.protocol import Model
from sevenfold.models.rule import RuleModel
from sevenfold.registry.registry import Registry
from sevenfold.serving.definition import Definition
from sevenfold.serving.request import RecommendRequest
from sevenfold.serving.service import Service
from sevenfold.serving.slate_table import Slate, SlateTable, served_table, slates_of
from sevenfold.stores.kv import Store
from sevenfold.stores.open import open_store
from sevenfold.stores.tables import META, SLATES

HOUR = 3_600_000_000
DAY0 = 1_704_067_200_000_000
FEATURES = ["item__count_1d", "item__mean_pieces_7d", "user_x_item__count", "keen", "own_score"]


def shop(**serving: Any) -> sf.System:
    """The declaration; `serving` is given to its pipeline."""
    user, item = sf.Entity("user"), sf.Entity("item")
    sales = sf.Stream(
        "sales",
        time="sold_at",
        id="line",
        keys=[user, item],
        fields={"pieces": sf.Integer(low=1), "basket": sf.Id()},
    )

    @sf.on_demand
    def keen(item__count_1d, popular_share):
        return item__count_1d * popular_share

    @sf.on_demand
    def own_score(before_score):
        return before_score

    retrieve = [
        sf.BoughtBefore(sales, user, item, half_life="14 d", n=5, name="before"),
        sf.Popular(sales, item, half_life="14 d", n=8, name="popular"),
    ]
    return sf.System(
        name="shop",
        requirements=sf.Requirements(
            goal="customers find things",
            metric="recall@4",
            latency=sf.Latency(p99="1 s"),
            scale=sf.Scale(daily_users=1000, requests_per_user=2, items=500),
            guardrails=[sf.Guardrail("hit_rate@4", max_loss=0.02)],
            privacy=sf.Privacy(retention="730 d"),
        ),
        task=sf.Ranking(
            item=item,
            query=[user],
            label=sf.Label("taken", outcome=sales, request="basket", within="2 h"),
            k=4,
            baseline="what sold most of late",
        ),
        data=[sales],
        features=[
            sf.aggregate(
                item, sales, sf.count(windows=["1 d"]), sf.mean("pieces", windows=["7 d"])
            ),
            sf.aggregate([user, item], sales, sf.count(), sf.since_last()),
            keen,
            own_score,
        ],
        models=[sf.Rule(by="item__count_1d"), sf.LogisticRegression(features=FEATURES)],
        evaluation=sf.Evaluation(
            primary="ndcg@4",
            split=sf.Split(train="56 d", gap="1 d", valid="14 d"),
            slices=["user"],
        ),
        serving=sf.Pipeline(**({"retrieve": retrieve, "limit": 12} | serving)),
        monitoring=sf.Monitoring(),
    )


def sales_of(n: int, seed: int = 3, users: int = 9) -> list[dict[str, Any]]:
    """So many sales, one every ten minutes."""
    rng = np.random.default_rng(seed)
    return [
        {
            "line": f"l{i}",
            "user": f"u{rng.integers(users)}",
            "item": f"i{rng.integers(11)}",
            "pieces": int(rng.integers(1, 6)),
            "basket": f"b{i // 3}",
            "sold_at": str(np.datetime64(DAY0 + i * HOUR // 6, "us")) + "Z",
        }
        for i in range(n)
    ]


def known_at(i: int) -> int:
    """When the sale number `i` became known."""
    return DAY0 + i * HOUR // 6 + 1


def linear(system: sf.System, seed: int = 1) -> Model:
    """A model of all features, fitted to noise: the scores of no two rows are alike."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(200, len(FEATURES))).astype(np.float32)
    x[rng.random(x.shape) < 0.2] = np.nan
    y = (rng.random(200) < 0.4).astype(np.float32)
    rows = Dataset.of(x, y, groups=[10] * 20, feature_names=FEATURES)
    return LogisticModel().fit(rows, rng)


def trees(system: sf.System, seed: int = 1) -> Model:
    """Trees of all features, fitted to noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(scale=3.0, size=(400, len(FEATURES))).astype(np.float32)
    x[rng.random(x.shape) < 0.2] = np.nan
    y = (rng.random(400) < 0.4).astype(np.float32)
    rows = Dataset.of(x, y, groups=[10] * 40, feature_names=FEATURES)
    return LightGBMModel(LightGBMSettings(n_trees=20, min_rows_in_leaf=5)).fit(rows, rng)


def by_rule() -> Model:
    """A model that ties often."""
    return RuleModel("item__count_1d", None, ("item__count_1d",))


def promote(home: Path, system: sf.System, model: Model) -> int:
    """Register a model in a home and have it serve."""
    registry, hashes = Registry(home / "registry"), Definition(system).hashes
    folder = home / f"model{len(registry.versions())}"
    model.save(folder)
    made = registry.register(
        folder,
        name="test",
        feature_names=list(model.feature_names),
        feature_hashes={name: hashes[name] for name in model.feature_names},
        metrics={},
        lineage={},
        created_us=DAY0,
    )
    registry.set_alias("champion", made.version, "test", DAY0)
    return made.version


@contextmanager
def serving(
    home: Path, system: sf.System, replay: bool = True, now_us: int = DAY0
) -> Iterator[Service]:
    """A service over the store of a home, without a server."""
    store = open_store(f"lmdb:{home / 'store'}")
    service = Service(system, store, Registry(home / "registry"), ManualClock(now_us), replay)
    try:
        yield service
    finally:
        service.close()
        store.close()


def fill(home: Path, system: sf.System, rows: Sequence[dict[str, Any]], first: int = 0) -> None:
    """Have a home take sales in, each as it became known."""
    home.mkdir(exist_ok=True)
    with serving(home, system) as service:
        for i, row in enumerate(rows, start=first):
            assert service.accept("sales", [row], known_at(i)).events == 1


def answers(
    home: Path, system: sf.System, users: Sequence[str], t_us: int, k: int | None = None
) -> dict[str, tuple[list[str], bytes, bytes, str]]:
    """What the online path answers each at an instant: items, scores, sources, rung."""
    found = {}
    with serving(home, system) as service:
        for user in users:
            request = RecommendRequest(str(uuid4()), {"user": user}, k, t_us)
            made, _ = service.recommend(request)
            rows = made.shown_rows()
            sources = made.source_masks()[rows].tobytes()
            found[user] = made.slate(), made.scores, sources, made.rung
    return found


@contextmanager
def opened(home: Path) -> Iterator[Store]:
    """The store of a home."""
    store = open_store(f"lmdb:{home / 'store'}")
    try:
        yield store
    finally:
        store.close()


def slates(home: Path) -> tuple[SlateTable, dict[str, Slate]]:
    """The table that is served and its slates, by user."""
    with opened(home) as store:
        with store.read() as txn:
            table = served_table(txn)
        assert table is not None
        return table, {slate.keys["user"]: slate for slate in slates_of(store, table.number)}


def left_over(home: Path) -> list[bytes]:
    """What a store holds of tables that are not served."""
    with opened(home) as store, store.read() as txn:
        table = served_table(txn)
        head = b"" if table is None else table.number.to_bytes(8, "big")
        rows = [key for key, _ in txn.scan(SLATES) if table is None or not key.startswith(head)]
        notes = [key for key, _ in txn.scan(META, b"slates/", b"slates0") if key != b"slates/last"]
        return rows + notes
