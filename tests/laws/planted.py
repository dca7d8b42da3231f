"""How a planted mistake is judged: by the tests of what it is in, in a process of its own, the library not compiled."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def judge(library: Path, tests: list[str]) -> subprocess.CompletedProcess[str]:
    """The tests over the library in `library`."""
    environment = os.environ | {"PYTHONPATH": str(library), "NUMBA_DISABLE_JIT": "1"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "-W",
        "ignore::RuntimeWarning",
        "--hypothesis-profile=judge",
        "--timeout=100",  # a mistake that never ends is caught when its test has to
        *tests,
    ]
    return subprocess.run(
        [*command, "-o", f"pythonpath={library}"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def require_caught(library: Path, tests: list[str], place: str, right: str, wrong: str) -> None:
    """Fail unless the tests fail with `wrong` in the place of `right`, which must be there once."""
    file = library / "sevenfold" / place
    source = file.read_text()
    assert source.count(right) == 1, (
        f"{right!r} is {source.count(right)} times in {place}: renew the mutant"
    )
    file.write_text(source.replace(right, wrong))
    done = judge(library, tests)
    assert done.returncode == 1, f"not caught: {done.stdout[-3000:]}{done.stderr[-2000:]}"
