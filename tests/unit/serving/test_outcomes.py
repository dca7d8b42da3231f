"""What came of answers, read from the log: by request, item and time; and a canary that is judged by it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

import sevenfold as sf
from sevenfold.registry.trial import Guardrails, begin_trial, ended_trials, read_trial
from sevenfold.serving.evidence import Evidence
from sevenfold.serving.outcomes import Outcomes
from sevenfold.serving.prediction_log import Prediction
from sevenfold.serving.request import RecommendRequest
from sevenfold.stores.log import note_rewrite

S, HOUR = 1_000_000, 3_600_000_000
NAMES = ["item__sum_pieces"]


@pytest.fixture
def shop(
    make_stall: Any, sale: Callable[..., Any], anew: Callable[[], sf.System], rule: Any
) -> Any:
    """A stall that has sold three items, with a rule as its champion; its answers may take a minute."""
    system = anew()
    patient = replace(system.requirements, latency=sf.Latency(p99="60 s"))
    stall = make_stall(system=replace(system, requirements=patient))
    stall.sell(*[sale(f"{item}{i}", item) for item in "abc" for i in range(ord(item) - 96)])
    stall.clock.advance(S)
    stall.promote(rule, NAMES)
    return stall


def ask(shop: Any, name: str) -> Prediction:
    """An answer."""
    shop.clock.advance(10_000)
    made: Prediction = shop.service.recommend(RecommendRequest(name, {"customer": name}))[0]
    return made


def known(shop: Any, since_us: int = 0) -> Outcomes:
    """All outcomes of the log."""
    outcomes = Outcomes(shop.service.system.task)
    with shop.store.read() as txn:
        while not outcomes.follow(txn, since_us):
            pass
    return outcomes


def test_an_outcome_names_its_request_and_an_item_that_was_shown_within_the_time(
    shop: Any, sale: Callable[..., Any]
) -> None:
    answers = {name: ask(shop, name) for name in ("taken", "other", "late", "before", "nobody")}
    t_us, item = {name: made.t_us for name, made in answers.items()}, answers["taken"].slate()[0]
    shop.clock.advance(3 * HOUR)
    shop.sell(
        sale("1", item, t_us["taken"] + 2 * HOUR, basket="taken"),
        sale("2", "z", t_us["other"] + S, basket="other"),
        sale("3", item, t_us["late"] + 2 * HOUR + 1, basket="late"),
        sale("4", item, t_us["before"], basket="before"),
        sale("5", item, t_us["taken"] + S, basket="nobody knows"),
    )
    outcomes = known(shop)
    assert [name for name, made in answers.items() if outcomes.took(made)] == ["taken"]


def test_it_reads_on_lets_go_and_begins_anew_where_the_log_was_rewritten(
    shop: Any, sale: Callable[..., Any]
) -> None:
    first, second = ask(shop, "first"), ask(shop, "second")
    outcomes = known(shop)
    shop.sell(sale("1", "a", first.t_us + 1, basket="first"))
    shop.clock.advance(S)
    shop.sell(sale("2", "a", second.t_us + 1, basket="second"))
    with shop.store.read() as txn:
        assert outcomes.follow(txn, first.t_us)
        assert (outcomes.took(first), outcomes.took(second)) == (True, True)
        assert outcomes.follow(txn, shop.clock.now_us() - S // 2)
        assert (outcomes.took(first), outcomes.took(second)) == (False, True)
    with shop.store.write() as txn:
        note_rewrite(txn)
    with shop.store.read() as txn:
        assert outcomes.follow(txn, first.t_us)
    assert (outcomes.took(first), outcomes.took(second)) == (True, True)


def test_a_long_log_is_read_a_little_at_a_time_from_where_it_matters(
    shop: Any, sale: Callable[..., Any]
) -> None:
    for part in range(3):
        shop.sell(*[sale(f"{part} {i}", "a", basket=f"old{i}") for i in range(1500)])
        shop.clock.advance(S)
    made = ask(shop, "new")
    shop.clock.advance(S)
    shop.sell(sale("new", "a", made.t_us + 1, basket="new"))
    outcomes = Outcomes(shop.service.system.task)
    with shop.store.read() as txn:
        assert [outcomes.follow(txn, 0) for _ in range(3)] == [False, False, True]
        assert outcomes.took(made)
        outcomes = Outcomes(shop.service.system.task)
        assert outcomes.follow(txn, made.t_us), "what became known before is not read"
        assert outcomes.took(made)


@pytest.mark.parametrize("bad", [True, False])
def test_a_canary_whose_answers_come_true_less_is_taken_back_once_that_can_be_known(
    shop: Any, sale: Callable[..., Any], rule: Any, bad: bool
) -> None:
    version = shop.register(rule, NAMES)
    rails = Guardrails(slow=None, outcome=0.3)
    begun_us = shop.clock.now_us()
    begin_trial(shop.registry, "canary", version, 0.5, "customer", rails, begun_us)
    rows = []
    for i in range(160):
        made = ask(shop, f"r{i}")
        if i % 2 and not (bad and made.arm == "canary"):
            rows.append(sale(f"of {i}", made.slate()[0], made.t_us + 1, basket=f"r{i}"))
    shop.sell(*rows)
    referee = shop.service.referee
    for wait_us in (2 * S, 2 * HOUR):
        assert read_trial(shop.registry, "canary") is not None, "nothing is known yet"
        shop.clock.advance(wait_us)
        while referee.step():
            pass
    if bad:
        reason = ended_trials(shop.registry, "canary")[-1].reason
        assert reason.startswith("rolled back: guardrail outcome 0 over "), reason
        return
    (found,) = (one for one in referee.evidence.findings(rails) if one.name == "outcome")
    assert found.answers == referee.evidence.canary_answers > 50
    assert 0.3 < found.seen < 0.7
    assert found.champion is not None
    assert 0.3 < found.champion < 0.7
    assert found.evidence < 1


def told(
    rng: np.random.Generator, evidence: Evidence, arm: str, took: float, rails: Guardrails
) -> None:
    """Have an answer of a side known, which came true with that probability."""
    version = 2 if arm == "canary" else 1
    made = msgspec.structs.replace(_PLAIN, arm=arm, version=version)
    evidence.note_outcome(made, bool(rng.random() < took), rails)


_PLAIN = Prediction(
    request_id="r",
    t_us=0,
    keys={},
    model="m",
    version=1,
    rung="full",
    k=1,
    features="",
    generators=[],
    items=[],
    sources=b"",
    candidate_scores=b"",
    shown=b"",
    scores=b"",
    logged=b"",
    vectors=b"",
    sample_weight=0.0,
    trial="t",
)


@pytest.mark.parametrize(
    ("kept", "share", "most"),
    [
        (0.0, 0.5, 0),  # nobody takes anything any more
        (0.3, 0.3, 0),
        (0.7, 0.5, 2),  # exactly what is allowed: a false alarm in twenty at most
        (1.0, 0.1, 0),
    ],
)
def test_a_loss_is_found_and_chance_is_not(kept: float, share: float, most: int) -> None:
    """Also where what is taken moves with the hour, for both alike."""
    rails = Guardrails(
        errors=None, slow=None, constant=None, empty=None, fallback=None, disagreement=None,
        shift=None, outcome=0.3, alpha=0.1,
    )  # fmt: skip
    broken = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        evidence = Evidence("t", 2, 1)
        for i in range(4000):
            of_hour = 0.25 + 0.15 * np.sin(i / 200)
            arm = "canary" if rng.random() < share else "champion"
            told(rng, evidence, arm, of_hour * (kept if arm == "canary" else 1.0), rails)
            if evidence.breach(rails) is not None:
                broken += 1
                break
    if kept < 0.5:
        assert broken == 12
    else:
        assert broken <= most


def test_answers_of_other_models_say_nothing_and_unpaired_ones_only_count() -> None:
    rails, rng = Guardrails(outcome=0.3), np.random.default_rng(0)
    evidence = Evidence("t", 2, 1)
    for _ in range(50):
        told(rng, evidence, "canary", 0.0, rails)
    assert evidence.taken.canary.n == 50
    assert evidence.wealths["outcome"].n == 0, "no bet without an answer of the champion beside"
    for other in (
        {"trial": "another"},
        {"version": 7, "arm": "champion"},
        {"version": 1, "arm": "canary"},
    ):
        evidence.note_outcome(msgspec.structs.replace(_PLAIN, **other), True, rails)
    assert evidence.taken.champion.n == 0
    again = msgspec.json.decode(msgspec.json.encode(evidence), type=Evidence)
    assert again == evidence
