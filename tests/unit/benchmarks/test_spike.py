"""The figures of the spike benchmark, from requests whose fate is known."""

import msgspec
import numpy as np
import pytest

from benchmarks.load import NUMBER, OUTCOMES, Outcomes
from benchmarks.soak import growth_mb
from benchmarks.spike import Memory, figures, padded

PHASES = ["1x", "3x", "10x", "after"]
NAN = float("nan")


def seen(*rows: tuple[str, str, float, float, int, str, float]) -> Outcomes:
    """Requests by phase, class, when due, how long they took in ms, status (0: given up), rung, Retry-After."""
    rungs = ["", "full", "popular"]
    columns = list(zip(*rows, strict=True))
    due_s = np.array(columns[2])
    n = len(rows)
    return Outcomes(
        due_s=due_s,
        sent_s=due_s,
        done_s=due_s + np.array(columns[3]) / 1000,
        late_s=np.zeros(n),
        phase=np.array([PHASES.index(name) for name in columns[0]], dtype=np.int32),
        kind=np.array([["normal", "high"].index(name) for name in columns[1]], dtype=np.int32),
        outcome=np.array(
            [OUTCOMES.index("answered" if status else "timeout") for status in columns[4]],
            dtype=np.int32,
        ),
        status=np.array(columns[4], dtype=np.int32),
        rung=np.array([rungs.index(name) for name in columns[5]], dtype=np.int32),
        retry_after_s=np.array(columns[6]),
        rungs=rungs,
        phases=PHASES,
        kinds=["normal", "high"],
        start_s=0.0,
        busy=0.5,
    )


def test_useful_is_what_was_answered_in_time_and_the_rest_is_told() -> None:
    found = figures(
        seen(
            ("10x", "normal", 0.0, 100.0, 200, "full", NAN),
            ("10x", "high", 0.5, 140.0, 200, "popular", NAN),
            ("10x", "high", 0.6, 160.0, 200, "popular", NAN),  # too late
            ("10x", "normal", 0.7, 4.0, 503, "", 2.0),
            ("10x", "normal", 0.8, 5.0, 503, "", NAN),  # does not say when to come back
            ("10x", "normal", 0.9, 2000.0, 0, "", NAN),
            ("after", "normal", 5.0, 10.0, 200, "full", NAN),
        ),
        able=4.0,
        spike_s=1.0,
    )
    assert found["goodput_vs_capacity"] == 0.5
    assert found["answered_p99_vs_budget"] == pytest.approx(160 / 150, rel=0.01)
    assert found["refusal_p99_ms"] == pytest.approx(4.0)
    assert found["undeclared_errors"] == 2
    assert found["high_class_useful"] == 0.5
    assert found["full_quality_share"] == pytest.approx(1 / 3)
    assert found["recovery_s"] == 0


def test_quality_is_back_when_it_stays() -> None:
    good = [("after", "normal", 5 + i / 20, 10.0, 200, "full", NAN) for i in range(100)]
    spike = [("10x", "normal", 0.0, 10.0, 200, "full", NAN)]
    assert figures(seen(*spike, *good), 1.0, 1.0)["recovery_s"] == 0
    good[45] = ("after", "normal", 7.25, 10.0, 200, "popular", NAN)
    assert figures(seen(*spike, *good), 1.0, 1.0)["recovery_s"] == 0, "one of ten may be late"
    good[46] = ("after", "normal", 7.3, 900.0, 200, "full", NAN)
    assert figures(seen(*spike, *good), 1.0, 1.0)["recovery_s"] == 2.5


def test_a_padded_request_asks_the_same_by_another_id() -> None:
    body = b'{"request_id":"' + NUMBER + b'","keys":{"customer":"c"},"items":["a"]}'
    raw = padded(body, "first")
    assert len(raw) == 30_000
    assert msgspec.json.decode(raw) == msgspec.json.decode(body) | {
        "request_id": "first" + NUMBER.decode()
    }


def test_memory_is_looked_at_from_the_beginning_of_the_spike_to_the_last_answer() -> None:
    """What the first requests load is not in it, nor what comes when the load is over."""
    at_s = np.arange(-10.0, 30.0)
    mb = np.where(at_s < 0, 100 + at_s, np.where(at_s <= 20, 200.0, 900.0))
    mb[(at_s >= 15) & (at_s <= 20)] += 7
    one = ("10x", "normal", 0.0, 10.0, 200, "full", NAN)
    last = ("after", "normal", 19.0, 1000.0, 200, "full", NAN)
    memory = Memory(at_s.tolist(), mb.tolist()).since(seen(one, last), "10x")
    assert (len(memory), growth_mb(memory)) == (21, 7.0)
