"""Learning: a feature that peeks is named and stops training; the gate keeps the baseline where nothing wins."""

from pathlib import Path

import numpy as np
import pytest

import sevenfold as sf
from sevenfold.errors import LeakageError, RunError
from sevenfold.loop.learn import Learner
from sevenfold.models.dataset import Dataset
from sevenfold.registry.manifest import signature
from sevenfold.registry.registry import Registry

EVALUATION = sf.Evaluation(
    primary="ndcg@5", split=sf.Split(train="30 d", valid="3 d", gap="1 d"), slices=["customer"]
)
NAMES = ["honest", "noise", "peek"]


def learner(folder: Path) -> Learner:
    """A learner over an empty registry."""
    return Learner(EVALUATION, Registry(folder / "registry"), {n: n for n in NAMES}, folder / "t")


def dataset(rng: np.random.Generator, requests: int = 120, rows: int = 20) -> Dataset:
    """Requests in which `honest` helps a little and `peek` is the outcome itself."""
    n = requests * rows
    honest = rng.normal(size=n)
    y = (honest + rng.normal(scale=2, size=n) > 2.5).astype(np.float32)
    peek = y + rng.normal(scale=0.01, size=n)
    return Dataset.of(
        np.column_stack([honest, rng.normal(size=n), peek]),
        y,
        groups=[rows] * requests,
        feature_names=NAMES,
        request_ids=[f"r{i}" for i in range(requests)],
        t_us=np.repeat(np.arange(requests) * 86_400_000_000, rows),
    )


@pytest.mark.parametrize(
    "spec",
    [
        sf.LogisticRegression(features=NAMES),
        sf.LightGBM(features=NAMES, n_trees=20, min_rows_in_leaf=5),
    ],
    ids=["logistic", "lightgbm"],
)
def test_a_feature_that_peeks_stops_training_and_is_named(tmp_path: Path, spec) -> None:
    rng = np.random.default_rng(1)
    with pytest.raises(LeakageError, match="by themselves: peek"):
        learner(tmp_path).fit(spec, dataset(rng), rng)


def test_without_the_peek_the_same_rows_train(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    spec = sf.LogisticRegression(features=["honest", "noise"])
    model = learner(tmp_path).fit(spec, dataset(rng), rng)
    assert model.feature_names == ("honest", "noise")


def test_the_training_window_ends_where_it_is_told(tmp_path: Path) -> None:
    rows = dataset(np.random.default_rng(2))

    class Digested:
        training = rows

    found = learner(tmp_path).training_set([Digested()], 100 * 86_400_000_000)  # type: ignore[list-item]
    assert found.t_us.max() < 100 * 86_400_000_000
    assert found.t_us.min() >= 70 * 86_400_000_000
    with pytest.raises(RunError, match="no matured request"):
        learner(tmp_path).training_set([Digested()], 0)  # type: ignore[list-item]


def test_the_gate_keeps_the_baseline_where_the_challenger_does_not_win(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    baseline = rng.beta(2, 4, 400)
    customers = [f"c{i % 150}" for i in range(400)]
    same = {"challenger": baseline + rng.normal(0, 0.05, 400), "baseline": baseline}
    assert not learner(tmp_path).judge(same, customers, {}).promote
    better = {"challenger": baseline + 0.05 + rng.normal(0, 0.05, 400), "baseline": baseline}
    assert learner(tmp_path).judge(better, customers, {}).promote


def test_a_model_is_bound_to_its_feature_set(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    chosen = sf.FeatureSet("honest_ones", 3, ["honest", "noise"])
    spec = sf.LogisticRegression(features=chosen)
    teacher = learner(tmp_path)
    model = teacher.fit(spec, dataset(rng), rng)
    version = teacher.register(spec, model, {}, {"rows": 7}, 0)
    lineage = teacher.registry.get(version).manifest.lineage
    bound = signature(chosen, teacher.hashes)
    assert lineage == {
        "rows": 7,
        "feature_set": {"name": "honest_ones", "version": 3, "hash": bound},
    }
