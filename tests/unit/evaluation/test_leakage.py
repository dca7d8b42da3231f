"""Planted leaks are found by name; honest features are not."""

from __future__ import annotations

import numpy as np
import pytest

from sevenfold.errors import InputError, LeakageError
from sevenfold.evaluation.leakage import check_leakage, suspicious_features

N = 3000


def honest(seed: int, n_features: int = 12):
    """Labels and features as in a shop: useful ones, weak ones, noise and nulls; the best AUC is 0.8."""
    rng = np.random.default_rng(seed)
    y = (rng.random(N) < 0.05).astype(float)
    strength = np.linspace(0, 1.2, n_features)
    x = rng.normal(size=(N, n_features)) + y[:, None] * strength
    x[rng.random(x.shape) < 0.1] = np.nan
    return x, y, rng


@pytest.mark.parametrize("seed", range(5))
def test_honest_features_are_not_named(seed: int) -> None:
    x, y, _ = honest(seed)
    assert suspicious_features(x, y, [f"f{i}" for i in range(12)]) == []


@pytest.mark.parametrize("kind", ["label", "reversed", "known_only_for_positives", "noisy"])
def test_a_planted_leak_is_named_first(kind: str) -> None:
    x, y, rng = honest(1)
    leak = {
        "label": y,
        "reversed": -y,
        "known_only_for_positives": np.where(y == 1, rng.normal(size=N), np.nan),
        "noisy": y * 3.0 + rng.normal(size=N),
    }[kind]
    names = [f"f{i}" for i in range(12)] + ["peek"]
    found = suspicious_features(np.column_stack([x, leak]), y, names)
    assert [suspicion.name for suspicion in found] == ["peek"]
    assert found[0].auc > 0.95
    assert "alone it has an AUC" in found[0].reason


def test_a_leaking_score_is_refused_with_its_auc() -> None:
    _, y, rng = honest(2)
    with pytest.raises(LeakageError, match=r"AUC of the scores is 1\.0000"):
        check_leakage(y * 2 + rng.random(N), y)
    with pytest.raises(LeakageError, match=r"0\.0000"):
        check_leakage(-y, y)
    assert 0.4 < check_leakage(rng.random(N), y) < 0.6


def test_shapes_must_fit() -> None:
    with pytest.raises(InputError, match=r"\(3, 2\) for 1 names"):
        suspicious_features(np.zeros((3, 2)), [0, 1, 1], ["a"])
    assert suspicious_features(np.zeros((2, 0)), [0, 1], []) == []
