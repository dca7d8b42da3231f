"""A model is served by the fastest path that gives its stored scores; which one it is changes no answer."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sevenfold.models.dataset import Dataset
from sevenfold.models.lightgbm import LightGBMModel, LightGBMSettings
from sevenfold.models.paths import ScoringPath, choose_among, paths_of
from sevenfold.models.probe import Probe
from sevenfold.serving.prediction_log import find_prediction

NAMES = ["item__sum_pieces", "item__count_7d"]  # in another order than they are served


@pytest.fixture(scope="module")
def model() -> LightGBMModel:
    """Trees whose splits lie among the few values that a stall has."""
    return trained(0)


def trained(seed: int) -> LightGBMModel:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 6, size=(400, len(NAMES))).astype(np.float32)
    x[rng.random(x.shape) < 0.2] = np.nan
    y = (np.nan_to_num(x) @ [1.0, 2.0] > 5).astype(np.float32)
    data = Dataset.of(x, y, groups=[20] * 20, feature_names=NAMES)
    settings = LightGBMSettings(n_trees=20, min_rows_in_leaf=5)
    return LightGBMModel(settings).fit(data, np.random.default_rng(0))


def ask(stall: Any, name: str) -> dict[str, Any]:
    response = stall.post("/v1/recommend", {"request_id": name, "keys": {"customer": "ada"}})
    assert response.status_code == 200, response.text
    return response.json()


def scored(stall: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The logged scores of a slate, and the vectors that they were made from."""
    with stall.store.read() as txn:
        prediction = find_prediction(txn, name)
        assert prediction is not None
        columns = [stall.service.features.index(feature) for feature in NAMES]
        slate = prediction.logged_vectors()[: len(prediction.slate())]
        scores = np.frombuffer(prediction.scores, np.float64)
        return scores, np.ascontiguousarray(slate[:, columns])


def test_every_path_gives_the_scores_that_are_logged(stall: Any, model: LightGBMModel) -> None:
    stall.promote(model, NAMES)
    assert ask(stall, "r0")["rung"] == "full"
    loaded = stall.service.champion.loaded
    for path in paths_of(loaded.model)[0]:
        choice = replace(loaded.choice, path=path)
        stall.service.champion.loaded = replace(loaded, choice=choice)
        ask(stall, path.name)
        scores, vectors = scored(stall, path.name)
        assert len(scores) == 3
        assert scores.tobytes() == model.scores(vectors).tobytes()


def test_each_answer_has_the_scores_of_the_version_that_it_names(
    stall: Any, model: LightGBMModel
) -> None:
    """Swapped there and back between answers, no answer is of two versions."""
    models = {stall.register(each, NAMES): each for each in (model, trained(1), trained(2))}
    order = [1, 2, 3, 1, 3, 2, 2, 1]
    for i, version in enumerate(order):
        stall.registry.set_alias("champion", version, "test", 1_700_000_000_000_000 + i)
        answer = ask(stall, f"swap{i}")
        assert (answer["rung"], answer["version"]) == ("full", version)
        scores, vectors = scored(stall, f"swap{i}")
        assert scores.tobytes() == models[version].scores(vectors).tobytes()
    assert len({each.scores(vectors).tobytes() for each in models.values()}) == 3


def test_metrics_say_which_path_serves_and_what_each_took(
    stall: Any, model: LightGBMModel, caplog: pytest.LogCaptureFixture
) -> None:
    stall.promote(model, NAMES)
    with caplog.at_level("INFO"):
        ask(stall, "r1")
    text = stall.call("GET", "/metrics").text
    states = dict(
        re.findall(r'scoring_path\{alias="champion",path="(\w+)",state="(\w+)"\} 1.0', text)
    )
    assert sorted(states.values()) == ["serves", "slower"]
    assert set(states) == {"lightgbm", "trees"}
    assert len(re.findall(r"sevenfold_scoring_path_seconds\{", text)) == 2
    (told,) = [r.message for r in caplog.records if "model loaded" in r.message]
    assert re.search(r"path=(trees|lightgbm) lightgbm_us=\d+ trees_us=\d+", told)


def test_a_path_that_differs_is_refused_on_the_metrics(stall: Any, model: LightGBMModel) -> None:
    stall.promote(model, NAMES)
    ask(stall, "r1")
    loaded = stall.service.champion.loaded
    own, _ = paths_of(loaded.model)[0]
    wrong = ScoringPath("float32", lambda x: own.scores(x).astype(np.float32).astype(np.float64))
    choice = choose_among([own, wrong], loaded.model.probe, {})
    stall.service.champion.loaded = replace(loaded, choice=choice)
    lines = stall.call("GET", "/metrics").text.splitlines()
    assert 'sevenfold_scoring_path{alias="champion",path="lightgbm",state="serves"} 1.0' in lines
    assert 'sevenfold_scoring_path{alias="champion",path="float32",state="refused"} 1.0' in lines
    assert "rows score otherwise" in choice.refused["float32"]


def test_a_model_that_no_longer_gives_its_stored_scores_is_refused(
    stall: Any, model: LightGBMModel
) -> None:
    good = stall.promote(model, NAMES)
    assert ask(stall, "r1")["version"] == good
    scores = model.probe.scores + 1e-16
    scores[0] = np.nextafter(scores[0], 9.0)
    stall.promote(replace(model, probe=Probe(model.probe.rows, scores)), NAMES)
    assert stall.post("/v1/reload", {}).status_code == 409
    assert "no way to score this model" in stall.service.champion.refused
    assert ask(stall, "r2")["version"] == good


def test_what_scores_trees_is_compiled_before_it_has_to(
    stall: Any, model: LightGBMModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    name = "sevenfold.serving.rehearsal.rehearse_trees"
    monkeypatch.setattr(name, lambda: asked.append("trees"))
    stall.service.rehearse()
    assert asked == ["trees"]
