"""Of the ways to score a model, the fastest of those that give the stored bits serves; the others say why not."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from sevenfold.errors import ArtifactError
from sevenfold.models.artifact import MODEL_FILE
from sevenfold.models.lightgbm import LightGBMModel, LightGBMSettings
from sevenfold.models.loader import load_model
from sevenfold.models.paths import ScoringPath, choose, choose_among, paths_of
from sevenfold.models.probe import MOST_ROWS, Probe
from sevenfold.models.rule import RuleModel
from sevenfold.models.trees import Nodes
from sevenfold.testing.model_suite import sample_dataset


@pytest.fixture(scope="module")
def fitted() -> LightGBMModel:
    settings = LightGBMSettings(n_trees=20, min_rows_in_leaf=10)
    return LightGBMModel(settings).fit(sample_dataset(), np.random.default_rng(0))


@pytest.fixture
def saved(fitted, tmp_path):
    fitted.save(tmp_path / "model")
    return tmp_path / "model"


def path(name: str, model: LightGBMModel, add: float = 0.0) -> ScoringPath:
    return ScoringPath(name, lambda x: model.scores(x) + add)


def costs(**seconds: float):
    """A measurement that knows what each path takes."""
    return lambda path, rows: seconds[path.name]


def test_the_fastest_of_the_right_paths_is_taken(fitted) -> None:
    paths = [path("slow", fitted), path("fast", fitted), path("medium", fitted)]
    choice = choose_among(paths, fitted.probe, {}, costs(slow=3.0, fast=1.0, medium=2.0))
    assert choice.path.name == "fast"
    assert choice.seconds == {"slow": 3.0, "fast": 1.0, "medium": 2.0}
    assert choice.refused == {}
    assert choice.told() == "path=fast slow_us=3000000 fast_us=1000000 medium_us=2000000"


def test_what_disturbs_one_call_changes_nothing(fitted) -> None:
    """The fast path is disturbed twice: the least of three calls counts."""
    times = {"fast": iter([90.0, 1.0, 90.0]), "slow": iter([3.0, 3.0, 2.0])}
    paths = [path("slow", fitted), path("fast", fitted)]
    choice = choose_among(paths, fitted.probe, {}, lambda path, rows: next(times[path.name]))
    assert choice.path.name == "fast"
    assert choice.seconds == {"slow": 2.0, "fast": 1.0}


def test_a_path_that_differs_by_one_bit_in_one_row_is_never_taken(fitted) -> None:
    def nearly(x):
        found = fitted.scores(x)
        if len(x) > 300:
            found[300] = np.nextafter(found[300], np.inf)
        return found

    paths = [path("right", fitted), ScoringPath("near", nearly)]
    choice = choose_among(paths, fitted.probe, {}, costs(right=1.0))
    assert choice.path.name == "right"
    assert choice.refused["near"].startswith(
        f"1 of {len(fitted.probe.rows)} rows score otherwise, row 300 "
    )


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        (lambda x: np.zeros(len(x), np.float32), "are float32"),
        (lambda x: np.zeros(len(x) + 1), "are float64"),
        (lambda x: x.missing, None),
    ],
)
def test_a_path_that_fails_is_not_taken(fitted, scores, words) -> None:
    paths = [path("right", fitted), ScoringPath("odd", scores)]
    if words is None:  # a mistake in our own code is not hidden
        with pytest.raises(AttributeError):
            choose_among(paths, fitted.probe, {})
        return
    choice = choose_among(paths, fitted.probe, {}, costs(right=1.0))
    assert words in choice.refused["odd"]


def test_no_right_path_is_no_model(fitted) -> None:
    with pytest.raises(ArtifactError, match=r"no way to score this model.*a: .*b: "):
        choose_among([path("a", fitted, 1.0), path("b", fitted, 2.0)], fitted.probe, {})


def test_a_model_of_trees_has_two_paths_with_the_same_bits(fitted, saved) -> None:
    model = load_model(saved)
    choice = choose(model)
    assert set(choice.seconds) == {"lightgbm", "trees"}
    assert min(choice.seconds, key=choice.seconds.get) == choice.path.name
    assert not choice.refused
    x = sample_dataset(seed=1).x
    for each in paths_of(model)[0]:
        assert each.scores(x).tobytes() == fitted.scores(x).tobytes()


def test_a_model_with_one_path_is_scored_by_it() -> None:
    rule = RuleModel("signal").fit(sample_dataset(), np.random.default_rng(0))
    choice = choose(rule)
    assert (choice.path.name, choice.seconds, choice.refused) == ("rule", {}, {})
    assert choice.told() == "path=rule"


def test_trees_that_the_kernels_do_not_know_are_scored_by_lightgbm(fitted) -> None:
    averaged = fitted.text.replace("\nnum_class=1", "\naverage_output\nnum_class=1")
    model = fitted._of_text(fitted.feature_names, averaged)
    choice = choose(model)
    assert choice.path.name == "lightgbm"
    assert "averaged" in choice.refused["trees"]
    assert "not_trees=" in choice.told()


def test_stored_scores_that_nothing_gives_refuse_the_model(fitted) -> None:
    scores = fitted.probe.scores.copy()
    scores[7] = np.nextafter(scores[7], 1.0)
    with pytest.raises(ArtifactError, match="1 of 384 rows score otherwise, row 7"):
        choose(replace(fitted, probe=Probe(fitted.probe.rows, scores)))


def test_an_artifact_of_before_has_no_probe_and_is_compared_all_the_same(fitted, tmp_path) -> None:
    replace(fitted, probe=None).save(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [MODEL_FILE, "trees.txt"]
    model = load_model(tmp_path)
    assert model.probe is None
    assert set(choose(model).seconds) == {"lightgbm", "trees"}


def test_the_probe_is_saved_and_loaded(fitted, saved) -> None:
    probe = load_model(saved).probe
    assert probe.rows.tobytes() == fitted.probe.rows.tobytes()
    assert probe.scores.tobytes() == fitted.scores(fitted.probe.rows).tobytes()


def test_the_probe_holds_nulls_training_rows_and_values_at_thresholds(fitted) -> None:
    rows, data = fitted.probe.rows, sample_dataset().x
    assert len(rows) == 384
    assert np.isnan(rows[0]).all()
    assert not rows[1].any()
    known = {row.tobytes() for row in data}
    assert all(row.tobytes() in known for row in rows[2:128])
    nodes = Nodes.of_text(fitted.text)
    for feature in np.unique(nodes.feature):
        near = nodes.threshold[nodes.feature == feature]
        put = rows[128:, feature].astype(np.float64)
        assert all((put <= t).any() and (put > t).any() for t in near)
        on = np.isin(near.astype(np.float32), rows[128:, feature])
        assert on.mean() > 0.5


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (r'"shape": \[\s*384\s*\]', '"shape": [383]'),
        (r'"shape": \[\s*384\s*\]', f'"shape": [{MOST_ROWS + 1}]'),
        (r'"shape": \[\s*384\s*\]', '"shape": []'),
        (r'"dtype": "<f4"', '"dtype": "<f8"'),
        (r'"probe_scores"', '"probe_other"'),
        (r'"shape": \[\s*384,\s*5\s*\]', '"shape": [384, 99999999]'),
    ],
)
def test_a_probe_that_is_not_as_said_is_refused(saved, old, new) -> None:
    file = saved / MODEL_FILE
    text, changed = re.subn(old, new, file.read_text())
    assert changed == 1
    file.write_text(text)
    with pytest.raises(ArtifactError):
        load_model(saved)


def test_rows_with_infinities_are_no_probe(fitted, saved) -> None:
    file = saved / "probe_rows.npy"
    raw = bytearray(file.read_bytes())
    raw[-4:] = np.float32(np.inf).tobytes()
    file.write_bytes(raw)
    with pytest.raises(ArtifactError, match=r"probe_rows.npy holds numbers that are not finite"):
        load_model(saved)
