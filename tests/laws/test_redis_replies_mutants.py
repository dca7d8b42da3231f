"""A planted one-line mistake in how replies of Redis are read where they lie is caught by its tests.

As in `test_mutants`: the library with one line changed, in a process of its own.
"""

from pathlib import Path

import pytest

from tests.laws.planted import judge, require_caught

TESTS = ["tests/unit/stores/test_redis_replies.py", "-k", "every_byte or later_commit"]

MUTANTS = {
    "a value that has not come whole is taken": (
        "stores/redis_replies.py",
        "                if at + number + 2 > got:\n",
        "                if at > got:\n",
    ),
    "a value of a later commit is read": (
        "stores/redis_replies.py",
        "        if not 0 <= version < bound:\n",
        "        if version < 0:\n",
    ),
}


@pytest.mark.slow
def test_the_library_itself_passes(library: Path) -> None:
    done = judge(library, TESTS)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_mistake_is_caught(library: Path, name: str) -> None:
    place, right, wrong = MUTANTS[name]
    require_caught(library, TESTS, place, right, wrong)
