"""A long spine whose filling is killed with SIGKILL at random moments: it goes on, and the file is the same to the byte."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from sevenfold.batch import Reader
from tests.unit.batch.kinds import as_arrow
from tests.unit.batch.shop import some_rows, some_sales, system

ROOT = Path(__file__).resolve().parents[2]
ROWS, AT_ONCE, DEADLINE_S = 600, 10, 200
PROGRAM = f"""
import sys
from sevenfold.batch import Reader
from tests.unit.batch.shop import some_sales, system
Reader.rows_at_once = lambda *_: {AT_ONCE}
Reader(system, events={{"sales": some_sales(300)}}, threads=2).backfill(sys.argv[1], sys.argv[2])
"""


def killed_after(parts: int, delay_s: float, spine: Path, out: Path) -> bool:
    """Whether a run was killed once it had so many parts, and not through before."""
    folder = out.with_name(f".{out.name}.parts")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(spine), str(out)], cwd=ROOT, env=environment
    ) as run:
        try:
            end = time.monotonic() + DEADLINE_S
            while run.poll() is None and len(list(folder.glob("[0-9]*"))) < parts:
                assert time.monotonic() < end, f"not {parts} parts in {DEADLINE_S} s"
                time.sleep(0.002)
            time.sleep(delay_s)
        finally:
            run.kill()
        run.wait()
    return run.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_killed_at_random_moments_it_goes_on_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(11)
    spine, out, whole = (tmp_path / f"{name}.parquet" for name in ("spine", "out", "whole"))
    pl.from_arrow(as_arrow(some_rows(ROWS))).write_parquet(spine)
    for parts in sorted(rng.integers(1, ROWS // AT_ONCE, 3).tolist()):
        if killed_after(parts, float(rng.uniform(0, 0.05)), spine, out):
            assert not out.exists() or pl.read_parquet(out).height == ROWS
    monkeypatch.setattr(Reader, "rows_at_once", lambda *_: AT_ONCE)
    reader = Reader(system, events={"sales": some_sales(300)})
    begun = any((tmp_path / ".out.parquet.parts").glob("[0-9]*"))
    assert (reader.backfill(spine, out).resumed > 0) == begun
    reader.backfill(spine, whole)
    assert out.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "out.parquet",
        "spine.parquet",
        "whole.parquet",
    ]
