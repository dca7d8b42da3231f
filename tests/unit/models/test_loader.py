"""A file chooses a kind from a closed table, or is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sevenfold.errors import ArtifactError
from sevenfold.models.loader import load_model
from sevenfold.models.logistic import LogisticModel
from sevenfold.models.rule import RuleModel
from sevenfold.testing.model_suite import sample_dataset


@pytest.fixture
def saved(tmp_path):
    RuleModel("signal").fit(sample_dataset(), np.random.default_rng(0)).save(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "os.system"}, "known kinds are"),
        ({"kind": "logistic"}, "lists"),
        ({"format": 2}, "of format 2"),
        ({"format": "1"}, "is not a model file"),
        ({"surprise": 1}, "unknown field"),
        ({"feature_names": []}, "names no features"),
        ({"feature_names": ["a", "a"]}, "one of them twice"),
        ({"feature_names": ["other"]}, "does not list"),
        ({"settings": {"by": 3, "then": None}}, "not those of a rule"),
        ({"settings": {"by": "signal", "then": None, "more": 1}}, "not those of a rule"),
        ({"texts": ["../../etc/passwd"]}, "not a plain name"),
        ({"texts": ["extra"]}, "lists"),
        ({"arrays": {"a/b": {"dtype": "<f8", "shape": [1]}}}, "not a plain name"),
    ],
)
def test_a_file_that_claims_more_than_it_is_is_refused(saved, change, words) -> None:
    content = json.loads((saved / "model.json").read_text())
    (saved / "model.json").write_text(json.dumps(content | change))
    with pytest.raises(ArtifactError, match=words):
        load_model(saved)


def test_an_oversized_file_is_refused_before_it_is_read(saved) -> None:
    with (saved / "model.json").open("r+b") as stream:
        stream.truncate(5 << 20)
    with pytest.raises(ArtifactError, match="at most"):
        load_model(saved)


def test_a_missing_folder_is_an_artifact_error(tmp_path) -> None:
    with pytest.raises(ArtifactError, match="missing"):
        load_model(tmp_path / "nothing")


def test_another_kind_is_refused(saved) -> None:
    with pytest.raises(ArtifactError, match="holds a 'rule' model, not a 'logistic' model"):
        LogisticModel.load(saved)
