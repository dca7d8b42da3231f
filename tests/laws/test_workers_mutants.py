"""A planted one-line mistake between the processes of one server is caught by their own tests.

As in `test_mutants`: the library with one line changed, not compiled, in a process of its own. The snippet must occur
exactly once, and the unchanged library must pass.
"""

from pathlib import Path

import pytest

from tests.laws.planted import judge, require_caught

WORKER = ["tests/unit/serving/test_worker.py", "-k"]
TESTS = {
    "committing": [*WORKER, "while_events_are_being_committed"],
    "clock": [*WORKER, "set_back"],
    "twice": [*WORKER, "one_request"],
    "forgotten": [*WORKER, "forgotten"],
    "declaration": [*WORKER, "another_declaration"],
    "supervisor": ["tests/unit/serving/test_supervisor.py", "-k", "dies_is_started_again"],
    "paused": ["tests/unit/serving/test_supervisor.py", "-k", "stopped_together"],
}

MUTANTS = {
    "events come unannounced": (
        "committing",
        "serving/ingest.py",
        "self.read_us = self.instants.announce(floor)\n",
        "self.read_us = floor\n",
    ),
    "an answer is logged though events have come in before its instant": (
        "clock",
        "serving/worker.py",
        "if not seen(txn, basis.end, draft.prediction.t_us):\n",
        "if draft.prediction.t_us < 0:\n",
    ),
    "two answers to one request": (
        "twice",
        "serving/repeated.py",
        "    if is_answered(txn, draft.prediction.request_id):\n",
        "    if draft.repeated:\n",
    ),
    "who was forgotten unseen stays in memory": (
        "forgotten",
        "serving/worker.py",
        "if len(gone) != now.done - before.done:",
        "if len(gone) > now.done - before.done:",
    ),
    "answers go on by a declaration that serves no more": (
        "declaration",
        "serving/worker.py",
        "        if record != self._record:\n            raise",
        "        if record is None:\n            raise",
    ),
    "what a killed owner has announced stays": (
        "supervisor",
        "serving/supervisor.py",
        "        if child.number == 0:\n            self._tell_gone()\n",
        "        if child.number > 9:\n            self._tell_gone()\n",
    ),
    "who was stopped with the supervisor is taken to hang": (
        "paused",
        "serving/supervisor.py",
        "min(now_s - self._minded_s, _LOOK_S), now_s",
        "now_s - self._minded_s, now_s",
    ),
}


@pytest.mark.slow
def test_the_library_itself_passes(library: Path) -> None:
    files = sorted({file for file, *_ in TESTS.values()})
    chosen = " or ".join(tests[2] for tests in TESTS.values())
    done = judge(library, [*files, "-k", chosen])
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_mistake_is_caught(library: Path, name: str) -> None:
    which, place, right, wrong = MUTANTS[name]
    require_caught(library, TESTS[which], place, right, wrong)
