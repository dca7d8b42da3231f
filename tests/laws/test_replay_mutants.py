"""A planted one-line mistake in how reads of a replay are held and written to their places is caught."""

from pathlib import Path

import pytest

from tests.laws.planted import judge, require_caught

TESTS = [
    "tests/unit/algebra/test_packed.py::test_reads_of_a_replay_are_the_same_however_few_are_held",
    "tests/unit/algebra/test_packed.py::test_reads_of_a_replay_may_come_in_any_order_and_again",
]

MUTANTS = {
    "what is held goes to the places of later reads": (
        "algebra/replay.py",
        "rows, i - n, n)",
        "rows, i - n + 1, n)",
    ),
    "the last that are held are left out": (
        "algebra/replay.py",
        "rows, starts[-1] - n, n)",
        "rows, starts[-1] - n, 0)",
    ),
    "the same instant reads what was held first": (
        "algebra/replay.py",
        "before = (n if n > 0 else len(held_values)) - 1",
        "before = max(n - 1, 0)",
    ),
    "the same instant has the values alone": (
        "algebra/replay.py",
        "held_values[n], held_states[n] = held_values[before], held_states[before]",
        "held_values[n] = held_values[before]",
    ),
    "more is held than there is room for": (
        "algebra/replay.py",
        "            if n == len(held_values):\n",
        "            if n > len(held_values):\n",
    ),
    "the states of a read go to its number": (
        "algebra/replay.py",
        "            states[i_read, rows[first + i]] =",
        "            states[i_read, first + i] =",
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
