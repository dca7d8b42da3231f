"""The benchmark of scoring measures every way on every size, and holds them to the same bits."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import score
from sevenfold.models.paths import ScoringPath


def test_every_way_is_measured_on_every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score, "ROWS", 2_000)
    report = score.run(repeat=1, scale=0.01)
    for leaves in (31, 127):
        for size in (1, 100, 500):
            for way in ("lightgbm", "trees"):
                found = report.results[f"{way}_{leaves}_leaves_{size}_us"]
                assert (found.n, found.unit) == (20, "us")
            assert report.ratios[f"score_{size}_of_{leaves}_leaves_vs_lightgbm"] > 0


def test_ways_that_differ_end_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score, "ROWS", 2_000)
    right = score.paths_of

    def one_wrong(model):
        paths, refused = right(model)
        wrong = ScoringPath("wrong", lambda x: np.zeros(len(x)))
        return [*paths, wrong], refused

    monkeypatch.setattr(score, "paths_of", one_wrong)
    with pytest.raises(AssertionError, match="the ways differ"):
        score.run(repeat=1, scale=0.01)
