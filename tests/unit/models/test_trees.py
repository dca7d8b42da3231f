"""Trees as arrays give LightGBM's bits: for every kind of node, at every threshold, for every row there can be."""

from __future__ import annotations

import re

import lightgbm
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sevenfold.errors import ArtifactError
from sevenfold.models import tree_kernels, trees
from sevenfold.models.trees import Nodes, Trees

QUIET = {"verbosity": -1, "num_threads": 1, "deterministic": True, "min_data_in_bin": 1}
ODD = np.array(
    [
        np.nan,
        np.inf,
        -np.inf,
        0.0,
        -0.0,
        1e-35,
        -1e-35,
        1e-36,
        1e-40,
        -1e-45,
        2e-35,
        3.4e38,
        -3.4e38,
    ],
    np.float32,
)
SETTINGS = st.fixed_dictionaries(
    {
        "objective": st.sampled_from(
            ["lambdarank", "rank_xendcg", "binary", "regression", "regression_l1"]
        ),
        "num_leaves": st.sampled_from([2, 3, 31, 32, 33, 64, 65, 130]),
        "min_data_in_leaf": st.sampled_from([1, 5, 40]),
        "zero_as_missing": st.booleans(),
        "use_missing": st.booleans(),
        "max_bin": st.sampled_from([4, 63, 255]),
        "num_iterations": st.integers(1, 12),
    }
)


def learnable(seed: int, n: int = 400, width: int = 5):
    """Rows with nulls, zeros, small whole numbers and one feature that is known or null alone."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, width)).astype(np.float32)
    x[:, 1] = np.round(x[:, 1] * 2)
    x[rng.random(n) < 0.4, 2] = np.nan
    x[rng.random(n) < 0.5, 3] = 0.0
    x[:, 4] = np.where(rng.random(n) < 0.3, np.nan, 7.0)
    signal = np.nan_to_num(x[:, 0] * 2 + x[:, 1] - x[:, 2] * 3 * (x[:, 3] > 0)) + 2 * np.isnan(
        x[:, 4]
    )
    return x, (signal + rng.normal(size=n) > 1).astype(np.float32)


def train(seed: int = 0, **given) -> tuple[lightgbm.Booster, np.ndarray]:
    """A booster of one's settings, and what it learnt from."""
    x, y = learnable(seed)
    data = lightgbm.Dataset(x, label=y, group=[20] * 20)
    return lightgbm.train(
        {**QUIET, "num_leaves": 31, "num_iterations": 5, **given, "seed": seed}, data
    ), x


def rows_for(text: str, x: np.ndarray, seed: int, n: int = 150) -> np.ndarray:
    """Training rows with values put in: odd ones, and those at, just below and just above thresholds."""
    rng = np.random.default_rng(seed)
    nodes = Nodes.of_text(text)
    rows = x[rng.integers(len(x), size=n)].copy()
    for feature in range(x.shape[1]):
        with np.errstate(over="ignore", under="ignore"):
            near = nodes.threshold[nodes.feature == feature].astype(np.float32)
        sides = [np.nextafter(near, np.float32(side)) for side in (-np.inf, np.inf)]
        pool = np.concatenate([near, *sides, ODD])
        put = rng.random(n) < 0.6
        rows[put, feature] = rng.choice(pool, put.sum())
    return rows


def bits(values: np.ndarray) -> bytes:
    return np.asarray(values, np.float64).tobytes()


def assert_same(booster: lightgbm.Booster, rows: np.ndarray) -> None:
    trees = Trees.of_text(booster.model_to_string())
    assert bits(trees.sums(rows)) == bits(booster.predict(rows, num_threads=1, raw_score=True))
    assert bits(trees.scores(rows)) == bits(booster.predict(rows, num_threads=1))


@settings(max_examples=40, deadline=None)
@given(SETTINGS, st.integers(0, 1000))
def test_scores_are_those_of_lightgbm_to_the_bit(given, seed) -> None:
    booster, x = train(seed, **given)
    assert_same(booster, rows_for(booster.model_to_string(), x, seed))


@pytest.mark.parametrize("n", [0, 1, 2, 3, 15, 16, 17, 33, 127, 128, 129, 300])
def test_any_number_of_rows_has_the_bits_of_each_alone(n) -> None:
    booster, x = train(num_leaves=40, min_data_in_leaf=2)
    trees = Trees.of_text(booster.model_to_string())
    alone = [trees.scores(x[i : i + 1])[0] for i in range(n)]
    assert bits(trees.scores(x[:n])) == bits(np.array(alone))
    assert_same(booster, x[: max(n, 1)])


def test_any_layout_of_the_rows_will_do() -> None:
    booster, x = train()
    trees = Trees.of_text(booster.model_to_string())
    want = bits(trees.scores(x))
    still = x.copy()
    still.flags.writeable = False
    assert bits(trees.scores(np.asfortranarray(x))) == bits(trees.scores(still)) == want
    assert bits(trees.scores(x[::-1])[::-1]) == want
    with pytest.raises(ArtifactError, match="read 5 features"):
        trees.scores(x[:, :4])


def test_a_threshold_between_two_floats_parts_them() -> None:
    """The threshold is a float64 between neighbours: rounded to the nearest float32 it may be the upper one."""
    low = np.float32(1.0)
    high = np.nextafter(low, np.float32(2.0))
    x = np.array([[low], [high]] * 50, np.float32)
    data = lightgbm.Dataset(x, label=x[:, 0] == high)
    booster = lightgbm.train({**QUIET, "objective": "binary"}, data, 1)
    text = booster.model_to_string()
    (threshold,) = Nodes.of_text(text).threshold
    nearer = float(high) - (float(high) - float(low)) / 4
    assert low <= threshold < high
    moved = re.sub(r"threshold=.*", f"threshold={nearer!r}", text)
    assert np.float32(nearer) == high
    assert_same(lightgbm.Booster(model_str=moved), x)


@pytest.mark.parametrize("leaves", [3, 70])
@pytest.mark.parametrize("zeros", [False, True])
def test_few_of_each_kind(leaves, zeros) -> None:
    """A small run over what the drawn cases hold, for the planted mistakes."""
    given = {"num_leaves": leaves, "zero_as_missing": zeros, "min_data_in_leaf": 2}
    booster, x = train(5, num_iterations=3, **given)
    assert_same(booster, rows_for(booster.model_to_string(), x, 5, n=60))


def test_trees_that_are_one_leaf_are_added_too() -> None:
    booster, x = train(objective="regression", min_data_in_leaf=1000)
    assert booster.num_trees() > 0
    assert_same(booster, x)
    short, _ = train(num_leaves=2, min_data_in_leaf=150, objective="regression")
    assert_same(short, rows_for(short.model_to_string(), x, 1))


def test_a_model_without_trees_gives_nothing() -> None:
    text = train()[0].model_to_string(num_iteration=1)
    none = text[: text.index("\nTree=0")] + text[text.index("\nend of trees") :]
    trees = Trees.of_text(none)
    assert trees.scores(np.ones((3, 5), np.float32)).tolist() == [0, 0, 0]


def test_a_null_where_none_was_learnt_is_a_zero() -> None:
    booster, x = train(use_missing=False)
    zeros = np.where(np.isnan(x), np.float32(0), x)
    trees = Trees.of_text(booster.model_to_string())
    assert bits(trees.scores(x)) == bits(trees.scores(zeros))
    assert_same(booster, x)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"objective": "multiclass", "num_class": 3}, "classes"),
        ({"objective": "regression", "reg_sqrt": True}, "changes the sums"),
        ({"objective": "poisson"}, "changes the sums"),
        (
            {"objective": "binary", "boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5},
            "averaged",
        ),
        ({"objective": "regression", "linear_tree": True}, "linear"),
        ({"objective": "binary", "min_data_per_group": 1}, "category"),
    ],
)
def test_what_is_not_done_is_refused_with_the_reason(given, words) -> None:
    x, y = learnable(0)
    x[:, 1] = np.abs(x[:, 1])
    kinds = [1] if words == "category" else "auto"
    if words == "category":
        y = x[:, 1] % 2
    data = lightgbm.Dataset(x, label=y, params={**QUIET, **given}, categorical_feature=kinds)
    booster = lightgbm.train({**QUIET, **given}, data, 3)
    with pytest.raises(ArtifactError, match=words):
        Trees.of_text(booster.model_to_string())


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_text_is_refused_or_scores_within_its_arrays(data) -> None:
    """A number changed, gone or doubled: nothing is read or written beyond an array, whatever it says."""
    text = DAMAGED
    lines = [
        i
        for i, line in enumerate(text.split("\n"))
        if line.startswith(
            ("num_leaves", "split_feature", "threshold", "decision", "left", "right", "leaf_value")
        )
    ]
    parts = text.split("\n")
    at = data.draw(st.sampled_from(lines))
    name, _, values = parts[at].partition("=")
    numbers = values.split(" ")
    nth = data.draw(st.integers(0, len(numbers) - 1))
    new = data.draw(
        st.sampled_from(
            ["", "-1", "0", "1", "7", "-9", "99999999999", "-99999", "nan", "inf", "x", "1e400"]
        )
    )
    numbers[nth] = new
    parts[at] = f"{name}={' '.join(numbers)}"
    try:
        trees = Trees.of_text("\n".join(parts))
    except ArtifactError:
        return
    found = trees.scores(np.zeros((20, 5), np.float32))
    assert np.isfinite(found).all()


DAMAGED = train(num_leaves=40, min_data_in_leaf=1)[0].model_to_string()


@pytest.mark.parametrize(
    "text",
    ["", "tree\n", DAMAGED[: len(DAMAGED) // 4], "tree\nend of trees\n", "tree\n\nend of trees\n"],
)
def test_a_text_that_is_no_model_is_refused(text) -> None:
    with pytest.raises(ArtifactError):
        Trees.of_text(text)


@example([-0.0])
@example([1.0, -0.0, 2.0])
@given(st.lists(st.floats(allow_nan=False), min_size=1))
def test_numbers_are_read_as_they_were_written(values) -> None:
    """As LightGBM writes them, in 17 digits, infinities among them; through JSON or not."""
    told = " ".join(f"{value:.17g}" for value in values)
    thresholds = [{"threshold": told}, {}, {"threshold": ""}, {"threshold": "1.5"}]
    assert bits(trees._numbers(thresholds, "threshold")) == bits(np.array([*values, 1.5]))


def test_nodes_in_a_circle_are_refused() -> None:
    children = re.search(r"left_child=(.*)", DAMAGED).group(1).split()
    for circle in (["0", *children[1:]], [children[0], children[0], *children[2:]]):
        with pytest.raises(ArtifactError, match="reach each of its leaves once"):
            Trees.of_text(DAMAGED.replace(" ".join(children), " ".join(circle), 1))


@given(st.integers(0, 2**32 - 1))
def test_the_lowest_bit_without_compilation(word) -> None:
    want = f"{word:032b}"[::-1].find("1")
    assert tree_kernels._first_bit(np.uint32(word)) == (32 if want < 0 else want)
