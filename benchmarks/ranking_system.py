"""The system that the benchmark of the server asks: 40 features of an item, of a customer and of both, five hundred trees."""

import sevenfold as sf

WINDOWS = ["1 h", "1 d", "7 d", "30 d"]

customer, item = sf.Entity("customer"), sf.Entity("item")
sales = sf.Stream(
    "sales",
    time="at",
    id="line",
    keys=[customer, item],
    fields={"price": sf.Number(low=0), "basket": sf.Id()},
    timezone="UTC",
)
views = [
    sf.aggregate(
        item,
        sales,
        sf.count(windows=WINDOWS),
        *(kind("price", windows=WINDOWS) for kind in (sf.sum, sf.mean, sf.min, sf.max)),
        sf.since_last(),
    ),
    sf.aggregate(
        customer,
        sales,
        sf.count(windows=WINDOWS),
        sf.sum("price", windows=WINDOWS),
        sf.since_last(),
    ),
    sf.aggregate(
        [customer, item],
        sales,
        sf.count(windows=WINDOWS),
        sf.sum("price", windows=WINDOWS),
        sf.since_last(),
        sf.last("price"),
    ),
]
FEATURES = [
    *(
        f"item__{kind}_{window.replace(' ', '')}"
        for kind in ("count", "sum_price", "mean_price", "min_price", "max_price")
        for window in WINDOWS
    ),
    "item__since_last",
    *(
        f"{name}__{kind}_{window.replace(' ', '')}"
        for name in ("customer", "customer_x_item")
        for kind in ("count", "sum_price")
        for window in WINDOWS
    ),
    *("customer__since_last", "customer_x_item__since_last", "customer_x_item__last_price"),
]

system = sf.System(
    name="ranking",
    requirements=sf.Requirements(
        goal="a figure",
        metric="taken",
        latency=sf.Latency(p99="1 s"),
        scale=sf.Scale(daily_users=1000, requests_per_user=1, items=1000),
        guardrails=[sf.Guardrail("p99 latency")],
        privacy=sf.Privacy(personal=["customer"], retention="90 d"),
    ),
    task=sf.Ranking(
        item=item,
        query=[customer],
        label=sf.Label("taken", outcome=sales, request="basket", within="1 h"),
        k=20,
        baseline="what sold most of late",
    ),
    data=[sales],
    features=views,
    models=[
        sf.Rule(by="item__count_7d"),
        sf.LightGBM(features=FEATURES, n_trees=500, learning_rate=0.05),
    ],
    evaluation=sf.Evaluation(
        primary="ndcg@20",
        split=sf.Split(train="20 d", valid="3 d", gap="1 d"),
        slices=["customer"],
    ),
    serving=sf.Pipeline(retrieve=[sf.Popular(sales, item, half_life="7 d", n=100)], limit=100),
    monitoring=sf.Monitoring(),
)
