"""A stall as a user would declare it, served by a real process."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sevenfold.loop.client import Client
from sevenfold.loop.server_process import ServerProcess

STALL = """
import sevenfold as sf

customer, item = sf.Entity("customer"), sf.Entity("item")
sales = sf.Stream(
    "sales",
    time="sold_at",
    id="line",
    keys=[customer, item],
    fields={"pieces": sf.Integer(low=1), "price": sf.Number(unit="GBP", low=0.0), "basket": sf.Id()},
    timezone="UTC",
)

system = sf.System(
    name="stall",
    requirements=sf.Requirements(
        goal="customers find their tea",
        metric="recall@10",
        latency=sf.Latency(p99="1 h"),
        scale=sf.Scale(daily_users=1000, requests_per_user=2, items=500),
        guardrails=[sf.Guardrail("hit_rate@10", max_loss=0.02)],
        privacy=sf.Privacy(retention="730 d"),
    ),
    task=sf.Ranking(
        item=item,
        query=[customer],
        label=sf.Label("taken", outcome=sales, request="basket", within="2 h"),
        k=10,
        baseline="what sold most of late",
    ),
    data=[sales],
    features=[
        sf.aggregate(item, sales, sf.count(windows=["1 h", "7 d"]), sf.sum("price", windows=["7 d"])),
        sf.aggregate(item, sales, sf.decayed("pieces", half_life="1 h"), name="item_late"),
        sf.aggregate([customer, item], sales, sf.count(), sf.mean("price"), sf.since_last()),
    ],
    models=[
        sf.Rule(by="item__count_7d", then="customer_x_item__count"),
        sf.LightGBM(
            features=[
                "item__count_1h",
                "item__sum_price_7d",
                "item_late__decayed_pieces_1h",
                "customer_x_item__count",
                "customer_x_item__mean_price",
                "customer_x_item__since_last",
            ]
        ),
    ],
    evaluation=sf.Evaluation(
        primary="ndcg@10", split=sf.Split(train="56 d", gap="1 d", valid="14 d"), slices=["customer"]
    ),
    serving=sf.Pipeline(
        retrieve=[
            sf.BoughtBefore(sales, customer, item, half_life="14 d", n=20),
            sf.Popular(sales, item, half_life="14 d", n=50),
        ],
        limit=60,
    ),
    monitoring=sf.Monitoring(),
)
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Known when the tests of this folder are asked for by name."""
    parser.addoption("--kills", type=int, default=6, help="how often the crash test kills a server")


@pytest.fixture(scope="session", autouse=True)
def importable(root: Path) -> Iterator[None]:
    """The library as it lies here, for processes too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(root / "src"))
        yield


@pytest.fixture(scope="session")
def stall(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the declaration. Its answers have time enough on any machine: none is a lower rung's for being late."""
    path = tmp_path_factory.mktemp("stall") / "stall.py"
    path.write_text(STALL, "utf-8")
    return path


@pytest.fixture(scope="session")
def connect() -> Iterator[Callable[[ServerProcess, Path], Client]]:
    """A function that gives a client of a server, with the token of its home."""
    clients = []

    def to(server: ServerProcess, home: Path) -> Client:
        clients.append(Client(server.port, (home / "token").read_text().strip(), timeout_s=120))
        return clients[-1]

    yield to
    for client in clients:
        client.close()
