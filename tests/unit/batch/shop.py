"""A small system with keys, a pair of keys, and a function of a request field; and events of it."""

import numpy as np

import sevenfold as sf

user, item = sf.Entity("user"), sf.Entity("item")
sales = sf.Stream(
    "sales",
    time="sold_at",
    id="line",
    keys=[user, item],
    fields={"pieces": sf.Integer(low=1), "basket": sf.Id()},
)


@sf.on_demand
def worth(item__count_1d, popular_score):
    """Null where the score is."""
    return item__count_1d * popular_score


system = sf.System(
    name="shop",
    requirements=sf.Requirements(
        goal="customers find things",
        metric="recall@10",
        latency=sf.Latency(p99="100 ms"),
        scale=sf.Scale(daily_users=1000, requests_per_user=2, items=500),
        guardrails=[sf.Guardrail("hit_rate@10", max_loss=0.02)],
        privacy=sf.Privacy(retention="730 d"),
    ),
    task=sf.Ranking(
        item=item,
        query=[user],
        label=sf.Label("taken", outcome=sales, request="basket", within="2 h"),
        k=10,
        baseline="what sold most of late",
    ),
    data=[sales],
    features=[
        sf.aggregate(item, sales, sf.count(windows=["1 d"]), sf.mean("pieces", windows=["7 d"])),
        sf.aggregate(user, sales, sf.last("pieces"), sf.since_last()),
        sf.aggregate([user, item], sales, sf.count()),
        worth,
    ],
    models=[sf.Rule(by="item__count_1d"), sf.LightGBM(features=["item__count_1d"])],
    evaluation=sf.Evaluation(
        primary="ndcg@10",
        split=sf.Split(train="56 d", gap="1 d", valid="14 d"),
        slices=["user"],
    ),
    serving=sf.Pipeline(
        retrieve=[sf.Popular(sales, item, half_life="14 d", n=100)],
        limit=100,
    ),
    monitoring=sf.Monitoring(),
)

HOUR = 3_600_000_000
DAY0 = 1_704_067_200_000_000


def some_sales(n: int) -> dict[str, np.ndarray]:
    """So many sales, one an hour."""
    i = np.arange(n)
    return {
        "line": np.array([f"l{k}" for k in i]),
        "user": np.array([f"u{k % 7}" for k in i]),
        "item": i % 5,
        "pieces": 1 + i % 3,
        "basket": np.array([f"b{k // 3}" for k in i]),
        "sold_at": DAY0 + i * HOUR,
    }


def some_rows(n: int, seed: int = 3) -> dict[str, list]:
    """So many rows to fill: known and unknown keys, in no order of time, with columns of their own."""
    rng = np.random.default_rng(seed)
    return {
        "t": (DAY0 + rng.integers(0, 300, n) * HOUR + rng.integers(0, 2, n)).tolist(),
        "user": [f"u{k}" for k in rng.integers(0, 9, n)],
        "item": [str(k) for k in rng.integers(0, 7, n)],
        "popular_score": [None if k == 3 else float(k) for k in rng.integers(0, 9, n)],
        "note": [None if k == 1 else f"é{k}" for k in rng.integers(0, 4, n)],
    }
