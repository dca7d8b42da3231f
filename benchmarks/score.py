"""Scoring alone: LightGBM's own prediction beside each other way to score that is there, in processor seconds.

500 trees of 31 leaves (and of 127) on 40 features, one thread, rows as a request brings them: 1, 100 and 500. The ways are
measured in turns; each must give the same bits.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from benchmarks.measure import Report, figure, ratio
from sevenfold.models.dataset import Dataset
from sevenfold.models.lightgbm import LightGBMModel, LightGBMSettings
from sevenfold.models.paths import ScoringPath, paths_of

PACKAGES = ("sevenfold", "lightgbm", "numba", "numpy")
N_TREES, WIDTH, REQUEST, ROWS = 500, 40, 20, 40_000
SIZES = (1, 100, 500)


def run(repeat: int, scale: float) -> Report:
    """Measure the ways; `scale` is the share of trees."""
    report = Report("score")
    for leaves in (31, 127):
        model, x = _trained(leaves, max(1, int(N_TREES * scale)))
        paths, refused = paths_of(model)
        assert not refused, refused
        for size in SIZES:
            _measure(report, paths, x, (leaves, size), rounds=20 * repeat)
    report.notes.append("processor seconds of one call, taken in turns; the same bits by every way")
    return report


def _measure(
    report: Report, paths: list[ScoringPath], x: np.ndarray, of: tuple[int, int], rounds: int
) -> None:
    leaves, size = of
    taken: dict[str, list[float]] = {path.name: [] for path in paths}
    for at in range(rounds + 5):
        rows = x[at * size % (len(x) - size) :][:size]
        found = set()
        for path in paths:
            seconds, scores = _timed(lambda path=path, rows=rows: path.scores(rows))
            found.add(scores.tobytes())
            if at >= 5:
                taken[path.name].append(seconds * 1e6)
        assert len(found) == 1, "the ways differ"
    for name, times in taken.items():
        report.results[f"{name}_{leaves}_leaves_{size}_us"] = figure(times, "us")
    ours, theirs = (report.results[f"{n}_{leaves}_leaves_{size}_us"] for n in ("trees", "lightgbm"))
    report.ratios[f"score_{size}_of_{leaves}_leaves_vs_lightgbm"] = 1 / ratio(ours, theirs)


def _timed(call: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    begin = time.process_time()
    found = call()
    return time.process_time() - begin, found


def _trained(leaves: int, n_trees: int) -> tuple[LightGBMModel, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, WIDTH)).astype(np.float32)
    x[rng.random(x.shape) < 0.05] = np.nan
    known = np.nan_to_num(x)
    odds = known @ rng.normal(size=WIDTH) * 0.3 + np.sin(2 * known[:, 0]) * known[:, 1]
    y = (rng.random(len(x)) < 1 / (1 + np.exp(2 - odds))).astype(np.float32)
    names = [f"f{i}" for i in range(WIDTH)]
    data = Dataset.of(x, y, groups=[REQUEST] * (len(x) // REQUEST), feature_names=names)
    settings = LightGBMSettings(n_trees=n_trees, n_leaves=leaves, min_rows_in_leaf=20)
    return LightGBMModel(settings).fit(data, rng), x
