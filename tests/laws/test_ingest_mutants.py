"""A planted one-line mistake in how histories are cut where the log begins is caught by its own tests.

As in `test_mutants`: the library with one line changed, not compiled, in a process of its own. The snippet must occur
exactly once, and the unchanged library must pass.
"""

import shutil
from pathlib import Path

import pytest

from tests.laws.planted import ROOT, judge, require_caught

TESTS = ["tests/unit/stores/test_kept_history.py", "-k", "left or wholly"]

MUTANTS = {
    "the first event that stays is cut off": (
        "stores/trim.py",
        "stays = batch.known_us >= from_us",
        "stays = batch.known_us > from_us",
    ),
    "a history begins where the log no longer does": (
        "stores/history.py",
        "chain = _Chain([], start=departed(txn, stream).position)",
        "chain = _Chain([])",
    ),
    "what awaits its cut is deleted": (
        "stores/history.py",
        "if segment.start < chain.start and segment.stop > chain.stop:",
        "if segment.start < chain.start and segment.stop < chain.stop:",
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
