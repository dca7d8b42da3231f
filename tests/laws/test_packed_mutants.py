"""A planted one-line mistake in how states are kept is caught; uncompiled, so that a word read or written outside of an array is an error."""

from pathlib import Path

import pytest

from tests.laws.planted import judge, require_caught

TESTS = ["tests/unit/algebra/test_tiles.py", "tests/unit/algebra/test_damaged.py"]

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
    "a level has one tile more than there is room for": (
        "algebra/update.py",
        "    if n >= tables.levels[level, 4]:\n        return -1\n",
        "",
    ),
    "a section has one entry more than there is room for": (
        "algebra/counted.py",
        "    if state[offset] >= capacity:\n        return\n",
        "",
    ),
    "a sketch has one entry more than there is room for": (
        "algebra/cardinality.py",
        "    if needed and kept < most:",
        "    if needed:",
    ),
    "an entry may name a register that there is not": (
        "algebra/cardinality.py",
        "            if 0 <= entry >> 6 < len(registers):",
        "            if 0 <= entry >> 6:",
    ),
    "an entry may have a rank that there is not": (
        "algebra/cardinality.py",
        "ranks[min(registers[i], most)] += 1",
        "ranks[registers[i]] += 1",
    ),
    "an entry may name a bucket that there is not": (
        "algebra/counted.py",
        "                if not 1 <= abs(bucket) <= buckets[1]:\n                    return np.nan\n",
        "",
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
