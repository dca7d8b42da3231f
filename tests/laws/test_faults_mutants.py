"""A planted mistake in what a server does when something around it breaks is caught by its own tests."""

from pathlib import Path

import pytest

from tests.laws.planted import require_caught

BLOCKED = ["tests/unit/serving/test_blocked.py"]
ROTATION = ["tests/unit/serving/test_rotation.py", "-k", "any_points or nothing_moves"]
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
    "answers that count as deleted are read": (
        ROTATION,
        "serving/prediction_log.py",
        "max(begin, file.kept), stop)",
        "begin, stop)",
    ),
    "the request of an answer that was taken out stays known": (
        ROTATION,
        "serving/rotation.py",
        "    for key in gone:\n",
        "    for key in gone[1:]:\n",
    ),
    "a file made before somebody was forgotten takes its place": (
        ROTATION,
        "serving/rotation.py",
        "        if self._hold() or not self._sealed.is_there(file):\n",
        "        if not self._sealed.is_there(file):\n",
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_mistake_is_caught(name: str, library: Path) -> None:
    require_caught(library, *MUTANTS[name])
