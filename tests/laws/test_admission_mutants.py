"""A planted one-line mistake in who is let in, and at what quality, is caught; as in `test_serving_mutants`."""

from pathlib import Path

import pytest

from tests.laws.planted import judge, require_caught

UNIT = "tests/unit/serving"
ADMISSION = [f"{UNIT}/test_admission.py", "-k", "time_bounds or class_goes or idle or commit"]
LADDER = [f"{UNIT}/test_ladder.py", "-k", "swing or comes_and_goes or empty_answer or left_out"]
GATE = [f"{UNIT}/test_gate.py", "-k", "between_two_turns or goes_away or too_long"]

MUTANTS = {
    "a queue without a bound": (
        ADMISSION,
        "serving/admission.py",
        "        if now_s - ticket.arrived_s + needed_s > allowed_s:\n",
        "        if needed_s < 0:\n",
    ),
    "the low class goes first": (
        ADMISSION,
        "serving/admission.py",
        "        return next(line[0] for line in self.lines if line)\n",
        "        return next(line[0] for line in self.lines[::-1] if line)\n",
    ),
    "a group that was idle has saved up time": (
        ADMISSION,
        "serving/admission.py",
        "            group.had_s = max(group.had_s, other.had_s)\n",
        "            pass\n",
    ),
    "a commit is no work": (
        ADMISSION,
        "serving/costs.py",
        "        return (work_s + turns * self.fixed_s) * self.overhead\n",
        "        return work_s * self.overhead\n",
    ),
    "up again without a hold": (
        LADDER,
        "serving/ladder.py",
        "        elif now_s - wish.since_s >= self._hold_s:\n",
        "        elif now_s >= wish.since_s:\n",
    ),
    "load leads to an empty answer": (
        LADDER,
        "serving/ladder.py",
        'max(0, len(rungs) - (2 if rungs[-1] == "empty" else 1))',
        "max(0, len(rungs) - 1)",
    ),
    "one failure breaks a stage": (
        LADDER,
        "serving/ladder.py",
        "        if self._times >= _FAULTS:\n",
        "        if self._times >= 1:\n",
    ),
    "a turn right after a turn": (
        GATE,
        "serving/gate.py",
        "        self._rounds = _ROUNDS\n",
        "        self._rounds = 1\n",
    ),
    "who goes away keeps the turn": (
        GATE,
        "serving/gate.py",
        "            elif ticket in self._turn:\n                self.leave(ticket)\n",
        "",
    ),
}


@pytest.mark.slow
def test_the_library_itself_passes(library: Path) -> None:
    for tests in (ADMISSION, LADDER, GATE):
        done = judge(library, tests)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_mistake_is_caught(library: Path, name: str) -> None:
    require_caught(library, *MUTANTS[name])
