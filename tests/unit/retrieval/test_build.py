"""The declared generators, made ready."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

import sevenfold as sf
from sevenfold.retrieval.build import Retrieval, build_retrieval
from sevenfold.retrieval.catalogue import Catalogue
from sevenfold.retrieval.protocol import Query
from sevenfold.spec import retrieve
from sevenfold.types import EventBatch, Texts

customer, item, country = sf.Entity("customer"), sf.Entity("item"), sf.Entity("country")
SALES = sf.Stream("sales", time="at", keys=[customer, item, country], fields={"basket": sf.Id()})
DECLARED: list[retrieve.Retriever] = [
    retrieve.BoughtBefore(SALES, customer, item, half_life="90 us", n=5, name="own"),
    retrieve.BoughtTogether(
        SALES, customer, item, "basket", "250 us", 5, refresh="100 us", name="together"
    ),
    retrieve.Popular(SALES, item, half_life="50 us", n=5, by=country, name="near"),
    retrieve.Popular(SALES, item, half_life="200 us", n=5, name="all"),
]


def build(limit: int = 12) -> Retrieval:
    return build_retrieval(DECLARED, limit)


def test_generators_keep_their_order_and_share_one_history() -> None:
    retrieval = build()
    assert retrieval.names == ["own", "together", "near", "all"]
    assert len(retrieval.histories) == 1
    other = [
        *DECLARED,
        retrieve.BoughtBefore(SALES, customer, item, half_life="10 us", n=5, name="quick"),
    ]
    assert len(build_retrieval(other, 12).histories) == 2
    assert len(build_retrieval(DECLARED[1:], 12).histories) == 1


def test_every_generator_proposes_in_its_own_column(
    random_sales: Callable[..., EventBatch],
) -> None:
    retrieval = build()
    retrieval.observe(random_sales(3, 150))
    query = Query({"customer": "c1", "country": "land1"}, 1_000)
    fused = retrieval.candidates(query)
    assert len(fused) == min(12, len(retrieval.catalogue))
    for g, generator in enumerate(retrieval.generators):
        alone = generator.propose(query)
        assert len(alone) > 0
        assert set(fused.codes[fused.sources >> g & 1 == 1].tolist()) == set(alone.codes.tolist())


def test_a_replay_of_other_batches_gives_the_same_candidates(
    random_sales: Callable[..., EventBatch],
    pieces: Callable[[EventBatch, Sequence[int]], list[EventBatch]],
) -> None:
    one, other = build(), build()
    one.observe(random_sales(5, 200))
    for part in pieces(random_sales(5, 200), range(0, 200, 7)):
        other.observe(part)
    for who in ("c0", "c3", "new"):
        query = Query({"customer": who, "country": "land0"}, 1_000)
        a, b = one.candidates(query), other.candidates(query)
        for name in ("codes", "sources", "scores"):
            assert getattr(a, name).tobytes() == getattr(b, name).tobytes()


def test_a_new_customer_gets_what_is_popular(random_sales: Callable[..., EventBatch]) -> None:
    retrieval = build()
    retrieval.observe(random_sales(3, 150))
    fused = retrieval.candidates(Query({"customer": "new"}, 1_000))
    assert set(fused.sources.tolist()) == {0b1000}
    assert len(build().candidates(Query({"customer": "c1"}, 1_000))) == 0


def test_a_catalogue_numbers_items_as_they_are_first_seen() -> None:
    catalogue = Catalogue()
    assert catalogue.codes(Texts.of(["pot", None, "cup", "pot", ""])).tolist() == [0, -1, 1, 0, 2]
    assert catalogue.codes(Texts.of(["cup", "tea"])).tolist() == [1, 3]
    assert catalogue.find(["tea", "unknown", ""]).tolist() == [3, -1, 2]
    assert catalogue.names(np.array([3, 0])) == ["tea", "pot"]
    assert len(catalogue) == 4
