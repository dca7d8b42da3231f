"""A server works on one thread: no library begins a team of its own, to read a model or to score."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sevenfold as sf
from sevenfold.errors import ServingError
from sevenfold.models.lightgbm import LightGBMModel, LightGBMSettings
from sevenfold.serving.pools import VARIABLES, keep_to_one_thread
from sevenfold.serving.server import Door, alone, serve
from sevenfold.testing.model_suite import sample_dataset

COUNTED = """
import os
import sys
from pathlib import Path
from sevenfold.serving.pools import keep_to_one_thread
keep_to_one_thread()
import lightgbm, numpy, scipy.optimize
from sevenfold.models.loader import load_model
from sevenfold.models.paths import paths_of
before = len(os.listdir("/proc/self/task"))
model = load_model(Path(sys.argv[1]))
for path in paths_of(model)[0]:
    for n in (1, 100):
        path.scores(numpy.zeros((n, 5), numpy.float32))
print(before, len(os.listdir("/proc/self/task")))
"""


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that says nothing of threads."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that what is set is taken back
        monkeypatch.delenv(name)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
def test_loading_and_scoring_begins_no_thread(tmp_path: Path, bare: None) -> None:
    settings = LightGBMSettings(n_trees=5, min_rows_in_leaf=10, num_threads=2)
    LightGBMModel(settings).fit(sample_dataset(), np.random.default_rng(0)).save(tmp_path / "m")
    command = [sys.executable, "-c", COUNTED, str(tmp_path / "m")]
    told = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout
    before, after = map(int, told.split())
    assert after == before


def test_what_the_environment_says_stands(bare: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    keep_to_one_thread()
    assert [os.environ[name] for name in VARIABLES] == ["3", "1", "1"]


def test_a_server_keeps_to_one_thread_before_anything_else(
    make_stall, tmp_path: Path, bare: None
) -> None:
    system: sf.System = make_stall().service.system
    with alone(tmp_path), pytest.raises(ServingError, match="another server runs"):
        serve(system, tmp_path, "0.0.0", Door(port=0))
    assert [os.environ[name] for name in VARIABLES] == ["1", "1", "1"]
