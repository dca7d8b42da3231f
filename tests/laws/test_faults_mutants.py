"""A planted mistake in what a server does when something around it breaks is caught by its own tests."""

from pathlib import Path

import pytest

from tests.laws.planted import require_caught

BLOCKED = ["tests/unit/serving/test_blocked.py"]
ROTATION = [
    "tests/unit/serving/test_rotation.py",
    "-k",
    "any_points or nothing_moves or swept_away",
]
MOVING = [
    "tests/unit/serving/test_moving.py",
    "-k",
    "another_process or killed_server",
]
PRESSED = ["tests/unit/serving/test_moving.py", "-k", "comes_under_pressure"]
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
        "            if is_same and not self._hold(txn) and self._sealed.is_there(file):\n",
        "            if is_same and self._sealed.is_there(file):\n",
    ),
    "a file that was swept away is named": (
        ROTATION,
        "serving/rotation.py",
        "            if is_same and not self._hold(txn) and self._sealed.is_there(file):\n",
        "            if is_same and not self._hold(txn):\n",
    ),
    "what was ended under pressure is begun again at once": (
        PRESSED,
        "serving/moving.py",
        "        is_pressed = eased_s == 0 if self.pid else eased_s < _AT_EASE_S\n",
        "        is_pressed = eased_s == 0\n",
    ),
    "files are swept away while the process of a killed server makes one": (
        MOVING,
        "serving/moving.py",
        "            with self._sealed.alone(), self._store.read() as txn:\n",
        "            with self._store.read() as txn:\n",
    ),
    "a process that moves answers does so beside another": (
        MOVING,
        "serving/mover.py",
        "        with sealed.alone(_ALONE_S):\n",
        "        if sealed is not None:\n",
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_mistake_is_caught(name: str, library: Path) -> None:
    require_caught(library, *MUTANTS[name])
