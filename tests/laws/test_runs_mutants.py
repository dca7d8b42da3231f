"""A planted one-line mistake in the runs of accepted ids is caught by their own tests.

As in `test_mutants`: the library with one line changed, not compiled, in a process of its own. The snippet must occur
exactly once, and the unchanged library must pass.
"""

from pathlib import Path

import pytest

from tests.laws.planted import judge, require_caught

DEDUPE = "tests/unit/stores/test_dedupe.py"
TESTS = {
    "whatever": [DEDUPE, "-k", "whatever_was_divided"],
    "once": [DEDUPE, "-k", "stored_once"],
    "few": [DEDUPE, "-k", "few_runs"],
    "first": [DEDUPE, "-k", "first_version"],
}

MUTANTS = {
    "an eighth is taken out that is not taken over": (
        "whatever",
        "stores/runs.py",
        "rows = _joined([self._between(run, bound) for run in runs], oldest_us)",
        "rows = _joined([self._between(run, bound) for run in runs[1:]], oldest_us)",
    ),
    "the greatest hash of an eighth is left out": (
        "whatever",
        "stores/runs.py",
        'high = np.searchsorted(hashes, np.uint64(bound), side="right")',
        "high = np.searchsorted(hashes, np.uint64(bound)) - 1",
    ),
    "chunks go that have entries left": (
        "whatever",
        "stores/runs.py",
        "for chunk in range(_chunk_of(firsts, run.first), _chunk_of(firsts, left.first)):",
        "for chunk in range(_chunk_of(firsts, run.first), _chunk_of(firsts, left.first) + 1):",
    ),
    "chunks of what was taken out stay": (
        "once",
        "stores/runs.py",
        "            self._txn.delete(IDS, self._key(run, chunk))\n        self._runs[",
        "            pass\n        self._runs[",
    ),
    "a part of the hashes is a depth deeper than it is": (
        "whatever",
        "stores/runs.py",
        "            self._write(rows, first, depth)\n",
        "            self._write(rows, first, depth + 1)\n",
    ),
    "seven runs are divided": (
        "few",
        "stores/runs.py",
        "        left, firsts = run.without(bound), self._index(run).firsts\n",
        "        left, firsts = run.without(bound + (run.number % 8 == 7)), self._index(run).firsts\n",
    ),
    "what was divided is not divided again": (
        "few",
        "stores/runs.py",
        "if (run.depth or run.entries >= _LARGEST) and run.depth < _DEEPEST:",
        "if run.entries >= _LARGEST and not run.depth:",
    ),
    "a stretch of hashes has only the runs that begin there": (
        "whatever",
        "stores/run_filters.py",
        "        covers = (spans[:, 0] <= starts[:, None]) & (starts[:, None] <= lasts)\n",
        "        covers = (spans[:, 0] == starts[:, None]) & (starts[:, None] <= lasts)\n",
    ),
    "no room for hits, and nobody asks again": (
        "whatever",
        "stores/run_filters.py",
        "        if found > len(hits):\n",
        "        if found < 0:\n",
    ),
    "runs of the first version are of one hash": (
        "first",
        "stores/runs.py",
        "return [_run_of(row + _ROW.pack(*[0] * 6)[_IDENTITY:]) for row in rows]",
        "return [_run_of(row + _ROW.pack(*[0] * 5, 1)[_IDENTITY:]) for row in rows]",
    ),
}


@pytest.mark.slow
def test_the_library_itself_passes(library: Path) -> None:
    chosen = " or ".join(f"({tests[2]})" for tests in TESTS.values())
    done = judge(library, [DEDUPE, "-k", chosen])
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_mistake_is_caught(library: Path, name: str) -> None:
    which, place, right, wrong = MUTANTS[name]
    require_caught(library, TESTS[which], place, right, wrong)
