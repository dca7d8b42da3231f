"""What a customer took, and the items taken most."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.retrieval.catalogue import Catalogue
from sevenfold.retrieval.history import BoughtBefore, History
from sevenfold.retrieval.protocol import Query
from sevenfold.types import EventBatch

Batches = Callable[..., EventBatch]
Cut = Callable[[EventBatch, Sequence[int]], list[EventBatch]]
T_US = 1_000


def expected(batch: EventBatch, customer: str, half_life_us: int) -> dict[int, tuple[int, float]]:
    """Newest instant and decayed count of each item of a customer, by one walk over the log."""
    codes: dict[str, int] = {}
    found: dict[int, tuple[int, float]] = {}
    rows = zip(batch.event_us.tolist(), batch.keys["customer"], batch.keys["item"], strict=True)
    for at, who, item in rows:
        if item is None:
            continue
        code = codes.setdefault(item, len(codes))
        if who == customer:
            newest, count = found.get(code, (at, 0.0))
            found[code] = max(newest, at), count + 2.0 ** (-(T_US - at) / half_life_us)
    return found


@given(st.integers(0, 1_000), st.integers(0, 100), st.integers(50, 500))
def test_a_past_is_what_the_log_says(
    random_sales: Batches, seed: int, n: int, half_life_us: int
) -> None:
    batch = random_sales(seed, n)
    history = History("sales", "customer", "item", half_life_us, Catalogue())
    history.observe(batch)
    own = BoughtBefore("own", history, 3)
    for customer in ("c0", "c3"):
        wanted = expected(batch, customer, half_life_us)
        past = history.past(customer, T_US)
        newest = dict(zip(past.codes.tolist(), past.newest_us.tolist(), strict=True))
        counts = dict(zip(past.codes.tolist(), past.counts.tolist(), strict=True))
        assert newest == {code: at for code, (at, _) in wanted.items()}
        assert counts == pytest.approx({code: count for code, (_, count) in wanted.items()})
        found = own.propose(Query({"customer": customer}, T_US))
        ranked = sorted(counts, key=lambda code: (-counts[code], code))
        assert found.codes.tolist() == ranked[:3]
        assert found.scores.tolist() == pytest.approx(
            [counts[code] for code in ranked[:3]], rel=1e-6
        )


@given(st.integers(0, 1_000), st.lists(st.integers(0, 60), max_size=5))
def test_cuts_of_the_log_do_not_change_a_bit(
    random_sales: Batches, pieces: Cut, seed: int, cuts: list[int]
) -> None:
    batch = random_sales(seed, 60)
    whole, cut = (History("sales", "customer", "item", 90, Catalogue()) for _ in range(2))
    whole.observe(batch)
    for part in pieces(batch, cuts):
        cut.observe(part)
    for customer in ("c0", "c1", "c2", "c3"):
        one, other = whole.past(customer, T_US), cut.past(customer, T_US)
        for name in ("codes", "newest_us", "counts"):
            assert getattr(one, name).tobytes() == getattr(other, name).tobytes()


def test_a_stranger_has_no_past(sales: Batches) -> None:
    history = History("sales", "customer", "item", 90, Catalogue())
    history.observe(
        sales([(1, 1, "c1", "a", None), (2, 2, None, "b", None), (3, 3, "c1", None, None)])
    )
    history.observe(sales([(4, 4, "c9", "a", None)], stream="returns"))
    own = BoughtBefore("own", history, 9)
    assert own.propose(Query({"customer": "c1"}, 10)).codes.tolist() == [0]
    for keys in ({"customer": "c9"}, {"customer": "new"}, {}):
        assert len(own.propose(Query(keys, 10))) == 0
