"""A shadow scores what was answered, all of it or counted why not; no answer is other, or later, for it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from sevenfold.errors import RegistryError
from sevenfold.models.logistic import LogisticModel
from sevenfold.registry.trial import Guardrails, begin_trial, read_trial
from sevenfold.serving import shadow as module
from sevenfold.serving.prediction_log import find_prediction, read_predictions
from sevenfold.serving.request import RecommendRequest
from sevenfold.serving.shadow import compared, read_shadowed
from sevenfold.serving.trials import told_shadow
from sevenfold.stores.tables import SHADOWS

NAMES = ("item__count_7d", "item__sum_pieces")
ITEMS = list("abcdefgh")


def linear(weights: tuple[float, float]) -> LogisticModel:
    """A linear model of the two features of items."""
    given = np.array([*weights, 0.0, 0.0])
    return LogisticModel(1.0, 1, NAMES, np.zeros(2), np.ones(2), given, np.zeros(1))


@pytest.fixture
def shop(stall: Any, sale: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A stall with eight items that sell differently, and a linear champion; its answers leave at once."""
    stall.sell(*[sale(f"{i} {n}", i) for at, i in enumerate(ITEMS) for n in range(2 * at)])
    stall.clock.advance(1_000_000)
    stall.promote(linear((1.0, 0.1)), list(NAMES))
    monkeypatch.setattr(module, "_AGE_S", 0.0)
    return stall


def begin(stall: Any, weights: tuple[float, float], share: float = 1.0) -> int:
    """The version that is the shadow from now on."""
    version = stall.register(linear(weights), list(NAMES))
    now_us = stall.clock.now_us()
    begin_trial(stall.registry, "shadow", version, share, "customer", Guardrails(), now_us)
    stall.service.shadow.step()
    return version


def answer(stall: Any, n: int) -> None:
    """Answers to so many customers."""
    for i in range(n):
        stall.clock.advance(1_000)
        stall.service.recommend(RecommendRequest(f"r{i}", {"customer": f"c{i}"}))


def score(stall: Any) -> None:
    """Have all that waits scored and written."""
    while stall.service.shadow.step():
        pass
    stall.service.shadow.write()


def rows(stall: Any) -> list[Any]:
    """What the table holds of the shadow."""
    trial = read_trial(stall.registry, "shadow")
    assert trial is not None
    with stall.store.read() as txn:
        return list(read_shadowed(txn, trial.id))


def test_every_candidate_is_scored_by_both_and_the_answer_is_the_champions(shop: Any) -> None:
    version = begin(shop, (-1.0, 0.05))
    answer(shop, 5)
    with shop.store.read() as txn:
        assert txn.count(SHADOWS) == 0, "nothing is scored before the answers have left"
    score(shop)
    found = rows(shop)
    assert [row.request_id for row in found] == [f"r{i}" for i in range(5)]
    for row in found:
        with shop.store.read() as txn:
            given_answer = find_prediction(txn, row.request_id)
        assert given_answer is not None
        assert (row.served, row.version) == (given_answer.version, version) == (1, version)
        served, shadow = np.frombuffer(row.scores), np.frombuffer(row.shadow)
        shown = given_answer.shown_rows()
        np.testing.assert_array_equal(served[shown], given_answer.shown_scores())
        columns = [shop.service.features.index(name) for name in NAMES]
        logged = given_answer.logged_vectors()[:, columns]
        again = linear((-1.0, 0.05)).scores(logged)
        np.testing.assert_array_equal(shadow[given_answer.logged_rows()], again)
    told = told_shadow(shop.registry, None)
    assert (told.state, told.version, told.scored) == ("running", version, None)


def test_what_is_told_of_a_shadow_and_on_the_metrics(shop: Any) -> None:
    begin(shop, (1.0, 0.2))
    answer(shop, 20)
    score(shop)
    with shop.store.read() as txn:
        told = told_shadow(shop.registry, txn)
    assert told.scored is not None
    assert (told.scored.answers, told.scored.failed) == (20, 0)
    assert told.scored.correlation == pytest.approx(1.0)
    assert (told.scored.overlap, told.scored.same_first) == (1.0, 1.0)
    assert told.scored.difference["0.5"] > 0
    text = shop.get("/metrics").text
    assert "sevenfold_shadow_version 2.0" in text
    assert 'sevenfold_shadow_answers_total{outcome="scored"} 20.0' in text
    assert "sevenfold_shadow_rank_correlation_count 20.0" in text


def test_only_its_share_is_scored(shop: Any) -> None:
    begin(shop, (1.0, 0.2), 0.3)
    answer(shop, 40)
    score(shop)
    trial = read_trial(shop.registry, "shadow")
    assert trial is not None
    expected = [f"r{i}" for i in range(40) if trial.takes(f"c{i}")]
    assert [row.request_id for row in rows(shop)] == expected
    assert 0 < len(expected) < 40


def test_what_has_no_place_is_dropped_and_counted(
    shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(shop, (1.0, 0.2))
    monkeypatch.setattr(module, "_QUEUE", 3)
    answer(shop, 10)
    score(shop)
    assert len(rows(shop)) == 3
    assert shop.service.shadow.outcomes == {"full": 7, "scored": 3}


def test_under_pressure_nothing_is_scored(shop: Any) -> None:
    begin(shop, (1.0, 0.2))
    answer(shop, 2)
    shop.service.shadow.pressed = lambda: True
    for i in range(3):
        shop.service.recommend(RecommendRequest(f"p{i}", {"customer": "ada"}))
    score(shop)
    assert rows(shop) == []
    assert shop.service.shadow.outcomes == {"pressure": 5}


def test_the_gate_presses_where_much_is_asked(shop: Any) -> None:
    gate = shop.app.site.gate
    assert not gate.is_pressed()
    gate._load = 0.6
    assert shop.service.shadow.pressed() is gate.is_pressed() is True


def test_a_shadow_that_fails_is_counted_and_harms_nobody(shop: Any) -> None:
    begin(shop, (1e308, 1e308))
    with np.errstate(all="ignore"):
        answer(shop, 4)
        score(shop)
    assert [row.error for row in rows(shop)] == ["a score is not finite"] * 4
    assert shop.service.shadow.outcomes == {"failed": 4}
    with shop.store.read() as txn:
        assert {(each.version, each.rung) for each in read_predictions(txn)} == {(1, "full")}
        told = told_shadow(shop.registry, txn)
    assert told.scored is not None
    assert (told.scored.failed, told.scored.correlation, told.scored.rows) == (4, None, 0)


def test_a_shadow_that_ended_scores_no_more(shop: Any) -> None:
    begin(shop, (1.0, 0.2))
    answer(shop, 3)
    shop.registry.clear_alias("shadow", "enough", 5)
    score(shop)
    with shop.store.read() as txn:
        assert txn.count(SHADOWS) == 0
    assert shop.service.shadow.outcomes == {"ended": 3}


def test_the_table_holds_so_many_and_no_more(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(shop, (1.0, 0.2))
    monkeypatch.setattr(module, "MOST", 5)
    answer(shop, 9)
    score(shop)
    assert [row.request_id for row in rows(shop)] == [f"r{i}" for i in range(4, 9)]


def test_who_is_forgotten_is_not_in_the_table_either(shop: Any) -> None:
    begin(shop, (1.0, 0.2))
    answer(shop, 4)
    score(shop)
    shop.service.forget("customer", "c2")
    while shop.service.forgetting.step():
        pass
    assert [row.request_id for row in rows(shop)] == ["r0", "r1", "r3"]


def test_a_replay_scores_everything_at_once(
    make_stall: Callable[..., Any], sale: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_QUEUE", 1)
    stall = make_stall(replay=True)
    start = stall.clock.now_us()
    body = {"stream": "sales", "events": [sale("x", "a"), sale("y", "b")], "known_us": start + 1}
    assert stall.post("/v1/events", body).status_code == 200
    stall.promote(linear((1.0, 0.1)), list(NAMES))
    version = stall.register(linear((1.0, 0.2)), list(NAMES))
    begin_trial(stall.registry, "shadow", version, 1.0, "customer", Guardrails(), 5)
    for i in range(5):
        asked = {"request_id": f"r{i}", "keys": {"customer": "ada"}, "t": start + 10 + i}
        assert stall.post("/v1/recommend", asked).status_code == 200
    assert [row.request_id for row in rows(stall)] == [f"r{i}" for i in range(5)]


def test_a_champion_is_no_shadow_and_a_shadow_becomes_the_champion(shop: Any) -> None:
    with pytest.raises(RegistryError, match="is the champion"):
        begin_trial(shop.registry, "shadow", 1, 1.0, "customer", Guardrails(), 5)


SCORES = st.lists(st.sampled_from([0.0, 1.0, 2.5, -3.0, 7.0]), min_size=2, max_size=12)


@given(st.data())
def test_ranks_are_compared_as_scipy_does(data: st.DataObject) -> None:
    one = np.array(data.draw(SCORES))
    other = np.array(data.draw(st.lists(st.floats(-5, 5), min_size=len(one), max_size=len(one))))
    found = compared(one, other, 3)
    assert 0 <= found.overlap <= 1
    if len(set(one)) > 1 and len(set(other)) > 1:
        assert found.correlation == pytest.approx(spearmanr(one, other).statistic)
    else:
        assert np.isnan(found.correlation)
    assert compared(one, one, 3).overlap == 1.0
