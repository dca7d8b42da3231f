"""LambdaMART: settings that reach the trees, early stopping, and refusals before training."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from sevenfold.errors import ArtifactError, InputError
from sevenfold.models.lightgbm import LightGBMModel, LightGBMSettings
from sevenfold.testing.model_suite import sample_dataset

SMALL = LightGBMSettings(n_trees=20, min_rows_in_leaf=10)


def fit(settings=SMALL, data=None, validation=None, seed=0) -> LightGBMModel:
    data = sample_dataset() if data is None else data
    return LightGBMModel(settings).fit(data, np.random.default_rng(seed), validation)


def test_importances_are_shares_that_name_the_signal() -> None:
    shares = fit().importances()
    assert sum(shares.values()) == pytest.approx(1.0)
    assert max(shares, key=shares.get) == "signal"
    assert shares["constant"] == shares["never_known"] == 0.0


def test_a_validation_set_stops_the_training() -> None:
    settings = LightGBMSettings(n_trees=300, learning_rate=0.3, min_rows_in_leaf=5, stop_after=5)
    stopped = fit(settings, validation=sample_dataset(seed=1))
    assert 0 < stopped.n_trees < 100
    assert fit(SMALL).n_trees == 20


def test_a_validation_set_with_other_features_is_refused() -> None:
    turned = sample_dataset(seed=1).select(["noise", "signal", "holes", "constant", "never_known"])
    with pytest.raises(InputError, match="in another order"):
        fit(validation=turned)


def test_the_seed_matters_where_chance_is_used() -> None:
    settings = LightGBMSettings(n_trees=10, min_rows_in_leaf=10, feature_share=0.5)
    x = sample_dataset(seed=1).x
    assert (fit(settings, seed=1).scores(x) != fit(settings, seed=2).scores(x)).any()


def test_threads_do_not_change_the_model() -> None:
    x = sample_dataset(seed=1).x
    one, two = (LightGBMSettings(n_trees=2, min_rows_in_leaf=10, num_threads=n) for n in (1, 2))
    assert fit(one).scores(x).tobytes() == fit(two).scores(x).tobytes()


@pytest.mark.parametrize(
    ("y", "words"),
    [(0.5, "whole grades"), (31, "whole grades"), (1, "no order to learn")],
)
def test_labels_without_an_order_are_refused(y, words) -> None:
    data = sample_dataset()
    with pytest.raises(InputError, match=words):
        fit(data=replace(data, y=np.full(len(data), y, np.float32)))


def test_too_long_a_request_is_refused_with_the_remedy() -> None:
    data = sample_dataset(n_requests=1, rows=10_001)
    with pytest.raises(InputError, match="keep all positives and sample the rest"):
        fit(data=data)


def test_no_rows_are_refused() -> None:
    with pytest.raises(InputError, match="no rows"):
        fit(data=sample_dataset().take(np.array([], np.int64)))


def test_trees_of_another_width_are_refused(tmp_path) -> None:
    fit().save(tmp_path)
    file = tmp_path / "model.json"
    file.write_text(file.read_text().replace('"never_known"', '"never_known", "one_more"'))
    with pytest.raises(ArtifactError, match="read 5 features, but 6 are named"):
        LightGBMModel.load(tmp_path)


def edited(text: str, name: str, at: int, value: str) -> str:
    """The text with one number of the first tree exchanged."""

    def exchange(found: re.Match[str]) -> str:
        numbers = found.group(1).split(" ")
        numbers[at] = value
        return f"\n{name}={' '.join(numbers)}"

    return re.sub(rf"\n{name}=(.*)", exchange, text, count=1)


@pytest.mark.parametrize(
    ("name", "at", "value"),
    [
        ("left_child", 0, "99999999"),  # LightGBM itself: the process ends
        ("right_child", 0, "-99999999"),
        ("left_child", 1, "0"),  # a circle: it never ends
        ("split_feature", 0, "99999999"),
        ("split_feature", 0, "-1"),
        ("num_leaves", 0, "3"),
        ("num_leaves", 0, "2000000000"),
        ("num_leaves", 0, "-5"),
        ("num_leaves", 0, "1_0"),
        ("left_child", 0, "1_0"),
        ("left_child", 0, "1e1"),
        ("decision_type", 0, "1"),
        ("num_cat", 0, "1"),
        ("threshold", 0, "nan"),
        ("leaf_value", 0, "inf"),
        ("max_feature_idx", 0, "2"),
        ("max_feature_idx", 0, "400"),
    ],
)
def test_forged_trees_are_refused_before_lightgbm_reads_them(tmp_path, name, at, value) -> None:
    model = fit()
    forged = edited(model.text, name, at, value)
    assert forged != model.text
    replace(model, text=forged).save(tmp_path)
    with pytest.raises(ArtifactError, match="trees"):
        LightGBMModel.load(tmp_path)


def test_a_line_said_twice_is_refused(tmp_path) -> None:
    model = fit()
    twice = re.sub(r"\n(left_child=.*)", r"\n\1\n\1", model.text, count=1)
    replace(model, text=twice).save(tmp_path)
    with pytest.raises(ArtifactError, match="twice"):
        LightGBMModel.load(tmp_path)


@pytest.mark.parametrize("sizes", ["1 2 3", "", "x", "999999999 " * 20])
def test_sizes_that_are_wrong_are_not_believed(tmp_path, sizes) -> None:
    """LightGBM ends the process by a wrong size; the trees themselves are whole."""
    model = fit()
    replace(model, text=re.sub(r"\ntree_sizes=.*", f"\ntree_sizes={sizes}", model.text)).save(
        tmp_path
    )
    x = sample_dataset(seed=1).x
    assert LightGBMModel.load(tmp_path).scores(x).tobytes() == model.scores(x).tobytes()
