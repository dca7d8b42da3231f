"""The whole loop on a small shop, with a real server process: rows late, doubled and swapped included."""

from pathlib import Path

import numpy as np
import pytest

from sevenfold.errors import RunError
from sevenfold.loop.run import Run
from sevenfold.loop.scenario import Scenario
from sevenfold.loop.summarise import summarise
from sevenfold.loop.world import disturb
from sevenfold.registry.registry import Registry
from sevenfold.web.report import render_report
from tests.e2e.tiny_system import system
from tests.e2e.tiny_world import DAY_US, START_US, tiny_world

SYSTEM = str(Path(__file__).with_name("tiny_system.py"))


def scenario(disturbed: float = 0.0) -> Scenario:
    """Ten days of history, thirty live, the last eight judged."""

    def world():
        calm = tiny_world()
        return disturb(calm, disturbed, DAY_US, np.random.default_rng(1)) if disturbed else calm

    return Scenario(
        system=system,
        reference=SYSTEM,
        world=world,
        live_us=START_US + 10 * DAY_US,
        judge_us=START_US + 32 * DAY_US,
        end_us=START_US + 41 * DAY_US,
        step_us=4 * DAY_US,
        known="customer__count_7d",
        repeat="customer_x_item__count",
        customer="customer",
        negatives=20,
    )


class StopError(Exception):
    """Thrown in the middle of a run, as a user's Ctrl-C would be."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A disturbed run that was interrupted once and went on."""
    home = tmp_path_factory.mktemp("run")

    def interrupted(phase: str, done: int, total: int) -> None:
        if phase == "steps" and done == 3:
            raise StopError

    with pytest.raises(StopError):
        Run(scenario(0.05), home, "tiny", interrupted).go()
    run = Run(scenario(0.05), home, "tiny", lambda *_: None)
    assert 0 < run.state.steps_done < len(run.edges)
    run.go()
    return run


def test_every_logged_vector_is_what_the_offline_engine_computes(finished: Run) -> None:
    summary = summarise(finished, "full", "report.html")
    assert summary.parity.compared > 3000
    assert summary.parity.mismatched == 0
    assert summary.requests == sum(
        len(finished.steps.load(n).request_ids) for n in range(finished.state.steps_done)
    )


def test_rows_in_are_events_duplicates_and_dead_letters(finished: Run) -> None:
    ingest = summarise(finished, "full", "report.html").ingest
    assert ingest.rows_in == ingest.events + ingest.duplicates + ingest.dead_letters
    assert ingest.events == len(tiny_world())
    assert ingest.duplicates > 0


def test_the_baseline_serves_first_and_models_are_judged(finished: Run) -> None:
    promotions = finished.state.promotions
    assert (promotions[0].model, promotions[0].promoted) == ("rule", True)
    registry = Registry(finished.home / "registry")
    serving = [line.version for line in promotions if line.promoted][-1]
    assert registry.alias("champion") == serving


def test_the_report_is_one_file_that_asks_for_nothing(finished: Run) -> None:
    page = render_report(summarise(finished, "full", "report.html"))
    assert page.startswith("<!doctype html>")
    assert "<svg" in page
    for request in ("http://", "https://", "src=", "@import", "<script"):
        assert request not in page


def test_a_home_of_another_run_is_refused(finished: Run) -> None:
    with pytest.raises(RunError, match="other settings"):
        Run(scenario(), finished.home, "another", lambda *_: None)
