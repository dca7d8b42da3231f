"""A planted one-line mistake in what is put aside is caught by its own tests.

As in `test_mutants`: the library with one line changed, not compiled, in a process of its own. The snippet must occur
exactly once, and the unchanged library must pass.
"""

from pathlib import Path

import pytest

from tests.laws.planted import judge, require_caught

TESTS = {
    "promised": ["tests/unit/stores/test_aside.py", "-k", "once_in_its_order"],
    "held": ["tests/unit/stores/test_aside.py", "-k", "come_back or is_held"],
    "failed": ["tests/unit/stores/test_aside.py", "-k", "asked_whether"],
    "event": ["tests/unit/serving/test_laid_aside.py", "-k", "becomes_known_after"],
    "found": ["tests/unit/serving/test_laid_aside.py", "-k", "found_all_the_while"],
    "given": ["tests/unit/serving/test_laid_aside.py", "-k", "moved_all_the_same"],
    "told": ["tests/unit/serving/test_laid_aside.py", "-k", "disk_fails_each"],
    "left": ["tests/unit/serving/test_laid_aside.py", "-k", "not_written_again"],
    "twice": ["tests/unit/serving/test_laid_aside.py", "-k", "put_there_twice"],
}

MUTANTS = {
    "what another has moved is moved again from memory": (
        "held",
        "stores/aside.py",
        "        self._let_be(self.mark(txn).number)\n",
        "",
    ),
    "what is moved stays in memory": (
        "held",
        "stores/aside.py",
        "        self._let_be(mark.number)\n",
        "",
    ),
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
    "a disk that fails keeps what was given from the tables": (
        "given",
        "serving/laid_aside.py",
        '                _LOG.error("nothing is put aside any more, answers are committed: error=%s", error)\n',
        "                return StoreError(str(error))\n",
    ),
    "what a disk has lost is not written from memory": (
        "given",
        "serving/laid_aside.py",
        "                if not self._aside.is_failed:\n",
        "                if txn is not None:\n",
    ),
    "a disk is asked again whether it has what it has lost": (
        "failed",
        "stores/aside.py",
        "        if self._is_failed:  # the system",
        "        if False:  # the system",
    ),
    "who asks again for what could not be kept waits for ever": (
        "told",
        "serving/pending.py",
        "        twin.is_kept, twin.error = self.is_kept, self.error\n",
        "        twin.is_kept = self.is_kept\n",
    ),
    "what has left the tables is written again from memory": (
        "left",
        "serving/laid_aside.py",
        "                    if behind > done:\n",
        "                    if behind:\n",
    ),
    "what was written from memory is read back later": (
        "twice",
        "serving/laid_aside.py",
        "                self._aside.note_kept(txn, last)\n",
        "",
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
