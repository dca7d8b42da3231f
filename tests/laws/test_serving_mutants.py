"""A planted one-line mistake in a change, an audit, a retention or a deletion is caught by its own tests.

As in `test_mutants`: the library with one line changed, not compiled, in a process of its own. The snippet must occur
exactly once, and the unchanged library must pass.
"""

from pathlib import Path

import pytest

from tests.laws.planted import judge, require_caught

UNIT = "tests/unit/serving"
TESTS = {
    "backfill": [f"{UNIT}/test_backfill.py", f"{UNIT}/test_changing.py"],
    "audit": [f"{UNIT}/test_audit.py"],
    "forgetting": [f"{UNIT}/test_forgetting.py"],
    "retention": [f"{UNIT}/test_retention.py"],
    "lineage": ["tests/unit/spec/test_lineage.py"],
    "schema": [f"{UNIT}/test_schema.py"],
    "history": [
        "tests/unit/stores/test_kept_history.py",
        "-k",
        "not no_damage and not few_times and not long_log",
    ],
    "damage": ["tests/unit/stores/test_kept_history.py", "-k", "flipped and (known_us or starts)"],
    "gathering": [f"{UNIT}/test_gathering.py"],
}

MUTANTS = {
    "events credited to another's post": (
        "gathering",
        "serving/ingest.py",
        "        return kept, order[new]\n",
        "        return kept, np.flatnonzero(new)\n",
    ),
    "a refused row is told to every post beside it": (
        "gathering",
        "serving/ingest.py",
        "            if not checked.letters:\n",
        "            if checked.rows is not None:\n",
    ),
    "a post at fault takes the others with it": (
        "gathering",
        "serving/gathering.py",
        "            if len(now) == 1:\n                _refuse(now[0][1], error)\n",
        "            if len(now) >= 1:\n                for _, outcome in now:\n                    _refuse(outcome, error)\n",
    ),
    "what waits beyond a commit is forgotten": (
        "gathering",
        "serving/gathering.py",
        "        now, self._waiting = self._waiting[:n], self._waiting[n:]\n",
        "        now, self._waiting = self._waiting, []\n",
    ),
    "a slice seen again": (
        "backfill",
        "serving/backfill.py",
        "            seen[name] = max(at, stop)\n",
        "            seen[name] = max(at, stop - 1)\n",
    ),
    "kept before the log's end": (
        "backfill",
        "serving/backfill.py",
        "        if done == end:\n",
        "        if done >= end - 1:\n",
    ),
    "the slice goes past a view that is further": (
        "backfill",
        "serving/backfill.py",
        "stop = min([end, start + limit, *(at for at in seen.values() if at > start)])",
        "stop = min([end, start + limit])",
    ),
    "a view left out is taken for one that saw all": (
        "backfill",
        "serving/backfill.py",
        "        txn.put(META, _BEHIND + name, here)\n",
        "        txn.put(META, _BEHIND + name, bytes(8))\n",
    ),
    "freed before the grace": (
        "backfill",
        "serving/backfill.py",
        "if _since(value) + grace_us <= now_us",
        "if _since(value) <= now_us",
    ),
    "states that are being freed are filled on": (
        "backfill",
        "serving/backfill.py",
        "            if txn.get(META, _FREEING + view.view_id) is not None:\n",
        "            if txn.get(META, _FREEING + view.view_id) == b'x':\n",
    ),
    "new states miss the events after the last slice": (
        "backfill",
        "serving/changing.py",
        "views = (more.views if more else {}) | self._current.views",
        "views = dict(self._current.views)",
    ),
    "switched though the model cannot read it": (
        "backfill",
        "serving/changing.py",
        "obstacle = None if target.force else self._obstacle(target.definition)",
        "obstacle = None",
    ),
    "a writer of another definition is let in": (
        "backfill",
        "serving/ingest.py",
        "        if kept_views(txn) != self._ids:\n",
        "        if not kept_views(txn):\n",
    ),
    "the audit walks only the first slice": (
        "audit",
        "serving/audit.py",
        "                over = end == position(txn)\n",
        "                over = True\n",
    ),
    "the audit begins anew in each process": (
        "audit",
        "serving/audit.py",
        "        self._until_us = self.totals.until_us\n",
        "        self._until_us = 0\n",
    ),
    "vectors of other definitions are compared": (
        "audit",
        "serving/audit.py",
        "if found is not None and prediction.features == mine:",
        "if found is not None:",
    ),
    "what a smaller round left is never compared": (
        "audit",
        "serving/audit.py",
        "            self._until_us = done.until_us + 1\n",
        "            pass\n",
    ),
    "composite states of the forgotten stay": (
        "forgetting",
        "serving/forgetting.py",
        "            if order.entity in view.entities:\n",
        "            if (order.entity,) == view.entities:\n",
    ),
    "states that read of the forgotten stay": (
        "forgetting",
        "serving/forgetting.py",
        '            txn.put_many(META, [(_AFFECTED + key, b"") for key in affected])\n',
        "            pass\n",
    ),
    "personal fields stay": (
        "forgetting",
        "serving/forgetting.py",
        "if mine.any() else {}\n",
        "if not mine.any() else {}\n",
    ),
    "event ids of the forgotten stay": (
        "forgetting",
        "serving/forgetting.py",
        "        names[row] = drawn[16 * i : 16 * i + 16].hex()\n",
        "        pass\n",
    ),
    "a key that another begins with goes too": (
        "forgetting",
        "serving/forgetting.py",
        "(np.diff(column.offsets) == len(raw))",
        "(np.diff(column.offsets) >= len(raw))",
    ),
    "a change goes on filling while someone is forgotten": (
        "forgetting",
        "serving/changing.py",
        "            if self.hold():\n",
        "            if not self.hold:\n",
    ),
    "events leave too early": (
        "retention",
        "serving/retention.py",
        "            if self._drop_events(stream, now_us - kept_us):\n",
        "            if self._drop_events(stream, now_us - kept_us // 2):\n",
    ),
    "a block that is old in part stays whole": (
        "retention",
        "serving/retention.py",
        "                if old < len(batch):\n",
        "                if old < len(batch) - 1_000:\n",
    ),
    "the hop is not counted": (
        "retention",
        "spec/check_data.py",
        "        reaches.append(window_us + hop_us)\n",
        "        reaches.append(window_us)\n",
    ),
    "personal data does not pass through functions": (
        "lineage",
        "spec/lineage.py",
        'source.kind in ("stream", "view")',
        'source.kind in ("stream", "view", "feature")',
    ),
    "a filter is not read": (
        "lineage",
        "spec/lineage.py",
        "shared = _ids(below.stream, _read(below.where))",
        "shared: list[str] = []",
    ),
    "a history of a rewritten log is read": (
        "history",
        "stores/history.py",
        "origin.generation != generation(txn) or segment.stop > position(txn)",
        "segment.stop > position(txn)",
    ),
    "a history that goes beyond the log is read": (
        "history",
        "stores/history.py",
        "origin.generation != generation(txn) or segment.stop > position(txn)",
        "origin.generation != generation(txn)",
    ),
    "an older log that went on otherwise is not told": (
        "history",
        "stores/history.py",
        "if here is not None and int(here[1].known_us[0]) != origin.known_us:",
        "if here is None:",
    ),
    "segments behind a gap are read as if there were none": (
        "history",
        "stores/history.py",
        "            if segment.start == chain.stop:\n",
        "            if segment.start >= chain.stop:\n",
    ),
    "a gap waits for a head": (
        "history",
        "stores/history.py",
        "if chain.next_start is not None or end - chain.stop >= head_events:",
        "if end - chain.stop >= head_events:",
    ),
    "a segment is deleted under its reader": (
        "history",
        "stores/segment.py",
        "    if not force and is_held(path / _META):\n",
        "    if not path.exists():\n",
    ),
    "half-written segments stay": (
        "history",
        "stores/history.py",
        '        if path.name.startswith("."):  # half-written, or half-deleted\n            shutil.rmtree(path)\n            return True\n',
        '        if path.name.startswith("."):\n            return False\n',
    ),
    "what is read is not compared": (
        "damage",
        "stores/sealed.py",
        "            if seal(raw) != self._sums[name][piece]:\n",
        "            if not len(raw):\n",
    ),
    "a category may be put in another order": (
        "schema",
        "serving/schema.py",
        "    if values[: len(known)] != known:\n",
        "    if set(values[: len(known)]) != set(known):\n",
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
