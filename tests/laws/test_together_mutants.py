"""A planted one-line mistake in how streams come in together is caught by the tests of it.

As in `test_mutants`: the library with one line changed, not compiled, in a process of its own. The snippet must occur
exactly once, and the unchanged library must pass.
"""

import shutil
from pathlib import Path

import pytest

from tests.laws.planted import ROOT, judge, require_caught

TESTS = ["tests/laws/test_together.py", "-k", "special"]

MUTANTS = {
    "what was refused still moves what comes after it": (
        "serving/together.py",
        "        if (new == before).all():\n",
        "        if len(new) == len(before):\n",
    ),
    "a run becomes known with the one before it": (
        "serving/together.py",
        "known_us.item(last) + 1)",
        "known_us.item(last))",
    ),
    "events that come to one instant stay as they were": (
        "serving/together.py",
        "    place[run] = place[run][order]\n",
        "",
    ),
    "of rows at one instant the earlier is looked up": (
        "engines/rows.py",
        "elif events_us[i - n] >= newest_us[key]:",
        "elif events_us[i - n] > newest_us[key]:",
    ),
}


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A copy of the library to make a mistake in."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src" / "sevenfold", tmp_path / "sevenfold", ignore=ignored)
    return tmp_path


def test_the_unchanged_library_passes(library: Path) -> None:
    done = judge(library, TESTS)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_mistake_is_caught(name: str, library: Path) -> None:
    place, right, wrong = MUTANTS[name]
    require_caught(library, TESTS, place, right, wrong)
