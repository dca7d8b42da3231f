"""A planted one-line mistake in how answers wait for their commit is caught; as in `test_serving_mutants`."""

from pathlib import Path

import pytest

from tests.laws.planted import judge, require_caught

TESTS = ["tests/unit/serving/test_pending.py", "-k", "not scores"]

MUTANTS = {
    "an answer given before it is on disk": (
        "serving/pending.py",
        "        if not self.is_kept and self.error is None:\n            loop",
        "        if False:\n            loop",
    ),
    "events become known before an answer that waits": (
        "serving/service.py",
        "        self._ingest.read_at(t_us)\n        draft",
        "        draft",
    ),
    "an answer that cannot be written takes its turn with it": (
        "serving/pending.py",
        "        group.errors = [error if is_shared else self._write([draft], begun) for draft in drafts]\n",
        "        group.errors = [error for _ in drafts]\n",
    ),
    "a job that deletes does not find what waits": (
        "serving/background.py",
        "            self._before()\n",
        "",
    ),
    "an answer made twice in a turn": (
        "serving/service.py",
        "        if waiting is not None:\n",
        "        if waiting is None and not request:\n",
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
