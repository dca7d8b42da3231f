"""A stall declared in Python, and its service over a store in memory with a clock that tests move."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import sevenfold as sf
from sevenfold.clock import ManualClock
from sevenfold.models.rule import RuleModel
from sevenfold.registry.registry import Registry
from sevenfold.serving.app import App
from sevenfold.serving.guard import Guard
from sevenfold.serving.limits import Limits
from sevenfold.serving.service import Service
from sevenfold.serving.site import Site
from sevenfold.serving.tokens import Tokens
from sevenfold.stores.kv import Store
from sevenfold.stores.open import open_store

START_US = 1_700_000_000_000_000
TOKEN = "the-token"


def declare() -> sf.System:
    """The stall. Its answers have time for the best, however slow the machine is; a test of lateness gives them less."""
    customer, item = sf.Entity("customer"), sf.Entity("item")
    sales = sf.Stream(
        "sales",
        time="sold_at",
        id="line",
        keys=[customer, item],
        fields={"pieces": sf.Integer(low=1), "basket": sf.Id()},
        timezone="UTC",
    )
    return sf.System(
        name="stall",
        requirements=sf.Requirements(
            goal="customers find their tea",
            metric="recall@3",
            latency=sf.Latency(p99="1 h"),
            scale=sf.Scale(daily_users=1000, requests_per_user=2, items=500),
            guardrails=[sf.Guardrail("hit_rate@10", max_loss=0.02)],
            privacy=sf.Privacy(retention="730 d"),
        ),
        task=sf.Ranking(
            item=item,
            query=[customer],
            label=sf.Label("taken", outcome=sales, request="basket", within="2 h"),
            k=3,
            baseline="what sold most of late",
        ),
        data=[sales],
        features=[
            sf.aggregate(item, sales, sf.count(windows=["7 d"]), sf.sum("pieces")),
            sf.aggregate([customer, item], sales, sf.count(), sf.since_last()),
        ],
        models=[
            sf.Rule(by="item__count_7d"),
            sf.LogisticRegression(features=["item__count_7d", "item__sum_pieces"]),
        ],
        evaluation=sf.Evaluation(
            primary="ndcg@3",
            split=sf.Split(train="56 d", gap="1 d", valid="14 d"),
            slices=["customer"],
        ),
        serving=sf.Pipeline(retrieve=[sf.Popular(sales, item, half_life="14 d", n=50)], limit=60),
        monitoring=sf.Monitoring(),
    )


def sold(name: str, item: str, at_us: int = START_US, **more: Any) -> dict[str, Any]:
    """A row of the stream `sales`."""
    row = {
        "line": name,
        "sold_at": str(np.datetime64(at_us, "us")),
        "customer": "ada",
        "item": item,
    }
    return {**row, "pieces": 1, "basket": "b", **more}


@dataclass
class Stall:
    """The service with everything that it stands on."""

    service: Service
    app: App
    store: Store
    registry: Registry
    clock: ManualClock
    folder: Path

    def call(self, method: str, path: str, **more: Any) -> httpx.Response:
        """The answer of the application to one request, through no socket."""

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=True)
            async with httpx.AsyncClient(transport=transport, base_url="http://stall") as client:
                return await client.request(method, path, **more)

        return asyncio.run(ask())

    def get(self, path: str) -> httpx.Response:
        """The answer to a GET, with the token."""
        return self.call("GET", path, headers={"Authorization": f"Bearer {TOKEN}"})

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        """The answer to a POST of JSON, with the token."""
        return self.call(
            "POST", path, json=body, headers={"Authorization": f"Bearer {TOKEN}"} | headers
        )

    def sell(self, *rows: dict[str, Any]) -> dict[str, Any]:
        """What became of rows that all must be understood."""
        response = self.post("/v1/events", {"stream": "sales", "events": list(rows)})
        assert response.status_code == 200, response.text
        return response.json()

    def promote(self, model: Any, names: list[str], hashes: dict[str, str] | None = None) -> int:
        """The version under which a model is registered and made the champion."""
        version = self.register(model, names, hashes)
        self.registry.set_alias("champion", version, "test", START_US)
        return version

    def register(self, model: Any, names: list[str], hashes: dict[str, str] | None = None) -> int:
        """The version under which a model is registered."""
        folder = self.folder / f"model{len(self.registry.versions())}"
        model.save(folder)
        known = hashes or self.service.plan.definition_hashes(names)
        made = self.registry.register(
            folder,
            name="test",
            feature_names=names,
            feature_hashes={name: known[name] for name in names},
            metrics={},
            lineage={},
            created_us=START_US,
        )
        return made.version


@pytest.fixture
def make_stall(tmp_path: Path) -> Callable[..., Stall]:
    """A function that makes a stall; a second one has the store of the first."""
    store = open_store("memory:")
    clock = ManualClock(START_US)

    def make(replay: bool = False, system: sf.System | None = None, **more: Any) -> Stall:
        registry = Registry(tmp_path / "registry")
        service = Service(system or declare(), store, registry, clock, replay)
        gated = more.pop("admission", True)
        site = Site(service, lambda: service.changing.status, gated, version="0.0.0")
        guard = Guard(Tokens(TOKEN), {"predict", "metrics"})
        app = App(site, guard, Limits(**more))
        return Stall(service, app, store, registry, clock, tmp_path)

    return make


@pytest.fixture
def stall(make_stall: Callable[..., Stall]) -> Stall:
    """A live stall that has sold three of a, two of b and one of c."""
    made = make_stall()
    rows = [
        sold(f"{item}{i}", item) for item, n in (("a", 3), ("b", 2), ("c", 1)) for i in range(n)
    ]
    made.sell(*rows)
    made.clock.advance(1_000_000)
    return made


@pytest.fixture
def sale() -> Callable[..., dict[str, Any]]:
    """A function that gives a row of sales."""
    return sold


@pytest.fixture
def anew() -> Callable[[], sf.System]:
    """A function that gives a stall's declaration, new each time."""
    return declare


@pytest.fixture
def rule() -> RuleModel:
    """A model that ranks by the pieces sold ever."""
    return RuleModel("item__sum_pieces", None, ("item__sum_pieces",))
