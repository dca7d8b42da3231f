"""Popular items: a sum of powers of two over the log, however it is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.retrieval.catalogue import Catalogue
from sevenfold.retrieval.popular import Popular
from sevenfold.retrieval.protocol import Candidates, Query
from sevenfold.types import EventBatch

Batches = Callable[..., EventBatch]
Cut = Callable[[EventBatch, Sequence[int]], list[EventBatch]]


def popular(half_life_us: int, limit: int = 50, by: str | None = None) -> Popular:
    return Popular("popular", "sales", "item", half_life_us, limit, Catalogue(), by)


def expected(
    batch: EventBatch, half_life_us: int, t_us: int, group: str | None
) -> dict[int, float]:
    """Each item's decayed count by one walk over the log."""
    codes: dict[str, int] = {}
    found: dict[int, float] = {}
    rows = zip(batch.event_us.tolist(), batch.keys["item"], batch.keys["country"], strict=True)
    for at, item, country in rows:
        if item is not None:
            code = codes.setdefault(item, len(codes))
            if group in (None, country):
                found[code] = found.get(code, 0.0) + 2.0 ** (-(t_us - at) / half_life_us)
    return found


def scores(candidates: Candidates) -> dict[int, float]:
    return dict(zip(candidates.codes.tolist(), candidates.scores.tolist(), strict=True))


@given(
    st.integers(0, 1_000),
    st.integers(0, 120),
    st.sampled_from([None, "land0", "land1"]),
    st.integers(20, 2_000),
)
def test_scores_are_the_decayed_counts(
    random_sales: Batches, seed: int, n: int, group: str | None, half_life_us: int
) -> None:
    batch = random_sales(seed, n)
    generator = popular(half_life_us, by="country" if group else None)
    generator.observe(batch)
    found = generator.propose(Query({"country": group} if group else {}, 1_000))
    assert scores(found) == pytest.approx(expected(batch, half_life_us, 1_000, group), rel=1e-6)
    assert (np.diff(found.scores) <= 0).all()


@given(
    st.integers(0, 1_000), st.lists(st.integers(0, 100), max_size=6), st.sampled_from([1, 3, 50])
)
def test_cuts_of_the_log_do_not_change_a_bit(
    random_sales: Batches, pieces: Cut, seed: int, cuts: list[int], half_life_us: int
) -> None:
    """The half-lives of 1 and 3 are passed a thousand times: the reference moves more than once."""
    batch = random_sales(seed, 100)
    whole, cut = popular(half_life_us), popular(half_life_us)
    whole.observe(batch)
    for part in pieces(batch, cuts):
        cut.observe(part)
    for t_us in (1_000, 1_100):
        one, other = whole.propose(Query({}, t_us)), cut.propose(Query({}, t_us))
        assert one.codes.tolist() == other.codes.tolist()
        assert one.scores.tobytes() == other.scores.tobytes()


@pytest.mark.parametrize("seed", range(5))
def test_cuts_of_the_log_do_not_change_the_order_of_near_equals(
    sales: Batches, pieces: Cut, seed: int
) -> None:
    """Items of the same instants in other orders differ in the last bit at most; which of them leads must not move."""
    rng = np.random.default_rng(seed)
    instants = rng.integers(0, 1_000, 9).tolist()
    rows = [
        (1_000, at, None, f"i{i}", None)
        for i in range(60)
        for at in rng.permutation(instants).tolist()
    ]
    batch = sales(rows)
    whole, cut = popular(130), popular(130)
    whole.observe(batch)
    for part in pieces(batch, rng.integers(0, len(rows), 20).tolist()):
        cut.observe(part)
    query = Query({}, 1_001)
    assert whole.propose(query).codes.tolist() == cut.propose(query).codes.tolist()


@pytest.mark.parametrize("gap", [200, 257, 600, 5_000])
def test_old_weights_fade_across_moves_of_the_reference(sales: Batches, gap: int) -> None:
    generator = popular(10)
    generator.observe(sales([(5, 5, "c1", "old", None)] * 4))
    generator.observe(sales([(10 * gap, 10 * gap, "c1", "new", None)]))
    # A late event of long ago and one of now.
    generator.observe(
        sales(
            [(10 * gap + 1, 5, "c1", "old", None), (10 * gap + 1, 10 * gap - 20, "c1", "new", None)]
        )
    )
    found = scores(generator.propose(Query({}, 10 * gap)))
    assert found[1] == pytest.approx(1.25)
    assert found.get(0, 0.0) == pytest.approx(5 * 2.0 ** (0.5 - gap), abs=1e-44)


def test_equals_go_by_the_lower_code_and_the_limit_holds(sales: Batches) -> None:
    generator = popular(100, limit=3)
    generator.observe(sales([(5, 5, None, item, None) for item in "abcda"]))
    assert generator.propose(Query({}, 6)).codes.tolist() == [0, 1, 2]


def test_another_stream_and_an_unknown_group_give_nothing(sales: Batches) -> None:
    generator = popular(100, by="country")
    generator.observe(sales([(5, 5, "c1", "a", None)], stream="returns"))
    assert len(generator.propose(Query({"country": "land1"}, 6))) == 0
    generator.observe(sales([(5, 5, "c1", "a", None), (5, 5, None, "a", None)]))
    assert scores(generator.propose(Query({"country": "land1"}, 5))) == {0: 1.0}
    assert len(generator.propose(Query({"country": "nowhere"}, 6))) == 0
    assert len(generator.propose(Query({}, 6))) == 0


def test_a_catalogue_may_grow_past_any_size(sales: Batches) -> None:
    generator = popular(100, limit=5_000)
    for begin in (0, 900, 1_800, 2_700):
        generator.observe(sales([(5, 5, None, f"i{i}", None) for i in range(begin, begin + 900)]))
    found = generator.propose(Query({}, 5))
    assert found.codes.tolist() == list(range(3_600))
    assert set(found.scores.tolist()) == {1.0}
