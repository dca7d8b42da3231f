"""Forty days of a small shop in which customers like what they bought before."""

import numpy as np

from sevenfold.loop.world import Requests, World
from sevenfold.types import Texts

START_US = 1_700_000_000_000_000
DAY_US = 86_400_000_000


def tiny_world(days: int = 40, customers: int = 40, items: int = 30, seed: int = 3) -> World:
    """Each day half of the customers open a basket of some favourites and some random items."""
    rng = np.random.default_rng(seed)
    likes = {c: rng.choice(items, 5, replace=False) for c in range(customers)}
    rows, requests = [], []
    for day in range(days):
        for c in rng.permutation(customers)[: customers // 2]:
            opens = START_US + day * DAY_US + int(rng.integers(0, DAY_US - 10_000_000))
            basket = f"b{len(requests)}"
            requests.append((opens - 1_000_000, basket, f"c{c}"))
            chosen = {*rng.choice(likes[c], 3, replace=False), *rng.choice(items, 2)}
            rows += [(opens, f"{basket}-{i}", f"c{c}", f"i{i}", basket) for i in sorted(chosen)]
    rows.sort()
    requests.sort()
    at = np.array([row[0] for row in rows], dtype=np.int64)
    columns = {
        "at": at,
        "line_id": Texts.of([row[1] for row in rows]),
        "customer": Texts.of([row[2] for row in rows]),
        "item": Texts.of([row[3] for row in rows]),
        "basket": Texts.of([row[4] for row in rows]),
        "quantity": rng.integers(1, 9, len(rows)),
        "price": rng.uniform(0.5, 9, len(rows)).round(2),
    }
    t_us = np.array([row[0] for row in requests], dtype=np.int64)
    ids = Texts.of([row[1] for row in requests])
    return World(
        "lines", columns, at, Requests(t_us, ids, {"customer": Texts.of([r[2] for r in requests])})
    )
