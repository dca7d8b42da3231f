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
        "size and 5000",
    ],
    "exchange": [f"{UNIT}/test_exchange.py", "-k", "not cut and not parser"],
    "parser": [f"{UNIT}/test_exchange.py", "-k", "every_cut or together or parser"],
    "oip": [f"{UNIT}/test_oip.py"],
    "loading": ["tests/unit/registry/test_hostile_models.py"],
}

MUTANTS = {
    "what comes behind a request that is known is lost": (
        "parser",
        "serving/connection.py",
        "            return data[rest:]\n",
        '            return b""\n',
    ),
    "the end of a body that came by itself is taken for a request": (
        "parser",
        "serving/connection.py",
        "        self._left -= len(part)\n",
        "        self._left = 0\n",
    ),
    "a head that ends the connection is known as one that does not": (
        "exchange",
        "serving/connection.py",
        "        if is_plain and keeps and self._is_learning:\n",
        "        if is_plain and self._is_learning:\n",
    ),
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
        "        if _name_of(host) in self._hosts:\n",
        "        if _name_of(host).startswith(tuple(self._hosts)):\n",
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
        " or len(self.headers) > self.limits.headers:\n",
        ":\n",
    ),
    "a body that comes with its head is in nobody's count": (
        "exchange",
        "serving/exchange.py",
        "            self._answers.bodies.check(len(body))\n",
        "            pass\n",
    ),
    "a body has one byte more than it may": (
        "exchange",
        "serving/bodies.py",
        "        if self._size + size > self._limit:\n",
        "        if self._size + size > self._limit + 1:\n",
    ),
    "what a client that went away has sent is held for ever": (
        "exchange",
        "serving/exchange.py",
        "        if self._body is not None:\n            self._body.drop()\n        self._stop_waiting()\n        self._reply(self._answers.refuse",
        "        self._stop_waiting()\n        self._reply(self._answers.refuse",
    ),
    "a header of an answer may end its head": (
        "exchange",
        "serving/reply_heads.py",
        "    for name, value in headers:\n",
        "    for name, value in ():\n",
    ),
    "what came behind the last request is heard": (
        "exchange",
        "serving/connection.py",
        "        if self.transport.is_closing():\n            self.cycle = _OVER  #",
        "        if self.transport is None:\n            self.cycle = _OVER  #",
    ),
    "all that came at once is answered in one go": (
        "exchange",
        "serving/exchange.py",
        "            line.answers_at_once = False\n",
        "            line.answers_at_once = True\n",
    ),
    "a server that ends does not wait for bodies": (
        "exchange",
        "serving/exchange.py",
        "        line.server_state.tasks.add(self)  # type",
        "        line.server_state.tasks.discard(self)  # type",
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
