"""Small random logs of sales, and ways to cut them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from sevenfold.types import EventBatch, Texts


def make_sales(
    events: Sequence[tuple[int, int, str | None, str | None, str | None]], stream: str = "sales"
) -> EventBatch:
    """Events of (known_us, event_us, customer, item, basket)."""
    known, at, customers, items, baskets = (
        (list(c) for c in zip(*events, strict=True)) if events else ([],) * 5
    )
    n = len(known)
    return EventBatch(
        stream,
        np.array(at, dtype=np.int64),
        np.array(known, dtype=np.int64),
        Texts.of([""] * n),
        {
            "customer": Texts.of(customers),
            "item": Texts.of(items),
            "country": Texts.of(
                [None if c is None else f"land{int(c[1:]) % 2}" for c in customers]
            ),
        },
        {"basket": Texts.of(baskets), "price": np.ones(n)},
    )


def make_random(seed: int, n: int, days: int = 1_000) -> EventBatch:
    """Sales of 4 customers and 9 items over `days` instants, some late, some without customer or item."""
    rng = np.random.default_rng(seed)
    known = np.sort(rng.integers(0, days, n))
    at = known - np.where(rng.random(n) < 0.3, rng.integers(0, 200, n), 0)
    drawn = zip(
        known.tolist(), at.tolist(), rng.integers(-1, 4, n), rng.integers(-1, 9, n), strict=True
    )
    return make_sales(
        [
            (
                k,
                e,
                None if c < 0 else f"c{c}",
                None if i < 0 else f"i{i}",
                f"b{k // 9}-{c}" if c >= 0 else None,
            )
            for k, e, c, i in drawn
        ]
    )


@pytest.fixture(scope="session")
def sales() -> Callable[..., EventBatch]:
    """Makes a batch of (known_us, event_us, customer, item, basket)."""
    return make_sales


@pytest.fixture(scope="session")
def random_sales() -> Callable[..., EventBatch]:
    """Makes a random batch from a seed and a number of events."""
    return make_random


@pytest.fixture(scope="session")
def pieces() -> Callable[[EventBatch, Sequence[int]], list[EventBatch]]:
    """Cuts a batch."""

    def cut(batch: EventBatch, cuts: Sequence[int]) -> list[EventBatch]:
        return [batch.take(rows) for rows in np.split(np.arange(len(batch)), sorted(cuts))]

    return cut
