"""A planted one-line mistake in the log of states is caught by its own tests.

As in `test_mutants`: the library with one line changed, not compiled, in a process of its own. The snippet must occur
exactly once, and the unchanged library must pass.
"""

from pathlib import Path

import pytest

from tests.laws.planted import judge, require_caught

LOG = "tests/unit/stores/test_state_log.py"
# Told without the arguments of what failed: one of them is all of the process's memory.
PLAIN = "--tb=native"
TESTS = {
    "machine": [LOG, "-k", "whatever_happens and 0", PLAIN],
    "failing": [LOG, "-k", "fails_leaves_nothing and False-say", PLAIN],
    "grown": [LOG, "-k", "whatever_happens and 2", PLAIN],
    "large": [LOG, "-k", "large_commits", PLAIN],
    "standing": [LOG, "-k", "who_stands", PLAIN],
    "thrown": [LOG, "-k", "thrown_away", PLAIN],
    "power": [LOG, "-k", "loss_of_power", PLAIN],
    "read": [LOG, "-k", "is_looked_at", PLAIN],
}

MUTANTS = {
    "states are read without the tail": (
        "failing",
        "stores/state_records.py",
        "        if address < tail:\n            return at\n",
        "        return at\n",
    ),
    "what a commit that failed had set is not set back": (
        "failing",
        "stores/state_upkeep.py",
        "        if address != memory[slot + 1]:\n            memory[slot + 1] = address\n",
        "        if address != memory[slot + 1]:\n",
    ),
    "a stretch that a reader may stand in is used twice": (
        "standing",
        "stores/state_recovery.py",
        "    commit.end = published\n",
        "    commit.end = tail\n",
    ),
    "copies come after what is new": (
        "large",
        "stores/state_transaction.py",
        "        clean(commit, pending.n_words)  # first: of two records of a key the later holds\n        commit.put(pending)\n",
        "        commit.put(pending)\n        clean(commit, pending.n_words)\n",
    ),
    "a segment is used again while it is read": (
        "machine",
        "stores/state_log.py",
        "        return int(min(numbers))\n",
        "        return int(numbers[0])\n",
    ),
    "a deletion goes while there is something older": (
        "thrown",
        "stores/state_upkeep.py",
        "LOW != 0 or not oldest\n",
        "LOW != 0\n",
    ),
    "a part that has grown says nothing of before": (
        "grown",
        "stores/state_upkeep.py",
        "        memory[new + 2 * at + 1] = address\n        n += 1\n",
        "        n += 1\n",
    ),
    "bytes of small commits are forgotten before they are on disk": (
        "power",
        "stores/state_commit.py",
        "            self.txn.put(tail_key(self._runs[0][0]), self._small, db=self.log.table)\n",
        "            pass\n",
    ),
    "a record is not looked at": (
        "read",
        "stores/state_records.py",
        "return bool(size <= room and seal(memory, at, at + size, address) == memory[at + 1] & ~LOW)",
        "return bool(size <= room)",
    ),
    "what a view puts a second time takes the place of all it put": (
        "machine",
        "stores/state_pending.py",
        "        if self._ends or prefix in self._kept:\n",
        "        if self._ends:\n",
    ),
    "a key's slot is that of the first": (
        "machine",
        "stores/state_upkeep.py",
        "        slot = slots[i] if slots.shape[0] else UNKNOWN\n",
        "        slot = slots[0] if slots.shape[0] else UNKNOWN\n",
    ),
    "a table of parts that never were is taken for sound": (
        "failing",
        "stores/state_recovery.py",
        "return told == (head.tail, sum(view.layout.generations))",
        "return told is not None",
    ),
}


@pytest.mark.slow
def test_the_library_itself_passes(library: Path) -> None:
    files = sorted({file for file, *_ in TESTS.values()})
    chosen = " or ".join(f"({tests[2]})" for tests in TESTS.values())
    done = judge(library, [*files, "-k", chosen, PLAIN])
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_mistake_is_caught(library: Path, name: str) -> None:
    which, place, right, wrong = MUTANTS[name]
    require_caught(library, TESTS[which], place, right, wrong)
