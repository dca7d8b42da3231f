"""A planted one-line mistake in how a model is scored is caught by its own tests; as in `test_serving_mutants`."""

from pathlib import Path

import pytest

from tests.laws.planted import judge, require_caught

TESTS = {
    "trees": [
        "tests/unit/models/test_trees.py",
        "-k",
        "any_layout or between_two or null_where or one_leaf or circle or few_of_each",
    ],
    "paths": ["tests/unit/models/test_paths.py"],
}

MUTANTS = {
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
