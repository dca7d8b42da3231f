"""The audit finds nothing where nothing is wrong, and a planted skew by its feature."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import sevenfold as sf
from sevenfold.serving import audit as audits
from sevenfold.serving.audit import audit_all, read_totals, sample
from sevenfold.serving.definition import Definition
from sevenfold.serving.prediction_log import read_predictions, write_prediction

MODELS = [
    sf.Rule(by="item__count_7d"),
    sf.LogisticRegression(
        features=["item__count_7d", "item__sum_pieces", "pair__since_last", "hours", "popular_part"]
    ),
]


@sf.on_demand
def hours(pair__since_last):
    """A function of a feature."""
    return pair__since_last / 3600


@sf.on_demand
def popular_part(popular_share, item__count_7d):
    """A function of a candidate's field."""
    return popular_share * item__count_7d


@pytest.fixture
def system(anew: Callable[[], sf.System]) -> sf.System:
    """The stall with features of all sorts, every vector audited."""
    made = anew()
    (customer,), item, stream = made.task.query, made.task.item, made.data[0]
    features = [
        sf.aggregate(item, stream, sf.count(windows=["7 d"]), sf.sum("pieces")),
        sf.aggregate([customer, item], stream, sf.since_last(), name="pair"),
        hours,
        popular_part,
    ]
    monitoring = sf.Monitoring(audit=sf.Audit(share=1.0))
    return replace(made, features=features, models=MODELS, monitoring=monitoring)


@pytest.fixture
def busy(make_stall: Callable[..., Any], system: sf.System, sale: Callable[..., Any]) -> Any:
    """A stall that has sold and answered in turns."""
    stall, rng = make_stall(system=system), np.random.default_rng(2)
    for n in range(60):
        stall.clock.advance(3_600_000_000)
        at_us = stall.clock.now_us() - int(rng.integers(0, 8)) * 3_600_000_000
        who, what = f"c{rng.integers(3)}", f"i{rng.integers(5)}"
        stall.sell(sale(f"n{n}", what, at_us, customer=who, pieces=int(rng.integers(1, 5))))
        stall.clock.advance(1)
        if n % 2:
            ask = {"request_id": f"r{n}", "keys": {"customer": f"c{rng.integers(4)}"}}
            assert stall.post("/v1/recommend", ask).status_code == 200
    return stall


def work(stall: Any) -> int:
    """Let the job work until there is nothing left; in how many steps."""
    job = stall.service.audit
    for step in range(1_000):
        job._rest_until_s = 0.0
        if not job.step():
            return step
    raise AssertionError("it never ends")


def vectors(stall: Any) -> int:
    """How many vectors are logged."""
    with stall.store.read() as txn:
        return sum(len(p.logged_rows()) for p in read_predictions(txn))


def last(stall: Any) -> int:
    """The vectors of the latest answer, which waits for the next."""
    with stall.store.read() as txn:
        return len(list(read_predictions(txn))[-1].logged_rows())


def skew(stall: Any, feature: str, request_id: str) -> None:
    """Change a logged value of one answer, as a fault of the online engine would."""
    column = stall.service.features.index(feature)
    with stall.store.write() as txn:
        (found,) = [p for p in read_predictions(txn) if p.request_id == request_id]
        wrong = found.logged_vectors().copy()
        wrong[:, column] += 1
        found.vectors = wrong.tobytes()
        write_prediction(txn, found)


def test_nothing_is_found_where_nothing_is_wrong(busy: Any) -> None:
    work(busy)
    totals = busy.service.audit.totals
    assert (totals.different, totals.skipped) == (0, 0)
    assert totals.compared == vectors(busy) - last(busy) > 60
    metrics = busy.call("GET", "/metrics").text
    assert f'sevenfold_audit_vectors{{result="compared"}} {totals.compared}.0' in metrics
    assert 'sevenfold_audit_mismatch_rate{feature="hours"} 0.0' in metrics


def test_a_planted_skew_is_found_by_its_feature(busy: Any) -> None:
    skew(busy, "item__sum_pieces", "r31")
    work(busy)
    totals = busy.service.audit.totals
    assert totals.by_feature.keys() == {"item__sum_pieces"}
    assert totals.different == totals.by_feature["item__sum_pieces"] >= 3
    assert {e.request_id for e in totals.examples} == {"r31"}
    example = totals.examples[0]
    assert example.logged == (example.recomputed or 0) + 1
    rate = totals.different / totals.compared
    text = busy.call("GET", "/metrics").text
    assert f'sevenfold_audit_mismatch_rate{{feature="item__sum_pieces"}} {rate}' in text
    with busy.store.read() as txn:
        whole = list(audit_all(txn, busy.service.definition, 1.0))[-1]
    assert whole.by_feature == totals.by_feature
    assert whole.compared == vectors(busy)


def test_rounds_have_as_many_vectors_as_they_may_and_find_the_same(busy: Any) -> None:
    skew(busy, "item__sum_pieces", "r31")
    with busy.store.read() as txn:
        (whole,) = (
            (t.compared, t.by_feature) for t in audit_all(txn, busy.service.definition, 1.0)
        )
        rounds = [t.compared for t in audit_all(txn, busy.service.definition, 1.0, vectors=25)]
        *_, last_of = audit_all(txn, busy.service.definition, 1.0, vectors=25)
        most = max(len(answer.logged_rows()) for answer in read_predictions(txn))
    assert (last_of.compared, last_of.by_feature) == whole
    sizes = np.diff([0, *rounds])
    assert len(rounds) > 2
    assert ((sizes[:-1] >= 25) & (sizes[:-1] < 25 + most)).all()


def test_a_state_that_went_wrong_shows_in_the_answers_after_it(
    busy: Any, sale: Callable[..., Any]
) -> None:
    view = busy.service.plan.views[0]
    with busy.store.write() as txn:
        for key, value in list(txn.scan("state", view.view_id, view.view_id + b"\xff" * 17)):
            words = np.frombuffer(value, dtype=np.int64).copy()
            words[0] += 1
            txn.put("state", key, words.tobytes() if len(words) > 1 else value)
        for key, _ in list(txn.scan("state", view.view_id, view.view_id + b"\xff" * 17))[:2]:
            txn.delete("state", key)
    busy.clock.advance(1_000_000)
    for name in ("x1", "x2"):
        busy.post("/v1/recommend", {"request_id": name, "keys": {"customer": "c1"}})
        busy.clock.advance(1_000_000)
    work(busy)
    assert busy.service.audit.totals.different >= 1
    assert {e.request_id for e in busy.service.audit.totals.examples} == {"x1"}


def test_small_rounds_and_rounds_cut_in_half_compare_the_same(
    busy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    skew(busy, "item__sum_pieces", "r31")
    for name, value in (("_VECTORS", 7), ("_EVENTS", 20), ("_SLICE", 9), ("_LOOK", 2)):
        monkeypatch.setattr(audits, name, value)
    assert work(busy) > 50, "in many small steps"
    totals = busy.service.audit.totals
    assert totals.compared == vectors(busy) - last(busy)
    assert totals.by_feature.keys() == {"item__sum_pieces"}


def test_it_goes_on_where_the_process_before_it_ended(
    busy: Any, make_stall: Callable[..., Any], system: sf.System
) -> None:
    work(busy)
    before = busy.service.audit.totals.compared
    again = make_stall(system=system)
    assert again.service.audit.totals.compared == before
    assert work(again) == 0


def test_answers_of_another_definition_are_counted_apart(
    busy: Any, make_stall: Callable[..., Any], system: sf.System
) -> None:
    other = replace(system, models=[sf.Rule(by="item__count_7d")])
    again = make_stall(system=other)
    work(again)
    totals = again.service.audit.totals
    assert (totals.compared, totals.different) == (0, 0)
    assert totals.skipped == vectors(busy) - last(busy)


def test_the_sample_is_the_share_and_always_the_same(busy: Any) -> None:
    with busy.store.read() as txn:
        answers = list(read_predictions(txn))
    taken = [sample(p, 0.3) for p in answers]
    n = sum(len(one.rows) for one in taken if one)
    assert 0.15 < n / vectors(busy) < 0.45
    again = [sample(p, 0.3) for p in answers]
    assert [one.rows.tolist() for one in taken if one] == [o.rows.tolist() for o in again if o]
    wider = [sample(p, 0.6) for p in answers]
    for small, large in zip(taken, wider, strict=True):
        assert small is None or set(small.rows) <= set(large.rows if large else ())
    assert all(sample(p, 0.0) is None for p in answers)


def test_it_rests_twenty_times_as_long_as_it_worked(busy: Any) -> None:
    job = busy.service.audit
    while job.step():
        pass
    assert job._rest_until_s > 0
    assert not job.step()
    with busy.store.read() as txn:
        assert read_totals(txn, Definition(busy.service.system)).compared == job.totals.compared


def test_a_stall_that_never_answered_has_nothing_to_compare(stall: Any) -> None:
    assert not stall.service.audit.step()


def test_a_replay_audits_nothing(make_stall: Callable[..., Any]) -> None:
    assert not make_stall(replay=True).service.audit.step()
