"""A planted one-line mistake in tables of slates and in jobs is caught by their own tests; as in `test_serving_mutants`."""

from pathlib import Path

import pytest

from tests.laws.planted import judge, require_caught

UNIT = "tests/unit/serving"
TESTS = {"ahead": [f"{UNIT}/test_ahead.py"], "jobs": [f"{UNIT}/test_jobs.py"]}

MUTANTS = {
    "a slate of the instant to come is given": (
        "ahead",
        "serving/ahead.py",
        "        if not 0 <= age_us <= self._max_age_us:\n",
        "        if not age_us <= self._max_age_us:\n",
    ),
    "the table before is never freed": (
        "ahead",
        "serving/slate_table.py",
        "        drop_table(txn, before.number)\n",
        "        pass\n",
    ),
    "what is made ahead is not filtered again": (
        "ahead",
        "serving/answer.py",
        "        must = self.shared.filters.that_must()\n",
        "        must = Filters(())\n",
    ),
    "a job begins anew after a restart": (
        "jobs",
        "serving/jobs.py",
        "            self._work = _Work(record.id, keys, record.done, elapsed_s())\n",
        "            self._work = _Work(record.id, keys, 0, elapsed_s())\n",
    ),
    "a cancelled job keeps its slates": (
        "jobs",
        "serving/jobs.py",
        "            drop_job(txn, record)\n            after = ",
        "            after = ",
    ),
    "who was forgotten stays in a job": (
        "jobs",
        "serving/forgetting.py",
        "        forget_in_jobs(txn, order.entity, order.key)\n",
        "        pass\n",
    ),
}


def test_the_tests_accept_the_library_as_it_is(library: Path) -> None:
    done = judge(library, [test for tests in TESTS.values() for test in tests])
    assert done.returncode == 0, f"{done.stdout[-2000:]}{done.stderr[-2000:]}"


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_mistake_is_caught(library: Path, name: str) -> None:
    about, place, right, wrong = MUTANTS[name]
    require_caught(library, TESTS[about], place, right, wrong)
