"""A small disk for tests of stores."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

OnDisk = Callable[[str, int], subprocess.CompletedProcess[str]]


@pytest.fixture
def on_a_small_disk(tmp_path: Path) -> OnDisk:
    """Runs a program of Python that is told the folder of a disk of so many MiB; skips where none can be mounted."""

    def run(program: str, megabytes: int) -> subprocess.CompletedProcess[str]:
        mount = f"mount -t tmpfs -o size={megabytes}m none {tmp_path}"
        shell = f'{mount} && exec "$0" -c "$1" {tmp_path}'
        command = ["unshare", "-Urm", "sh", "-c", shell, sys.executable, program]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        except FileNotFoundError:
            pytest.skip("no `unshare` on this machine: a small disk cannot be mounted")
        if done.returncode and any(w in done.stderr for w in ("unshare", "mount", "permitted")):
            pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()[:100]}")
        return done

    return run
