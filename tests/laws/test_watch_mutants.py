"""A planted one-line mistake in what tells of changed files is caught by its own tests.

As in `test_mutants`: the library with one line changed, not compiled, in a process of its own. The snippet must occur
exactly once, and the unchanged library must pass.
"""

from pathlib import Path

import pytest

from tests.laws.planted import judge, require_caught

TESTS = {
    "told": ["tests/unit/test_watch.py", "-k", "counted_once or loses_its_name or another_process"],
    "later": ["tests/unit/test_watch.py", "-k", "made_later"],
    "untold": ["tests/unit/test_watch.py", "-k", "not_told_of"],
    "heard": ["tests/unit/test_watch.py", "-k", "event_loop_hears"],
    "trusted": ["tests/unit/test_watch.py", "-k", "nothing_is_told"],
    "followed": ["tests/unit/serving/test_service.py", "-k", "alias_swaps_the_model"],
}
MUTANTS = {
    "a name that is put over another is not told of": (
        "told",
        "watch.py",
        "0x002 | 0x040 | 0x080 | 0x100 | 0x200",
        "0x002 | 0x040 | 0x100 | 0x200",
    ),
    "a file that loses its name is not told of": (
        "told",
        "watch.py",
        "_ITSELF = 0x004 | _AWAY",
        "_ITSELF = 0x400",
    ),
    "a folder that goes away with what is in it is not told of": (
        "told",
        "watch.py",
        "                self._masks[folder] = self._masks.get(folder, 0) | _AWAY\n",
        "                self._masks[folder] = self._masks.get(folder, 0)\n",
    ),
    "a folder that is made later is never watched": (
        "later",
        "watch.py",
        "for path, mask in self._masks.items()]\n",
        "for path, mask in self._masks.items() if self._count == 0]\n",
    ),
    "what the system does not tell of is taken for unchanged": (
        "untold",
        "watch.py",
        "        self._is_whole, self._asked_s = all(told), elapsed_s()\n",
        "        self._is_whole, self._asked_s = any(told), elapsed_s()\n",
    ),
    "an event loop hears nothing": (
        "heard",
        "watch.py",
        "        loop.add_reader(handle, self._hear)\n",
        "",
    ),
    "a loop that no longer hears is believed": (
        "heard",
        "watch.py",
        "            self._is_heard = False\n            if not",
        "            if not",
    ),
    "what is not told of is never looked for": (
        "trusted",
        "watch.py",
        "            if self._is_whole and elapsed_s() - self._counted_s < _TRUSTED_S:\n",
        "            if self._is_whole:\n",
    ),
    "an alias that moves is not followed": (
        "followed",
        "serving/champion.py",
        "        if changes != self._changes:\n",
        "        if self._changes < 0:\n",
    ),
}


@pytest.mark.slow
def test_the_library_itself_passes(library: Path) -> None:
    for tests in TESTS.values():
        done = judge(library, tests)
        assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_mistake_is_caught(library: Path, name: str) -> None:
    which, place, right, wrong = MUTANTS[name]
    require_caught(library, TESTS[which], place, right, wrong)
