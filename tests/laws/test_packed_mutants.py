"""A planted one-line mistake in how states are kept is caught; uncompiled, so that a word read or written outside of an array is an error."""

from pathlib import Path

import pytest

from tests.laws.planted import judge, require_caught

TESTS = ["tests/unit/algebra/test_tiles.py"]

MUTANTS = {
    "a damaged state has more room than it had": (
        "algebra/packed.py",
        "        if at > most:\n",
        "        if at < 0:\n",
    ),
    "what a damaged state takes is written over what lies behind": (
        "algebra/packed.py",
        "np.empty(room + layout.most, dtype=np.int64)",
        "np.empty(room, dtype=np.int64)",
    ),
    "no room is kept for a state that is new": (
        "algebra/packed.py",
        "max(end - begin, least)",
        "(end - begin)",
    ),
    "a state may end before it does": (
        "algebra/packed.py",
        "return bool(at == end)",
        "return bool(at <= end)",
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
