"""The time of an answer is split as declared, shortened as a whole, and what cannot be done in it is not begun."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest

import sevenfold as sf
from sevenfold.clock import elapsed_s
from sevenfold.serving.budget import Budget, Pace, Split, split_of
from sevenfold.spec.serving import RESERVE, SHARES

SPLIT = Split(1.0, {"retrieve": 0.2, "features": 0.3, "score": 0.4}, 0.1)


def test_the_default_split_leaves_slack() -> None:
    assert sum(SHARES.values()) + RESERVE == pytest.approx(0.78)


def test_a_stage_ends_after_its_time_and_never_in_the_reserve() -> None:
    budget = Budget(SPLIT, 100.0, 101.0)
    assert budget.until_s(100.0, "retrieve") == pytest.approx(100.2)
    assert budget.until_s(100.1, "features", "score") == pytest.approx(100.8)
    assert budget.until_s(100.8, "score") == budget.end_s == pytest.approx(100.9)


def test_less_time_shortens_all_alike_and_more_lengthens_none() -> None:
    half = Budget(SPLIT, 100.0, 100.5)
    assert half.until_s(100.0, "retrieve") == pytest.approx(100.1)
    assert half.end_s == pytest.approx(100.45)
    twice = Budget(SPLIT, 100.0, 102.0)
    assert twice.until_s(100.0, "retrieve") == pytest.approx(100.2)
    assert twice.end_s == pytest.approx(101.9)
    assert Budget(SPLIT, 100.0, 99.0).until_s(100.0, "score") == pytest.approx(99.0)


def test_without_a_deadline_there_is_no_end() -> None:
    budget = Budget(SPLIT, 100.0, math.inf)
    assert math.isinf(budget.until_s(1e9, "score"))
    assert not budget.is_over()
    assert Budget(SPLIT, 0.0, elapsed_s() - 1).is_over()


def test_what_is_declared_is_the_split(anew: Callable[[], sf.System]) -> None:
    system = anew()
    timeouts = {"features": "50 ms", "score": "250 ms"}
    serving = replace(system.serving, timeouts=timeouts, reserve="10 ms")
    requirements = replace(system.requirements, latency=sf.Latency(p99="1 s"))
    split = split_of(replace(system, serving=serving, requirements=requirements))
    assert split.whole_s == 1.0
    assert split.stages_s["features"] == pytest.approx(0.05)
    assert split.stages_s["score"] == pytest.approx(0.25)
    assert split.stages_s["retrieve"] == pytest.approx(0.2)
    assert split.reserve_s == pytest.approx(0.01)


def test_the_quickest_of_the_last_is_expected() -> None:
    pace = Pace()
    for seconds in (9.0, 2.0, 1.0):
        pace.learn("model", 10, seconds)
    assert pace.expected_s("model", 10) == 0.0  # three are too few to say
    pace.learn("model", 10, 4.0)
    assert pace.expected_s("model", 10) == pytest.approx(1.0)
    assert pace.expected_s("model", 5) == pytest.approx(0.5)
    assert pace.expected_s("model", 20) == pytest.approx(2.0)
    assert pace.expected_s("model", 21) == 0.0  # nothing is said of so many rows
    assert pace.expected_s("other", 1) == 0.0
    for _ in range(16):
        pace.learn("model", 10, 3.0)
    assert pace.expected_s("model", 10) == pytest.approx(3.0)  # what was quick once is forgotten


def test_what_does_not_fit_is_tried_now_and_then() -> None:
    pace = Pace()
    tried = [pace.fits("full", 2.0, 1.0) for _ in range(96)]
    assert [i for i, was in enumerate(tried, start=1) if was] == [32, 64, 96]
    assert pace.fits("full", 1.0, 1.0)
    assert not any(pace.fits("full", 2.0, 1.0) for _ in range(31))  # the count began anew
    assert not any(pace.fits("full", 2.0, 0.0) for _ in range(96))  # and never without time
