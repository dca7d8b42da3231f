"""A planted one-line mistake in the stages of an answer is caught by its own tests; as in `test_serving_mutants`."""

from pathlib import Path

import pytest

from tests.laws.planted import judge, require_caught

UNIT = "tests/unit/serving"
TESTS = {
    "stages": [f"{UNIT}/test_pipeline.py", f"{UNIT}/test_rungs.py"],
    "reranking": [f"{UNIT}/test_reranking.py", f"{UNIT}/test_budget.py"],
    "beside": ["tests/unit/retrieval/test_beside.py"],
    "caches": [f"{UNIT}/test_caches.py"],
}

MUTANTS = {
    "a slate lives as long as its ttl and longer": (
        "caches",
        "serving/caches.py",
        "not 0 <= t_us - found.t_us < self._ttl_us",
        "not 0 <= t_us - found.t_us <= self._ttl_us",
    ),
    "a slate of the version before": (
        "caches",
        "serving/caches.py",
        "    return version, k, tuple(sorted(keys.items()))\n",
        "    return 0, k, tuple(sorted(keys.items()))\n",
    ),
    "a kept slate is not filtered again": (
        "caches",
        "serving/answer.py",
        "        must = self.shared.filters.that_must()\n",
        "        must = Filters(())\n",
    ),
    "states of another process's events stay": (
        "caches",
        "engines/hot.py",
        "        if now != self._as_of:\n",
        "        if self._as_of < 0:\n",
    ),
    "states that events have touched stay": (
        "caches",
        "engines/hot.py",
        "                    state = self._states.pop(key, None)\n",
        "                    state = None\n",
    ),
    "a null passes every filter": (
        "reranking",
        "serving/filtering.py",
        "    stays = ~null\n",
        "    stays = np.ones(len(column), dtype=np.bool_)\n",
    ),
    "a cap counts what it has put back": (
        "reranking",
        "serving/reranking.py",
        "            over.append(rows[at])\n",
        "            over.append(rows[at])\n            at += 1\n",
    ),
    "likeness to the last item only": (
        "reranking",
        "serving/reranking.py",
        "        nearest = np.maximum(nearest, (rows * rows[best]).sum(axis=1))\n",
        "        nearest = (rows * rows[best]).sum(axis=1)\n",
    ),
    "the reserve is spent on stages": (
        "reranking",
        "serving/budget.py",
        "            end_s = self.deadline_s - scale * self.split.reserve_s\n",
        "            end_s = self.deadline_s\n",
    ),
    "a filter that must hold is skipped when late": (
        "stages",
        "serving/answer.py",
        "            filters = filters.that_must()\n",
        "            filters = Filters(())\n",
    ),
    "nulls are logged as what was read": (
        "stages",
        "serving/answer.py",
        "            return None, self._without_features(found)\n",
        "            made = shared.unread(self._spine(found))\n"
        "            return made, self._without_features(found)\n",
    ),
    "a cap on the rung is not heard": (
        "stages",
        "serving/answer.py",
        "made = Answer(self, request, t_us, budget, rungs_from(self.rungs, allowance.best))",
        "made = Answer(self, request, t_us, budget, self.rungs)",
    ),
    "an id may be used for a list that was cut": (
        "stages",
        "serving/repeated.py",
        "items_digest(items) == given.asked",
        "items[: len(given.items)] == given.items",
    ),
    "events pass a generator that is at work": (
        "beside",
        "retrieval/beside.py",
        "            self._waiting.append(batch)\n",
        "            self._waiting = [batch]\n            self._waiting.clear()\n",
    ),
    "codes in the order in which generators come back": (
        "beside",
        "retrieval/beside.py",
        "            if batch.stream == self._place.stream:\n",
        "            if batch.stream == self._place.item:\n",
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
