"""A planted one-line mistake in who may come in, what is taken in and what is loaded is caught by its own tests.

As in `test_mutants`: the library with one line changed, in a process of its own.
"""

from pathlib import Path

import pytest

from tests.laws.planted import judge, require_caught

UNIT = "tests/unit/serving"
TESTS = {
    "guard": [f"{UNIT}/test_guard.py", f"{UNIT}/test_depth.py"],
    "connection": [
        f"{UNIT}/test_connection.py",
        "-k",
        "size or not_waited or unwanted or place_of or busy",
    ],
    "oip": [f"{UNIT}/test_oip.py"],
    "loading": ["tests/unit/registry/test_hostile_models.py"],
}

MUTANTS = {
    "any token is good for any scope": (
        "guard",
        "serving/guard.py",
        "            if scope not in holder.scopes:\n",
        "            if not holder.scopes:\n",
    ),
    "what changes the server is on the port": (
        "guard",
        "serving/routes/table.py",
        'tuple(route for route in ROUTES if route.scope != "admin")',
        "ROUTES",
    ),
    "predictions are open to everybody": (
        "guard",
        "serving/door.py",
        "    return Guard(tokens, (), set(door.hosts)",
        '    return Guard(tokens, {"predict"}, set(door.hosts)',
    ),
    "a revoked token goes on": (
        "guard",
        "serving/tokens.py",
        "        if stamp == self._stamp or self._path is None:\n",
        "        if self._stamp is not None or self._path is None:\n",
    ),
    "the end of a name of a host will do": (
        "guard",
        "serving/guard.py",
        "        if _name_of(host) not in self._hosts:\n",
        "        if not _name_of(host).startswith(tuple(self._hosts)):\n",
    ),
    "tokens can be tried out": (
        "guard",
        "serving/guard.py",
        "            _wait(self._anonymous)  # so",
        "            pass  # so",
    ),
    "brackets in texts close what is open": (
        "guard",
        "serving/depth.py",
        "    steps[np.cumsum(signs == _QUOTE) % 2 == 1] = 0",
        "    steps[np.cumsum(signs == _QUOTE) < 0] = 0",
    ),
    "a head has any number of headers": (
        "connection",
        "serving/connection.py",
        "        self._n_headers += 1\n",
        "        self._n_headers += 0\n",
    ),
    "what is left of a body is waited for": (
        "connection",
        "serving/connection.py",
        "        elif self._head_timer is None:\n            self._start_head_timer()\n\n    def pause",
        "        elif self._head_timer is None:\n            pass\n\n    def pause",
    ),
    "the newest idle connection is closed": (
        "connection",
        "serving/connection.py",
        "next(iter(self._idle), None)",
        "next(reversed(self._idle), None)",
    ),
    "any version is the one that serves": (
        "oip",
        "serving/oip/scoring.py",
        'or version not in (None, "", str(found.version))',
        "or version == ''",
    ),
    "columns in the order in which they came": (
        "oip",
        "serving/oip/scoring.py",
        "[_column(tensors[name]) for name in names]",
        "[_column(tensor) for tensor in tensors.values()]",
    ),
    "bytes that belong to nothing are taken": (
        "oip",
        "serving/routes/oip.py",
        "    if end != len(body):\n",
        "    if end > len(body):\n",
    ),
    "any kind that is known is loaded": (
        "loading",
        "models/loader.py",
        "    if kind not in kinds:\n",
        "    if kind not in KINDS:\n",
    ),
    "a threshold rounded to the nearest": (
        "trees",
        "models/trees.py",
        "    above = rounded.astype(np.float64) > thresholds\n",
        "    above = np.isinf(rounded)\n",
    ),
    "a null is no zero where none was learnt": (
        "trees",
        "models/trees.py",
        "    null = np.where((missing == _MISSING_ZERO) | (missing == _MISSING_NAN), side, 0)\n",
        "    null = side\n",
    ),
    "a zero that is missing stays a zero": (
        "trees",
        "models/trees.py",
        "    zero = np.where(missing == _MISSING_ZERO, side, 0)\n",
        "    zero = np.where(missing == _MISSING_ZERO, 0, 0)\n",
    ),
    "what is nearly zero is not zero": (
        "trees",
        "models/tree_kernels.py",
        "    if size <= np.int32(_TINY):\n",
        "    if size == np.int32(0):\n",
    ),
    "the later word of a tree stands": (
        "trees",
        "models/trees.py",
        "np.repeat(final, nodes.sizes) * BITS - place // BITS * BITS + place % BITS",
        "np.repeat(final - counts + 1, nodes.sizes) * BITS + place // BITS * BITS + place % BITS",
    ),
    "the last rows are not scored": (
        "trees",
        "models/tree_kernels.py",
        "        out[begin : begin + size] = total[:size]\n",
        "        out[begin : begin + size - 1] = total[: size - 1]\n",
    ),
    "a way that differs serves": (
        "paths",
        "models/paths.py",
        "        if difference is None:\n",
        "        if difference is None or path.name == 'near':\n",
    ),
    "the slowest serves": (
        "paths",
        "models/paths.py",
        "    fastest = min(right",
        "    fastest = max(right",
    ),
    "rows beside thresholds are left out of the probe": (
        "paths",
        "models/probe.py",
        "        rows[at, i] = put[at]\n",
        "        rows[at, i] = rows[at, i]\n",
    ),
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
        "        return self.deadline_s - self.scale * self.split.reserve_s\n",
        "        return self.deadline_s\n",
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
        "return Answer(self, request, t_us, budget, rungs_from(self.rungs, allowance.best))",
        "return Answer(self, request, t_us, budget, self.rungs)",
    ),
    "an id may be used for a list that was cut": (
        "stages",
        "serving/service.py",
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
