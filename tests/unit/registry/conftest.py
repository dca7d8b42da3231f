"""A registry and models to put into it."""

from __future__ import annotations

import numpy as np
import pytest

from sevenfold.models.rule import RuleModel
from sevenfold.registry.registry import Registry
from sevenfold.testing.model_suite import sample_dataset

NAMES = ("signal", "noise", "holes", "constant", "never_known")
FACTS = {
    "name": "shop_ranker",
    "feature_names": NAMES,
    "feature_hashes": {name: f"hash of {name}" for name in NAMES},
    "metrics": {"ndcg@10": 0.25},
    "lineage": {"training_set": "abc", "log_position": 12, "parent": None},
    "created_us": 1_700_000_000_000_000,
}


@pytest.fixture
def facts():
    return dict(FACTS)


@pytest.fixture
def model_folder(tmp_path):
    model = RuleModel("signal").fit(sample_dataset(), np.random.default_rng(0))
    model.save(tmp_path / "fitted")
    return tmp_path / "fitted"


@pytest.fixture
def registry(tmp_path) -> Registry:
    return Registry(tmp_path / "registry")


@pytest.fixture
def version(registry, model_folder, facts):
    return registry.register(model_folder, **facts)
