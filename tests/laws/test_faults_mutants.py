"""A planted mistake in what a server does when something around it breaks is caught by its own tests."""

from pathlib import Path

import pytest

from tests.laws.planted import require_caught

BLOCKED = ["tests/unit/serving/test_blocked.py"]
MUTANTS = {
    "what a client sends is a fault of a stage": (
        BLOCKED,
        "serving/problem.py",
        "    if isinstance(error, HttpError):\n        return error\n    text",
        "    text",
    ),
    "writes go to a file that has lost its name": (
        ["tests/unit/stores/test_room.py"],
        "stores/lmdb.py",
        "if _identity(self._file) != self._identity:",
        "if False:",
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_mistake_is_caught(name: str, library: Path) -> None:
    require_caught(library, *MUTANTS[name])
