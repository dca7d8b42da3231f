"""A planted one-line mistake in a canary, or in the evidence against it, is caught; as in `test_serving_mutants`."""

from pathlib import Path

import pytest

from tests.laws.planted import judge, require_caught

TESTS = {
    "evidence": ["tests/unit/serving/test_evidence.py", "-k", "befalls or each_champion"],
    "wealth": ["tests/unit/evaluation/test_sequential.py", "-k", "fair"],
    "trial": ["tests/unit/registry/test_trial.py", "-k", "in or ended"],
}

MUTANTS = {
    "the same people in every trial": (
        "trial",
        "registry/trial.py",
        'f"{self.id}\\0{key}"',
        'f"{key}"',
    ),
    "whoever is in at a share is out at a larger one": (
        "trial",
        "registry/trial.py",
        "[0] < self.share * 2.0**64",
        "[0] % 1000 < self.share * 1000 and self.share < 0.9",
    ),
    "a canary begun since is ended with the one before": (
        "trial",
        "registry/registry.py",
        "expected not in (None, before)",
        "expected == 0",
    ),
    "a bet at better odds than are fair": (
        "wealth",
        "evaluation/sequential.py",
        "odds = x / limit - 1.0",
        "odds = x / limit - 0.9",
    ),
    "what befalls both sides speaks against the canary": (
        "evidence",
        "serving/evidence.py",
        "beyond + self.references[name].expected",
        "beyond",
    ),
    "a new champion has all false alarms again": (
        "evidence",
        "serving/evidence.py",
        " * 0.5**self.since",
        "",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TESTS)
def test_the_library_itself_passes(library: Path, name: str) -> None:
    done = judge(library, TESTS[name])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_mistake_is_caught(library: Path, name: str) -> None:
    tests, *mutant = MUTANTS[name]
    require_caught(library, TESTS[tests], *mutant)
