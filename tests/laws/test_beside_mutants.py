"""A planted one-line mistake in the commits beside the event loop is caught; as in `test_serving_mutants`."""

from pathlib import Path

import pytest

from tests.laws.planted import judge, require_caught

TESTS = ["tests/unit/serving/test_beside.py", "-k", "not every_answer"]

MUTANTS = {
    "an answer given while its commit is under way": (
        "serving/pending.py",
        "        beside.give(work)\n",
        "        beside.give(work)\n        group.errors = [None] * len(group.drafts)\n        self._tell(group)\n",
    ),
    "a job does not wait for the commit under way": (
        "serving/pending.py",
        "            self._group.wait()\n",
        "",
    ),
    "a request that comes again during its commit is answered anew": (
        "serving/pending.py",
        "        return under_way or self._waiting.get(request_id) or aside\n",
        "        return self._waiting.get(request_id) or aside\n",
    ),
}


@pytest.mark.slow
def test_the_library_itself_passes(library: Path) -> None:
    done = judge(library, TESTS)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_mistake_is_caught(library: Path, name: str) -> None:
    require_caught(library, TESTS, *MUTANTS[name])
