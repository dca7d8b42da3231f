"""The gate promotes what is better and proven, and says why not."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from sevenfold.errors import GateError, InputError
from sevenfold.evaluation.gate import Evidence, Gate, Verdict
from sevenfold.evaluation.intervals import Resampling

N = 600
GATE = Gate("ndcg@10", how=Resampling(n_samples=500))


def models(gain_over_baseline: float, gain_over_champion: float, seed: int = 0) -> Evidence:
    rng = np.random.default_rng(seed)
    challenger = rng.random(N)
    noise = rng.normal(0, 0.02, (2, N))
    return Evidence(
        challenger,
        challenger - gain_over_baseline + noise[0],
        challenger - gain_over_champion + noise[1],
    )


def judge(evidence: Evidence, gate: Gate = GATE) -> Verdict:
    return gate.judge(evidence, np.random.default_rng(1))


def failed(verdict: Verdict) -> list[str]:
    return [rule.name for rule in verdict.rules if not rule.passed]


def test_a_better_model_is_promoted() -> None:
    verdict = judge(models(0.05, 0.02))
    assert verdict.promote
    verdict.require()
    assert [rule.name for rule in verdict.rules] == [
        "enough_requests",
        "beats_baseline",
        "holds_against_champion",
    ]


def test_the_first_model_has_only_to_beat_the_baseline() -> None:
    whole = models(0.05, 0)
    verdict = judge(Evidence(whole.challenger, whole.baseline))
    assert verdict.promote
    assert [comparison.against for comparison in verdict.comparisons] == ["baseline"]


@pytest.mark.parametrize(
    ("baseline", "champion", "rules"),
    [
        (0.0, 0.02, ["beats_baseline"]),
        (-0.05, 0.02, ["beats_baseline"]),
        (0.05, -0.05, ["holds_against_champion"]),
        (-0.05, -0.05, ["beats_baseline", "holds_against_champion"]),
    ],
)
def test_a_worse_model_is_not(baseline: float, champion: float, rules: list[str]) -> None:
    verdict = judge(models(baseline, champion))
    assert failed(verdict) == rules
    assert len(verdict.reasons) == len(rules)
    with pytest.raises(GateError, match=r"challenger minus"):
        verdict.require()


def test_an_equal_model_passes_with_a_margin_and_not_without() -> None:
    same = models(0.05, 0.0)
    same = Evidence(same.challenger, same.baseline, same.challenger)
    assert judge(same).promote
    strict = msgspec.structs.replace(GATE, maximum_loss=0.0)
    assert failed(judge(same, strict)) == ["holds_against_champion"]


def test_a_loss_on_one_slice_stops_a_model_that_is_better_on_the_whole() -> None:
    land = np.array(["uk"] * 500 + ["fr"] * 90 + ["de"] * 10)
    whole = models(0.2, 0.1)
    champion = whole.champion.copy()
    champion[500:] += 0.4
    verdict = judge(Evidence(whole.challenger, whole.baseline, champion, slices={"land": land}))
    assert failed(verdict) == ["no_loss_on_slice:land=fr"]
    assert "where land is fr" in verdict.reasons[0]
    assert "no_loss_on_slice:land=de" not in [rule.name for rule in verdict.rules]


def test_a_loss_on_a_slice_that_may_be_chance_does_not_stop_it() -> None:
    rng = np.random.default_rng(3)
    slices = {"part": rng.integers(0, 6, N).astype(str)}
    whole = models(0.2, 0.05)
    noisy = whole.champion + rng.normal(0, 0.5, N)
    gate = msgspec.structs.replace(GATE, maximum_loss=0.5, maximum_slice_loss=0.01)
    verdict = judge(Evidence(whole.challenger, whole.baseline, noisy, slices=slices), gate)
    given = [rule.given for rule in verdict.rules if rule.name.startswith("no_loss")]
    assert min(given) < -0.01
    assert verdict.promote


def test_too_few_requests_or_customers_fail() -> None:
    few = models(0.2, 0.2)
    one = [values[:100] for values in (few.challenger, few.baseline, few.champion)]
    assert failed(judge(Evidence(*one))) == ["enough_requests"]
    assert failed(judge(Evidence(*[v[:1] for v in one]))) == ["enough_requests", "comparable"]
    lone = Evidence(few.challenger, few.baseline, clusters=["only"] * N)
    assert failed(judge(lone)) == ["comparable"]


def test_scores_that_know_the_outcome_fail() -> None:
    whole = models(0.2, 0.2)
    verdict = judge(Evidence(whole.challenger, whole.baseline, auc=0.999))
    assert failed(verdict) == ["no_leakage"]
    assert judge(Evidence(whole.challenger, whole.baseline, auc=0.8)).promote


def test_models_judged_on_other_requests_are_refused() -> None:
    whole = models(0.2, 0.2)
    other = whole.baseline.copy()
    other[0] = np.nan
    with pytest.raises(InputError, match="same requests"):
        judge(Evidence(whole.challenger, other))
    with pytest.raises(InputError, match="1 clusters"):
        judge(Evidence(whole.challenger, whole.baseline, clusters=["a"]))


def test_the_verdict_can_be_stored_and_read() -> None:
    verdict = judge(models(0.05, 0.02))
    assert msgspec.json.decode(msgspec.json.encode(verdict), type=Verdict) == verdict
    assert judge(models(0.05, 0.02)) == verdict
