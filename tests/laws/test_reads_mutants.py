"""A planted one-line mistake in how states are found is caught by the tests of stores and of states at rest.

As in `test_mutants`: the library with one line changed, in a process of its own.
"""

from pathlib import Path

import pytest

from tests.laws.planted import judge, require_caught

PAGES = "tests/unit/stores/test_lmdb_pages.py"
TESTS = {
    "pages": [PAGES, "-k", "1500-60"],
    "packed": ["tests/unit/algebra/test_tiles.py", "-k", "damaged"],
    "tiles": ["tests/unit/algebra/test_tiles.py", "-k", "what_lies_there"],
    "redis": ["tests/conformance/stores/test_redis.py", "-k", "keeps_its_snapshot or as_words"],
}

MUTANTS = {
    "a key that is not there has its neighbour's value": (
        "pages",
        "stores/lmdb_pages.py",
        "return -int(node) if _is_key(words, node, key) else 0",
        "return -int(node)",
    ),
    "a damaged state is read": (
        "packed",
        "algebra/packed.py",
        "not _is_whole(tables, state, start, end >> 3, offsets):\n",
        "not (_is_whole(tables, state, start, end >> 3, offsets) or key >= 0):\n",
    ),
    "four tiles are passed over when the first of them is out of the window": (
        "tiles",
        "algebra/spans.py",
        "_after(packed, entries, bits, first + a_word - 1) * hop",
        "_after(packed, entries, bits, first) * hop",
    ),
    "what is committed later is seen by who began before": (
        "redis",
        "stores/redis.py",
        "                    self._unasked.ask_all()\n",
        "",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("part", TESTS)
def test_the_library_itself_passes(library: Path, part: str) -> None:
    done = judge(library, TESTS[part])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_mistake_is_caught(library: Path, name: str) -> None:
    part, place, right, wrong = MUTANTS[name]
    require_caught(library, TESTS[part], place, right, wrong)
