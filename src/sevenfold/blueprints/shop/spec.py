"""The shop as a system: at each basket a customer opens, twenty items they may want."""

from __future__ import annotations

import sevenfold as sf
from sevenfold.blueprints.shop.features import (
    FEATURES,
    MODEL_FEATURES,
    country,
    customer,
    item,
    lines,
)

__all__ = ["system"]

system = sf.System(
    name="shop",
    requirements=sf.Requirements(
        goal="customers find what they came for, and what they did not know they wanted",
        metric="revenue a basket",
        latency=sf.Latency(p99="100 ms"),
        scale=sf.Scale(daily_users=1_000_000, requests_per_user=2, items=5_305, peak=3, spike=10),
        guardrails=[sf.Guardrail("p99 latency"), sf.Guardrail("coverage@20", max_loss=0.5)],
        privacy=sf.Privacy(personal=["customer"], retention="800 d"),
    ),
    task=sf.Ranking(
        item=item,
        query=[customer, country],
        label=sf.Label("bought", outcome=lines, request="invoice", within="1 h"),
        k=20,
        baseline="what the customer took most of late: their own count, halved every 120 days",
    ),
    data=[lines],
    features=FEATURES,
    models=[
        sf.Rule(by="customer_x_item__decayed_120d", then="item__decayed_21d"),
        sf.LogisticRegression(features=MODEL_FEATURES),
        sf.LightGBM(
            features=MODEL_FEATURES,
            n_trees=120,
            learning_rate=0.12,
            n_leaves=31,
            min_rows_in_leaf=100,
            l2=5.0,
            feature_share=0.7,
            row_share=0.8,
            truncation=100,
            threads=2,
        ),
    ],
    evaluation=sf.Evaluation(
        primary="ndcg@20",
        also=["recall@20", "map@20", "mrr@20"],
        split=sf.Split(train="227 d", valid="14 d", gap="1 d"),
        slices=["country"],
    ),
    serving=sf.Pipeline(
        retrieve=[
            sf.BoughtBefore(lines, customer, item, half_life="120 d", n=200),
            sf.BoughtTogether(
                lines,
                customer,
                item,
                basket="invoice",
                half_life="45 d",
                n=100,
                recent_half_life="30 d",
                neighbours=100,
            ),
            sf.Popular(lines, item, half_life="30 d", n=60, by=country, name="popular_in_country"),
            sf.Popular(lines, item, half_life="7 d", n=60),
        ],
        limit=320,
    ),
    monitoring=sf.Monitoring(
        retrain=sf.Retrain(every="28 d", cooldown="14 d", first_after="56 d"),
    ),
)
