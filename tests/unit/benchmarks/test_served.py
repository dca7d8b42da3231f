"""What the benchmark of the server counts: answers in full, each ratio's worse half, and stages as the server names them."""

import numpy as np
import pytest

from benchmarks import served
from benchmarks.load import Kind, Outcomes
from benchmarks.measure import Report
from benchmarks.ranking import CANDIDATES
from benchmarks.ranking_system import FEATURES, system
from sevenfold.serving.definition import Definition
from sevenfold.serving.metrics import Metrics


def test_the_system_has_forty_features_and_all_are_read() -> None:
    assert len(FEATURES) == len(set(FEATURES)) == 40
    assert set(Definition(system).features) == set(FEATURES)
    assert CANDIDATES == 100


def test_only_answers_in_full_count() -> None:
    n = 5
    numbers = np.arange(n, dtype=np.int32)
    outcomes = Outcomes(
        due_s=np.zeros(n),
        sent_s=np.zeros(n),
        done_s=np.full(n, 2.0),
        late_s=np.zeros(n),
        phase=numbers * 0,
        kind=numbers * 0,
        outcome=numbers * 0,
        status=np.array([200, 200, 200, 503, 200], dtype=np.int32),
        rung=np.array([1, 2, 1, 1, 0], dtype=np.int32),
        retry_after_s=np.full(n, np.nan),
        rungs=["", "full", "popular"],
        phases=["closed"],
        kinds=["ours"],
        start_s=0.0,
        busy=0.1,
    )
    full = served._full(outcomes)
    assert len(full) == 3  # a peer names no rung
    assert full.rate() == 1.5


def test_a_ratio_is_the_smaller_of_the_clocks_and_the_processors() -> None:
    report, kind = Report("serve"), Kind("k", "/")
    ours = served._Side(1, 1, kind, rps=[300.0, 310.0, 290.0], per_cpu_s=[400.0])
    theirs = served._Side(2, 2, kind, rps=[200.0], per_cpu_s=[200.0])
    served._compare(report, "rank_100_rps_vs_x", "rank_100_x", ours, theirs)
    assert report.ratios == {
        "rank_100_rps_vs_x_wall": 1.5,
        "rank_100_rps_vs_x_cpu": 2.0,
        "rank_100_rps_vs_x": 1.5,
    }


def test_stages_are_read_from_the_metrics_as_they_are_written() -> None:
    metrics = Metrics()
    for taken_us in (2_000, 4_000):
        metrics.answer("full", {"features": taken_us, "log": 1_000})
    sums = served.stage_sums(metrics.text(0, 0).decode())
    assert sums["features"] == (pytest.approx(0.006), 2.0)
    assert sums["log"] == (pytest.approx(0.002), 2.0)
