"""A planted one-line mistake in what is put aside is caught by its own tests.

As in `test_mutants`: the library with one line changed, not compiled, in a process of its own. The snippet must occur
exactly once, and the unchanged library must pass.
"""

from pathlib import Path

import pytest

from tests.laws.planted import judge, require_caught

TESTS = {
    "promised": ["tests/unit/stores/test_aside.py", "-k", "once_in_its_order"],
    "event": ["tests/unit/serving/test_laid_aside.py", "-k", "becomes_known_after"],
    "found": ["tests/unit/serving/test_laid_aside.py", "-k", "found_all_the_while"],
}

MUTANTS = {
    "what waits is written over where the file begins anew": (
        "promised",
        "stores/aside.py",
        "if self._done.number == number:",
        "if self._done.number > number:",
    ),
    "a transaction is begun to write without what is aside": (
        "event",
        "stores/lmdb.py",
        "mark = self._aside.put_into(writing)",
        "mark = None",
    ),
    "who asks again is answered anew while the answer is aside": (
        "found",
        "serving/pending.py",
        "return under_way or self._waiting.get(request_id) or aside",
        "return under_way or self._waiting.get(request_id)",
    ),
}


@pytest.mark.slow
def test_the_library_itself_passes(library: Path) -> None:
    files = sorted({file for file, *_ in TESTS.values()})
    chosen = " or ".join(tests[2] for tests in TESTS.values())
    done = judge(library, [*files, "-k", chosen])
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_mistake_is_caught(library: Path, name: str) -> None:
    which, place, right, wrong = MUTANTS[name]
    require_caught(library, TESTS[which], place, right, wrong)
