"""The logistic model is the minimum of its loss and keeps the statistics of its training rows."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from sevenfold.errors import ArtifactError, InputError
from sevenfold.models.dataset import Dataset
from sevenfold.models.logistic import LogisticModel
from sevenfold.testing.model_suite import sample_dataset

RNG = np.random.default_rng(0)


def simple(x, y, weights=None) -> Dataset:
    names = [f"f{i}" for i in range(np.asarray(x).shape[1])]
    data = Dataset.of(x, y, feature_names=names)
    if weights is None:
        return data
    weights = np.asarray(weights, np.float32)
    return Dataset(
        data.x, data.y, data.groups, data.feature_names, data.request_ids, data.t_us, weights
    )


def test_it_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(3.0, 5.0, size=(500, 3)).astype(np.float32)
    y = rng.random(500) < 1 / (1 + np.exp(-(x[:, 0] - x[:, 1]) / 5))
    model = LogisticModel(l2=0.02).fit(simple(x, y), RNG)
    z = (x.astype(np.float64) - model.centre) / model.scale
    # Its C multiplies the sum of the losses where our l2 stands beside their mean: C = 1 / (n * l2).
    other = LogisticRegression(C=1 / (500 * 0.02), tol=1e-10, max_iter=1000).fit(z, y)
    np.testing.assert_allclose(model.weights[:3], other.coef_[0], atol=2e-6)
    np.testing.assert_allclose(model.intercept, other.intercept_, atol=2e-6)
    np.testing.assert_allclose(model.probabilities(x), other.predict_proba(z)[:, 1], atol=1e-6)


def test_a_worked_example() -> None:
    """One null indicator, no penalty: the odds of each group are those of its labels.

    Known rows: 1 of 4 positive, odds 1/3. Null rows: 2 of 3 positive, odds 2.
    """
    x = [[5.0]] * 4 + [[np.nan]] * 3
    model = LogisticModel(l2=0.0).fit(simple(x, [1, 0, 0, 0, 1, 1, 0]), RNG)
    assert model.scale.tolist() == [1.0]
    known, null = model.scores(np.array([[5.0], [np.nan]], np.float32))
    assert known == pytest.approx(np.log(1 / 3), abs=1e-6)
    assert null == pytest.approx(np.log(2), abs=1e-6)


def test_a_weight_counts_as_repeated_rows() -> None:
    x, y = [[1.0], [2.0], [3.0], [4.0]], [0, 1, 0, 1]
    once = LogisticModel(l2=0.1).fit(simple(x, y), RNG)
    twice = LogisticModel(l2=0.1).fit(simple(x, y, [2, 2, 2, 2]), RNG)
    tilted = LogisticModel(l2=0.1).fit(simple(x, y, [1, 3, 1, 1]), RNG)
    assert once.weights.tolist() == twice.weights.tolist()
    assert tilted.intercept[0] > once.intercept[0]


def test_the_statistics_are_those_of_the_training_rows() -> None:
    data = sample_dataset()
    model = LogisticModel().fit(data, RNG)
    column = data.x[:, 2].astype(np.float64)
    assert model.centre[2] == pytest.approx(np.nanmean(column))
    assert model.scale[2] == pytest.approx(np.nanstd(column))
    shifted = data.x[:50] + np.float32(100)
    assert (model.scores(shifted[:1]) == model.scores(shifted)[:1]).all()


def test_extreme_rows_stay_finite() -> None:
    model = LogisticModel(l2=0.0).fit(simple([[0.0], [1.0], [2.0], [3.0]], [0, 1, 0, 1]), RNG)
    extreme = np.array([[3e38], [-3e38]], np.float32)
    assert np.isfinite(model.scores(extreme)).all()
    assert set(model.probabilities(extreme)) == {0.0, 1.0}


@pytest.mark.parametrize("y", [[0, 0], [1, 1], [0, 2]])
def test_labels_that_cannot_be_odds_are_refused(y) -> None:
    with pytest.raises(InputError, match="needs labels in"):
        LogisticModel().fit(simple([[1.0], [2.0]], y), RNG)


def test_a_forged_array_is_refused_before_memory_is_taken(tmp_path) -> None:
    LogisticModel().fit(sample_dataset(), RNG).save(tmp_path)
    good = (tmp_path / "weights.npy").read_bytes()
    forged = good.replace(b"(10,), }      ", b"(10000000000,)")
    assert forged != good
    (tmp_path / "weights.npy").write_bytes(forged)
    with pytest.raises(ArtifactError, match=r"weights\.npy"):
        LogisticModel.load(tmp_path)


def test_an_array_of_objects_is_never_unpickled(tmp_path) -> None:
    LogisticModel().fit(sample_dataset(), RNG).save(tmp_path)
    np.save(tmp_path / "weights.npy", np.array([{}] * 10, dtype=object), allow_pickle=True)
    with pytest.raises(ArtifactError, match=r"weights\.npy"):
        LogisticModel.load(tmp_path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, -1.0])
def test_a_scale_that_cannot_divide_is_refused(tmp_path, bad) -> None:
    LogisticModel().fit(sample_dataset(), RNG).save(tmp_path)
    np.save(tmp_path / "scale.npy", np.full(5, bad))
    with pytest.raises(ArtifactError, match=r"scale\.npy"):
        LogisticModel.load(tmp_path)
