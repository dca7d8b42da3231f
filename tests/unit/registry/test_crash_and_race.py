"""Real processes: killed at every step, and writing at the same time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sevenfold.registry.registry import Registry

HERE = Path(__file__).parent
SRC = str(HERE.parents[2] / "src")


def program(name: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(HERE / name), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": SRC},
    )


def finish(running: subprocess.Popen[str]) -> str:
    out, err = running.communicate(timeout=120)
    assert running.returncode == 0, err + out
    return out


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_a_writer_killed_at_any_step_leaves_a_whole_registry(tmp_path, model_folder) -> None:
    said = finish(program("crash_program.py", tmp_path / "registry", model_folder))
    assert int(said.split()[0]) > 20, said
    registry = Registry(tmp_path / "registry")
    assert [p.before for p in registry.history()[1:]] == [
        p.version for p in registry.history()[:-1]
    ]


def test_two_writers_at_once_lose_nothing(tmp_path, model_folder) -> None:
    path = tmp_path / "registry"
    for running in [program("race_program.py", path, model_folder, who, 8) for who in "ab"]:
        finish(running)
    registry = Registry(path)
    history = registry.history()
    assert registry.versions() == list(range(1, 17))
    assert sorted(p.version for p in history) == registry.versions()
    assert [p.before for p in history[1:]] == [p.version for p in history[:-1]]
    assert registry.alias("champion") == history[-1].version
    assert {registry.verify(v).manifest.name for v in registry.versions()} == {"a", "b"}
