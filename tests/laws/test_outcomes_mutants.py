"""A planted one-line mistake in what bounds a wait, in outcomes, or in shorter slates is caught; as in `test_serving_mutants`."""

from pathlib import Path

import pytest

from tests.laws.planted import judge, require_caught

TESTS = {
    "gate": ["tests/unit/serving/test_gate.py", "-k", "less_time"],
    "outcomes": ["tests/unit/serving/test_outcomes.py", "-k", "names_its or reads_on"],
    "reranking": ["tests/unit/serving/test_reranking.py", "-k", "beginning"],
}

MUTANTS = {
    "whoever has less time waits as long as others": (
        "gate",
        "serving/admission.py",
        "arrived_s + min(budget_s, left_s)",
        "arrived_s + budget_s",
    ),
    "what happened before the answer came of it": (
        "outcomes",
        "serving/outcomes.py",
        "if answer.t_us < at_us <= until_us",
        "if at_us <= until_us",
    ),
    "what was read of a log counts after it was rewritten": (
        "outcomes",
        "serving/outcomes.py",
        "if now != self._generation:",
        "if not self._generation:",
    ),
    "another item in a place where fewer are asked for": (
        "reranking",
        "serving/reranking.py",
        "        k = max(k, self.usual)\n",
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
def test_a_mistake_is_caught(library: Path, name: str) -> None:
    tests, *mistake = MUTANTS[name]
    require_caught(library, TESTS[tests], *mistake)
