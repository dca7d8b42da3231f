"""A kernel kept on disk is thrown away when any source it is made of has changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import sevenfold

KERNEL = """
from sevenfold.algebra.update import add_compensated
from sevenfold.compiled import kernel


@kernel
def answer(x: float) -> float:
    return add_compensated(1.0, 0.0, x)[0] + 4.0
"""
PROGRAM = """
from sevenfold.retrieval.asked import answer
print(answer(2.0), sum(answer.stats.cache_hits.values()))
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package's own sources, with nothing compiled and a kernel far from the algebra."""
    target = tmp_path / "sevenfold"
    shutil.copytree(
        Path(sevenfold.__file__).parent,
        target,
        ignore=shutil.ignore_patterns("__pycache__", "data"),
    )
    (target / "retrieval" / "asked.py").write_text(KERNEL)
    return target


def ask(copy: Path) -> tuple[float, int]:
    """What the kernel answers in a process of its own, and how many kernels it found on disk."""
    environment = {**os.environ, "PYTHONPATH": str(copy.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("NUMBA_CACHE_DIR", None)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    )
    value, hits = done.stdout.split()
    return float(value), int(hits)


def edit(file: Path, old: str, new: str) -> None:
    before = file.stat()
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    # As a checkout or an unpacked archive may: other bytes under the old time.
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_kernel_is_compiled_anew_when_it_or_what_it_calls_has_changed(copy: Path) -> None:
    assert ask(copy) == (7.0, 0)
    assert ask(copy) == (7.0, 1)
    edit(copy / "retrieval" / "asked.py", "+ 4.0", "+ 6.0")
    assert ask(copy) == (9.0, 0)
    edit(copy / "algebra" / "update.py", "rest = low + error", "rest = low + error + 100.0")
    assert ask(copy)[0] > 100
    assert ask(copy)[1] == 1
