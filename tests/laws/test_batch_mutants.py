"""A planted one-line mistake in the reads of whole tables is caught by their own tests.

As in `test_serving_mutants`: the library with one line changed, not compiled, in a process of its own.
Nine minutes of one core, so by name only: `scripts/test -m thorough`.
"""

from pathlib import Path

import pytest

from tests.laws.planted import judge, require_caught

UNIT = "tests/unit/batch"
TESTS = [
    *(f"{UNIT}/{name}.py" for name in ("test_backfill", "test_explanation", "test_reader")),
    "-k",
    "however_it_is_cut and not csv or threads or grown or anew or known_of "
    "or any_file and not csv or parts_and_the_events",
]

MUTANTS = {
    "reads of a part are those of the one before": (
        "engines/histories.py",
        "rows[starts[low] : starts[high]]",
        "rows[starts[low] - (low > 0) : starts[high] - (low > 0)]",
    ),
    "a part of a stream is cut one row short": (
        "batch/reader.py",
        "begin += some.num_rows",
        "begin += some.num_rows + (begin + some.num_rows == 1)",
    ),
    "rows beyond the log's end are thought safe": (
        "batch/backfill.py",
        '<= kept["end_us"] + 1',
        '<= kept["end_us"] + 2',
    ),
    "parts of another definition are taken over": (
        "batch/backfill.py",
        'same = kept.get("identity") == identity',
        "same = True",
    ),
    "parts of another spine are taken over": (
        "batch/backfill.py",
        'if _kept(folder).get("spine") != content:',
        "if not _kept(folder):",
    ),
    "a null key is some key": (
        "batch/spine.py",
        "        keys[entity] = texts\n",
        '        keys[entity] = type(texts).of([text or "u1" for text in texts])\n',
    ),
    "the last rows of a file are left out": (
        "batch/table_file.py",
        "{_ROW} < {self._end}",
        "{_ROW} < {self._end} - ({self._end} = {self._table.total})::int",
    ),
}


@pytest.mark.thorough
def test_the_library_itself_passes(library: Path) -> None:
    done = judge(library, TESTS)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.thorough
@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_mistake_is_caught(library: Path, name: str) -> None:
    require_caught(library, TESTS, *MUTANTS[name])
