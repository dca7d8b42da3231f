"""A small shop for end-to-end tests: two entities, three views, a rule, a linear model and trees."""

import sevenfold as sf

customer, item = sf.Entity("customer"), sf.Entity("item")
lines = sf.Stream(
    "lines",
    time="at",
    id="line_id",
    keys=[customer, item],
    fields={"basket": sf.Id(), "quantity": sf.Integer(low=1), "price": sf.Number(low=0)},
)
FEATURES = [
    "customer__count_7d",
    "item__decayed_3d",
    "item__sum_quantity_7d",
    "customer_x_item__count",
    "customer_x_item__since_last",
    "customer_x_item__last_price",
    "liking",
]


@sf.on_demand
def liking(customer_x_item__count, customer__count_7d):
    """The share of the customer's week that was this item."""
    return customer_x_item__count / (customer__count_7d + 1)


system = sf.System(
    name="tiny",
    requirements=sf.Requirements(
        goal="test",
        metric="bought",
        latency=sf.Latency(p99="1 s"),
        scale=sf.Scale(daily_users=10, requests_per_user=1, items=30),
        guardrails=[sf.Guardrail("p99 latency")],
        privacy=sf.Privacy(personal=["customer"], retention="90 d"),
    ),
    task=sf.Ranking(
        item=item,
        query=[customer],
        label=sf.Label("bought", outcome=lines, request="basket", within="1 h"),
        k=5,
        baseline="what was taken before",
    ),
    data=[lines],
    features=[
        sf.aggregate(customer, lines, sf.count(windows=["7 d"]), sf.mean("price", windows=["1 h"])),
        sf.aggregate(item, lines, sf.decayed(half_life="3 d"), sf.sum("quantity", windows=["7 d"])),
        sf.aggregate(
            [customer, item],
            lines,
            sf.count(),
            sf.since_last(),
            sf.last("price"),
            sf.distinct("basket"),
        ),
        liking,
    ],
    models=[
        sf.Rule(by="customer_x_item__count", then="item__decayed_3d"),
        sf.LogisticRegression(features=FEATURES),
        sf.LightGBM(features=FEATURES, n_trees=10, min_rows_in_leaf=5),
    ],
    evaluation=sf.Evaluation(
        primary="ndcg@5",
        split=sf.Split(train="60 d", valid="3 d", gap="1 d"),
        slices=["customer"],
    ),
    serving=sf.Pipeline(
        retrieve=[
            sf.BoughtBefore(lines, customer, item, half_life="10 d", n=20),
            sf.BoughtTogether(
                lines, customer, item, basket="basket", half_life="10 d", n=20, refresh="1 d"
            ),
            sf.Popular(lines, item, half_life="3 d", n=20),
        ],
        limit=30,
    ),
    monitoring=sf.Monitoring(),
)
