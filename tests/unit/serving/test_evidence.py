"""What the log says for and against a canary: simulated answers of good models, and of models bad in one way each."""

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pytest

from sevenfold.registry.trial import Guardrails
from sevenfold.serving.evidence import Evidence
from sevenfold.serving.prediction_log import Prediction, packed

RAILS = Guardrails()
K = 5


@dataclass(frozen=True)
class Plain:
    """A model whose score of a vector is a weighted sum, as `Loaded` gives it."""

    weights: tuple[float, float]

    def scores(self, vectors: Any) -> Any:
        """The scores (n,)."""
        return vectors.astype(np.float64) @ np.array(self.weights)


CHAMPION, TWIN = Plain((1.0, 0.5)), Plain((1.1, 0.45))


def answer(rng: np.random.Generator, arm: str, model: Plain, by: int, **more: Any) -> Prediction:
    """An answer that a model gave: the best five of twenty candidates."""
    vectors = rng.normal(size=(20, 2)).astype(np.float32)
    scores = model.scores(vectors)
    shown = np.argsort(-scores, kind="stable")[:K]
    made = Prediction(
        request_id="r",
        t_us=0,
        keys={},
        model="m",
        version=by,
        rung="full",
        k=K,
        features="",
        generators=[],
        items=[str(i) for i in range(20)],
        sources=b"",
        candidate_scores=b"",
        shown=packed(shown, np.int32),
        scores=packed(scores[shown], np.float64),
        logged=packed(shown, np.int32),
        vectors=packed(vectors[shown], np.float32),
        sample_weight=0.0,
        timing_us={"score": int(rng.lognormal(8.0, 0.3))},
        trial="t",
        arm=arm,
    )
    return msgspec.structs.replace(made, **more)


def judged(
    n: int, canary: Plain, share: float = 0.2, seed: int = 0, rails: Guardrails = RAILS, **more: Any
) -> tuple[Evidence, str | None, int]:
    """The evidence after at most `n` answers, the guardrail that was broken and after how many of the canary's answers.

    `more` is what is other of the canary's answers; a function is asked for each.
    """
    rng = np.random.default_rng(seed)
    evidence = Evidence("t", 2)
    models: Any = (CHAMPION, canary)
    for _ in range(n):
        if rng.random() >= share:
            evidence.note(answer(rng, "champion", CHAMPION, 1), rails, models)
            continue
        other = {name: what(rng) if callable(what) else what for name, what in more.items()}
        evidence.note(answer(rng, "canary", canary, 2, **other), rails, models)
        broken = evidence.breach(rails)
        if broken is not None:
            return evidence, broken.name, evidence.canary_answers
    return evidence, None, evidence.canary_answers


def test_a_good_model_is_not_taken_back() -> None:
    """Twelve canaries beside six hundred answers each, where one in a hundred may be wrong: none is, as a rule."""
    wrong = [judged(600, TWIN, 0.5, seed)[1] for seed in range(12)]
    assert wrong.count(None) >= 11, wrong


def test_the_same_model_at_the_edge_of_what_is_allowed_stays_as_often_as_stated() -> None:
    """Errors exactly at their limit, the worst that is allowed, with a false alarm in twenty allowed in all."""
    rails = Guardrails(errors=0.02, alpha=0.05)
    fails = {"degraded": lambda rng: {"canary": "failed"} if rng.random() < 0.02 else {}}
    wrong = [judged(400, TWIN, 0.5, seed, rails, **fails)[1] for seed in range(20)]
    assert sum(name is not None for name in wrong) <= 3, wrong


@pytest.mark.parametrize(
    ("guardrail", "model", "within", "more"),
    [
        ("errors", TWIN, 8, {"degraded": {"canary": "failed"}, "version": 1}),
        (
            "errors",
            TWIN,
            300,
            {"degraded": lambda rng: {"canary": "x"} if rng.random() < 0.2 else {}},
        ),
        ("constant", Plain((0.0, 0.0)), 20, {}),
        ("disagreement", Plain((-1.0, -0.5)), 30, {}),
        ("slow", TWIN, 20, {"timing_us": {"score": 300_000}}),
        ("empty", TWIN, 15, {"shown": b"", "scores": b"", "logged": b"", "vectors": b""}),
        ("fallback", TWIN, 15, {"rung": "baseline", "version": 0}),
        ("shift", Plain((40.0, 20.0)), 200, {}),
    ],
)
def test_a_model_that_is_bad_in_one_way_is_found_by_it(
    guardrail: str, model: Plain, within: int, more: dict[str, Any]
) -> None:
    for seed in range(3):
        evidence, broken, after = judged(3000, model, 0.5, seed, **more)
        assert broken == guardrail, evidence.findings(RAILS)
        assert after <= within + 100 * (guardrail in ("slow", "shift"))


def test_what_is_off_is_not_watched() -> None:
    rails = Guardrails(disagreement=None, shift=None)
    assert judged(600, Plain((-1.0, -0.5)), 0.5, 0, rails)[1] is None
    off = {found.name: found for found in judged(50, TWIN, 0.5, 0, rails)[0].findings(rails)}
    assert off["disagreement"].limit is None
    assert off["disagreement"].evidence == 0.0


def test_what_befalls_both_sides_does_not_speak_against_the_canary() -> None:
    """A load that sends everybody down the ladder, and a champion that has one score for all too."""
    rng = np.random.default_rng(0)
    evidence = Evidence("t", 2)
    flat = Plain((0.0, 0.0))
    for i in range(800):
        arm = "canary" if i % 3 == 0 else "champion"
        lower = {"rung": "baseline", "version": 0} if rng.random() < 0.4 else {}
        evidence.note(answer(rng, arm, flat, 2 if arm == "canary" else 1, **lower), RAILS, None)
        assert evidence.breach(RAILS) is None, evidence.findings(RAILS)


def test_a_machine_that_is_slow_for_a_while_is_slow_for_both() -> None:
    rng = np.random.default_rng(0)
    evidence = Evidence("t", 2)
    for i in range(1200):
        arm = "canary" if i % 5 == 0 else "champion"
        stalled = {"timing_us": {"score": 200_000}} if 500 <= i < 900 else {}
        model, version = (TWIN, 2) if arm == "canary" else (CHAMPION, 1)
        evidence.note(answer(rng, arm, model, version, **stalled), RAILS, (CHAMPION, TWIN))
        assert evidence.breach(RAILS) is None, (i, evidence.findings(RAILS))


def test_without_times_nothing_is_slow() -> None:
    rng = np.random.default_rng(0)
    evidence = Evidence("t", 2)
    for i in range(600):
        arm = "canary" if i % 2 else "champion"
        slow = {"timing_us": {"score": 300_000}} if i % 2 else {}
        evidence.note(answer(rng, arm, TWIN, 1 + i % 2, **slow), RAILS, None, timed=False)
    assert evidence.breach(RAILS) is None
    assert evidence.times.n == evidence.canary_times.n == 0


def test_evidence_is_kept_as_it_is() -> None:
    """Before and after the bins are laid out, what is read back goes on as if nothing had been."""
    for n in (60, 800):
        evidence = judged(n, TWIN, 0.5)[0]
        again = msgspec.json.decode(msgspec.json.encode(evidence), type=Evidence)
        assert again == evidence
        assert again.findings(RAILS) == evidence.findings(RAILS)


def test_each_champion_leaves_half_of_the_false_alarms_that_were_allowed() -> None:
    rng = np.random.default_rng(0)
    evidence = Evidence("t", 2)
    spent = []
    for version in (1, 3, 4):
        evidence.note(answer(rng, "champion", CHAMPION, version), RAILS, None)
        assert (evidence.champion, evidence.champion_answers) == (version, 1)
        spent.append(evidence._alpha(RAILS) * 7)
    assert spent == pytest.approx([RAILS.alpha / 2, RAILS.alpha / 4, RAILS.alpha / 8])
    assert sum(spent) < RAILS.alpha
