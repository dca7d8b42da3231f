"""What growth costs: of an event, of a state that is written, and of a bare file that is given the same."""

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from benchmarks import ingest
from benchmarks.measure import Report
from benchmarks.twin import Twin
from sevenfold.stores.tables import STATE


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> Report:
    monkeypatch.setattr(ingest, "ROUND", 3)
    report = Report("ingest")
    ingest._keys(report, 0.001, (1, 4_000))
    return report


def test_a_state_that_events_of_a_batch_share_is_one(report: Report) -> None:
    few, many = (report.results[f"states_an_event_{name}"] for name in ("1k_keys", "1m_keys"))
    # One user, one item, one pair of them in 10,000 events.
    assert (few.min, few.max) == (3e-4, 3e-4)
    # Of 4,000 users 3,670 are expected in a batch, of 1,000 items all, of their pairs 9,990.
    assert 1.45 < many.min <= many.max < 1.48
    assert many.n == few.n == 3


def test_the_cost_of_a_state_is_what_the_number_of_states_leaves_of_that_of_an_event(
    report: Report,
) -> None:
    ratios, results = report.ratios, report.results
    states = results["states_an_event_1m_keys"].median / results["states_an_event_1k_keys"].median
    assert np.isclose(ratios["cost_1m_keys_vs_1k_a_state"] * states, ratios["cost_1m_keys_vs_1k"])
    raw = [results[f"cpu_us_an_event_raw_lmdb_{name}"] for name in ("1m_keys", "1k_keys")]
    assert ratios["cost_1m_keys_vs_1k_raw_lmdb"] == raw[0].median / raw[1].median
    assert all(cost.n == 3 and cost.min > 0 for cost in raw)


def test_batches_that_share_few_states_are_compared_by_the_event(report: Report) -> None:
    few, many = (
        report.results[f"cpu_us_an_event_{name}_batches_of_100"] for name in ("1k_keys", "1m_keys")
    )
    assert few.n == many.n == 10 * 3
    assert report.ratios["cost_1m_keys_vs_1k_batches_of_100"] == many.median / few.median
    # A commit is shared by a hundredth of the events, and costs what it costs.
    assert few.median > 3 * report.results["cpu_us_an_event_1k_keys"].median


def test_what_was_written_once_more_is_noted_no_longer(tmp_path: Path) -> None:
    with ExitStack() as stack:
        twin = Twin(str(tmp_path))
        stack.callback(twin.close)
        feed = ingest.Feed(stack, 1, 1, twin.watching)
        feed.prepare(1, 40)
        feed.accept()
        assert twin.noted(STATE) == 3
        twin.write()
        assert twin.noted(STATE) == 0
