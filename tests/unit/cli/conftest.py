"""A small whole system as a file, as a user would write it."""

from pathlib import Path

import pytest

TEA = """
import sevenfold as sf

customer, item = sf.Entity("customer"), sf.Entity("item")
sales = sf.Stream(
    "sales",
    time="sold_at",
    id="line",
    keys=[customer, item],
    fields={"pieces": sf.Integer(low=1), "basket": sf.Id()},
    timezone="UTC",
)

system = sf.System(
    name="tea",
    requirements=sf.Requirements(
        goal="customers find their tea",
        metric="recall@10",
        latency=sf.Latency(p99="100 ms"),
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
        sf.aggregate(item, sales, sf.count(windows=["1 h", "7 d"]), sf.sum("pieces", windows=["7 d"])),
        sf.aggregate([customer, item], sales, sf.count(), sf.since_last()),
    ],
    models=[
        sf.Rule(by="item__count_7d"),
        sf.LightGBM(features=["item__count_7d", "item__sum_pieces_7d", "customer_x_item__count"]),
    ],
    evaluation=sf.Evaluation(
        primary="ndcg@10",
        split=sf.Split(train="56 d", gap="1 d", valid="14 d"),
        slices=["customer"],
    ),
    serving=sf.Pipeline(
        retrieve=[sf.Popular(sales, item, half_life="14 d", n=100)],
        limit=100,
    ),
    monitoring=sf.Monitoring(),
)
"""


@pytest.fixture
def tea(tmp_path: Path) -> Path:
    """The file of a good system."""
    path = tmp_path / "tea.py"
    path.write_text(TEA, "utf-8")
    return path
