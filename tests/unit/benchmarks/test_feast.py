"""The benchmarks with Feast beside them, small: they run, the answers are equal, the keys are there."""

import os
import shutil
from pathlib import Path

import pytest

from benchmarks.measure import Report
from benchmarks.peers import offline, online, parity
from benchmarks.peers.beside import VARIABLE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not os.environ.get(VARIABLE), reason=f"{VARIABLE} does not name a Python that has Feast"
    ),
]


@pytest.fixture
def feast() -> Path:
    return Path(os.environ[VARIABLE])


def test_the_join_of_both_its_stores_is_ours_where_it_keeps_the_row(feast: Path) -> None:
    report = Report("offline")
    offline.run(report, feast, repeat=1, scale=0.002)
    assert {"last_value_vs_feast_duckdb", "last_value_vs_feast_default"} <= report.ratios.keys()
    assert report.results["feast_duckdb_10_lost_rows"].max == 0
    assert report.beside["feast"].startswith("0.67.")


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server on the PATH")
def test_both_its_online_stores_give_what_ours_give(feast: Path) -> None:
    report = Report("online")
    online.run(report, feast, repeat=1, scale=0.01)
    assert {"read_500_vs_feast_sqlite", "read_500_vs_feast_redis"} <= report.ratios.keys()
    assert "read_500_vs_feast_redis_first" in report.ratios


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server on the PATH")
def test_its_keys_that_differ_are_counted(feast: Path) -> None:
    report = Report("parity")
    parity.run(report, feast, repeat=1, scale=0.1)
    assert {f"feast_{name}_differ" for name in ("sqlite", "redis")} <= report.results.keys()
