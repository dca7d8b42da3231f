"""A planted one-line mistake in how files of several streams become one past, or in a read of no events, is caught."""

from pathlib import Path

import pytest

from tests.laws.planted import judge, require_caught

TESTS = {
    "merged": ["tests/unit/sources/test_merged.py"],
    "json": ["tests/unit/sources/test_folder.py", "-k", "array"],
}

MUTANTS = {
    "rows of one instant are in two parts": (
        "merged",
        "sources/merged.py",
        "before = self.known_us < until_us",
        "before = self.known_us <= until_us",
    ),
    "the file that is furthest says how far all are": (
        "merged",
        "sources/merged.py",
        "until_us = min(one.until_us for one in waiting.values())",
        "until_us = max(one.until_us for one in waiting.values())",
    ),
    "rows that are held are lost to the next chunk": (
        "merged",
        "sources/merged.py",
        "self.rows = _joined(self.rows, chunk) if held else chunk",
        "self.rows = chunk",
    ),
    "an array is counted by lines": (
        "json",
        "sources/lines.py",
        'yield _parsed(chunk, at, "element")',
        'yield _parsed(chunk, at, "line")',
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TESTS)
def test_the_library_itself_passes(library: Path, name: str) -> None:
    done = judge(library, TESTS[name])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_mistake_is_caught(library: Path, name: str) -> None:
    tests, *mutant = MUTANTS[name]
    require_caught(library, TESTS[tests], *mutant)
