"""Items bought together: a matrix of shared baskets, made anew when an event passes an instant of renewal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.retrieval.catalogue import Catalogue
from sevenfold.retrieval.history import History
from sevenfold.retrieval.protocol import Candidates, Query
from sevenfold.retrieval.together import BoughtTogether, TogetherSettings
from sevenfold.types import EventBatch

Batches = Callable[..., EventBatch]
Cut = Callable[[EventBatch, Sequence[int]], list[EventBatch]]
SETTINGS = TogetherSettings(refresh_us=100, half_life_us=250, query_half_life_us=300, recent=4)


class Both:
    """The generator and its history, fed together."""

    def __init__(self, settings: TogetherSettings = SETTINGS, limit: int = 50) -> None:
        self.catalogue = Catalogue()
        self.history = History("sales", "customer", "item", 90, self.catalogue)
        self.generator = BoughtTogether(
            "together", "basket", "item", limit, self.history, self.catalogue, settings
        )

    def observe(self, *batches: EventBatch) -> Both:
        for batch in batches:
            self.history.observe(batch)
            self.generator.observe(batch)
        return self

    def propose(self, customer: str, t_us: int) -> Candidates:
        return self.generator.propose(Query({"customer": customer}, t_us))

    def named(self, customer: str, t_us: int) -> dict[str, float]:
        found = self.propose(customer, t_us)
        return dict(zip(self.catalogue.names(found.codes), found.scores.tolist(), strict=True))


Rows = list[tuple[int, int, str | None, str | None, str | None]]


def rows_of(batch: EventBatch) -> Rows:
    fields = batch.fields["basket"].to_list()  # type: ignore[union-attr]
    columns = (batch.keys["customer"].to_list(), batch.keys["item"].to_list(), fields)
    return list(zip(batch.known_us.tolist(), batch.event_us.tolist(), *columns, strict=True))


def matrix(rows: Rows, s: TogetherSettings) -> dict[tuple[str, str], float]:
    """The scores of all pairs by dictionaries, from events renewal by renewal."""
    pairs: dict[tuple[str, str], float] = {}
    counts: dict[str, float] = {}
    renewals = sorted({row[0] // s.refresh_us for row in rows})
    for number in range(renewals[0], renewals[-1]) if rows else ():
        fade = 2.0 ** (-s.refresh_us / s.half_life_us)
        pairs = {pair: x * fade for pair, x in pairs.items()}
        counts = {item: x * fade for item, x in counts.items()}
        baskets: dict[str, set[str]] = {}
        for known, _, _, item, basket in rows:
            if known // s.refresh_us == number and item is not None and basket is not None:
                baskets.setdefault(basket, set()).add(item)
        for items in baskets.values():
            if len(items) <= s.largest_basket:
                for item in items:
                    counts[item] = counts.get(item, 0.0) + len(items) ** -0.5
                for pair in permutations(items, 2):
                    pairs[pair] = pairs.get(pair, 0.0) + len(items) ** -0.5
    return {
        (i, j): x / ((counts[i] + s.shrink) ** (1 - s.alpha) * (counts[j] + s.shrink) ** s.alpha)
        for (i, j), x in pairs.items()
    }


def expected(
    rows: Rows, customer: str, t_us: int, s: TogetherSettings, order: list[str]
) -> dict[str, float]:
    newest: dict[str, int] = {}
    for _, at, who, item, _ in rows:
        if who == customer and item is not None:
            newest[item] = max(at, newest.get(item, at))
    scores = matrix(rows, s)
    # The items of the matrix are those of the renewal; a newer one has no row and takes no place.
    last = max(known for known, *_ in rows) // s.refresh_us * s.refresh_us
    there = {item for known, _, _, item, _ in rows if known < last}
    latest = sorted(newest.keys() & there, key=lambda item: (-newest[item], order.index(item)))[
        : s.recent
    ]
    found: dict[str, float] = {}
    for i in latest:
        weight = 2.0 ** (-(t_us - newest[i]) / s.query_half_life_us)
        for (a, j), x in scores.items():
            if a == i:
                found[j] = found.get(j, 0.0) + weight * x
    return found


@given(
    st.integers(0, 1_000),
    st.integers(1, 150),
    st.sampled_from([0.0, 0.5, 0.8]),
    st.sampled_from([2, 300]),
)
def test_proposals_are_what_dictionaries_say(
    random_sales: Batches, seed: int, n: int, alpha: float, largest: int
) -> None:
    settings = replace(SETTINGS, alpha=alpha, largest_basket=largest)
    batch = random_sales(seed, n)
    both = Both(settings).observe(batch)
    order = list(dict.fromkeys(item for item in batch.keys["item"] if item is not None))
    for customer in ("c0", "c2"):
        wanted = expected(rows_of(batch), customer, 1_050, settings, order)
        assert both.named(customer, 1_050) == pytest.approx(wanted, rel=1e-4)


@given(st.integers(0, 1_000), st.lists(st.integers(0, 150), max_size=8))
def test_cuts_of_the_log_do_not_change_a_bit(
    random_sales: Batches, pieces: Cut, seed: int, cuts: list[int]
) -> None:
    batch = random_sales(seed, 150)
    whole, cut = Both().observe(batch), Both().observe(*pieces(batch, cuts))
    for customer in ("c0", "c1", "c2", "c3"):
        one, other = whole.propose(customer, 1_050), cut.propose(customer, 1_050)
        assert one.codes.tolist() == other.codes.tolist()
        assert one.scores.tobytes() == other.scores.tobytes()


def test_items_newer_than_the_matrix_take_no_place_among_the_latest(sales: Batches) -> None:
    """Whether they come in the batch of the renewal or after it."""
    renewal: Rows = [(100, 100, None, "tea", None), (101, 101, "c1", "new", "b2")]
    for batches in ([BASKET + renewal], [BASKET, renewal], [BASKET, renewal[:1], renewal[1:]]):
        both = Both(replace(SETTINGS, recent=1)).observe(*map(sales, batches))
        assert len(both.named("c1", 150)) == 1


def test_asking_between_events_does_not_change_what_comes(
    random_sales: Batches, pieces: Cut
) -> None:
    batch = random_sales(7, 150)
    asked = Both()
    for part in pieces(batch, range(0, 150, 10)):
        asked.observe(part).propose("c0", 2_000)
    assert asked.named("c1", 1_050) == Both().observe(batch).named("c1", 1_050)


BASKET: Rows = [(10, 10, "c1", "tea", "b1"), (10, 10, "c1", "pot", "b1")]


@pytest.mark.parametrize(
    ("known_us", "is_renewed"), [(99, False), (100, True), (101, True), (950, True)]
)
def test_a_renewal_comes_with_the_first_event_at_its_instant(
    sales: Batches, known_us: int, is_renewed: bool
) -> None:
    both = Both().observe(sales(BASKET))
    assert both.named("c1", 2_000) == {}
    both.observe(sales([(known_us, known_us, "c2", "cup", "b2")]))
    assert bool(both.named("c1", 2_000)) == is_renewed


def test_what_renews_is_itself_not_in_the_matrix_yet(sales: Batches) -> None:
    both = Both().observe(
        sales(BASKET), sales([(100, 100, "c2", "cup", "b2"), (100, 100, "c2", "tea", "b2")])
    )
    assert both.named("c2", 150).keys() == {"pot"}
    both.observe(sales([(200, 200, None, "tea", None)]))
    assert both.named("c2", 250).keys() == {"pot", "cup", "tea"}


def test_renewals_without_baskets_still_fade(sales: Batches) -> None:
    settings = replace(SETTINGS, shrink=0.0, query_half_life_us=10**9)
    soon, late = Both(settings), Both(replace(settings, shrink=1.0))
    for both in (soon, late):
        both.observe(sales(BASKET), sales([(1_000, 1_000, "c2", "cup", "b2")]))
    # Pair and counts fade alike, so nothing changes but against the shrink.
    assert soon.named("c1", 1_000)["pot"] == pytest.approx(1.0, rel=1e-5)
    count = 2.0 ** (-0.5 - 9 * 100 / 250)
    assert late.named("c1", 1_000)["pot"] == pytest.approx(count / (count + 1), rel=1e-4)


def test_only_the_strongest_neighbours_are_kept(sales: Batches) -> None:
    rows: Rows = []
    for i, times in enumerate((1, 5, 3, 3, 2)):
        for n in range(times):
            rows += [(10, 10, "c1", "hub", f"b{i}-{n}"), (10, 10, None, f"i{i}", f"b{i}-{n}")]
    both = Both(replace(SETTINGS, neighbours=2, recent=1, alpha=0.0)).observe(sales(rows))
    both.observe(sales([(50, 50, "c1", "hub", "x"), (100, 100, None, "hub", None)]))
    # i2 and i3 are equal: the lower code stays.
    assert list(both.named("c1", 100)) == ["i1", "i2"]


def test_only_the_latest_items_are_asked_with(sales: Batches) -> None:
    rows: Rows = [
        (10, 10, None, item, basket) for basket, pair in (("p", "ab"), ("q", "cd")) for item in pair
    ]
    rows += [(20, 20, "c1", "a", "r"), (30, 30, "c1", "c", "s")]
    both = Both(replace(SETTINGS, recent=1)).observe(
        sales(rows), sales([(100, 100, None, "a", None)])
    )
    assert both.named("c1", 100).keys() == {"d"}


def test_a_basket_field_that_is_no_id_is_refused(sales: Batches) -> None:
    both = Both()
    wrong = BoughtTogether("t", "price", "item", 9, both.history, both.catalogue, SETTINGS)
    with pytest.raises(TypeError, match="field 'price' of stream 'sales' is not an id"):
        wrong.observe(sales(BASKET))


def test_another_stream_and_a_stranger_give_nothing(sales: Batches) -> None:
    both = Both().observe(sales(BASKET), sales([(500, 500, "c1", "tea", "b")], stream="returns"))
    assert both.named("c1", 600) == {}
    assert len(both.propose("new", 600)) == 0
    assert np.array_equal(both.propose("new", 600).scores, np.empty(0, np.float32))
