"""A planted one-line mistake in what becomes of requests that nobody answers in time is caught; as in `test_admission_mutants`."""

from pathlib import Path

import pytest

from tests.laws.planted import judge, require_caught

UNIT = "tests/unit/serving"
GATE = [f"{UNIT}/test_gate_heads.py"]
LEISURE = [f"{UNIT}/test_moving.py", "-k", "leisure"]
HISTORIES = [f"{UNIT}/test_histories.py", "-k", "leisure"]
CONNECTION = [f"{UNIT}/test_connection.py", "-k", "gave_up"]

MUTANTS = {
    "who is let in counts for nothing until the body is there": (
        GATE,
        "serving/gate.py",
        "            self.admission.expect(ticket, now_s)\n",
        "",
    ),
    "a head without a body holds its place for ever": (
        GATE,
        "serving/admission.py",
        "            if now_s - self._coming[first] <= _COMING_S:\n",
        "            if now_s >= self._coming[first]:\n",
    ),
    "who gave up is answered": (
        CONNECTION,
        "serving/connection.py",
        "    return state == _CLOSED\n",
        "    return False\n",
    ),
    "the store is written at leisure": (
        LEISURE,
        "serving/mover.py",
        "if made is not None and rotation.settle(*made):",
        "if made is not None and leisure.submit(rotation.settle, *made).result():",
    ),
    "a file is made at leisure however late it is": (
        LEISURE,
        "serving/mover.py",
        "rotation.make() if is_late else",
        "rotation.make() if False else",
    ),
    "who keeps histories takes the processor from the answers": (
        HISTORIES,
        "stores/companion.py",
        "        if at_leisure:\n",
        "        if not at_leisure:\n",
    ),
    "who comes to nothing at leisure is left to it": (
        HISTORIES,
        "serving/histories.py",
        "(self.pressed() or self._is_in_vain())",
        "self.pressed()",
    ),
    "who waits for the disk hears nothing": (
        GATE,
        "serving/gate.py",
        "            self._tell_late(self.admission.late(now_s), now_s)\n",
        "",
    ),
}


@pytest.mark.slow
def test_the_library_itself_passes(library: Path) -> None:
    for tests in (GATE, CONNECTION):
        done = judge(library, tests)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_mistake_is_caught(library: Path, name: str) -> None:
    require_caught(library, *MUTANTS[name])
