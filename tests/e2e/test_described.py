"""What `/openapi.json` says is true: a program makes requests of it, good and bad, and compares the answers with it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sevenfold.loop.server_process import ServerProcess

# No schema says that a tensor has as many values as its shape, or which keys the features asked for need.
LOOSE = "(/infer|/features)$"
# JSON Schema takes 3.0 for a whole number, and we do not.
HOOKS = """
import schemathesis


def whole(value):
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, list):
        return [whole(one) for one in value]
    if isinstance(value, dict):
        return {name: whole(one) for name, one in value.items()}
    return value


@schemathesis.hook
def map_body(context, body):
    return whole(body)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of the server of these tests."""
    return tmp_path_factory.mktemp("described")


@pytest.fixture(scope="module")
def server(stall: Path, home: Path) -> Iterator[ServerProcess]:
    """A running server."""
    with ServerProcess(str(stall), home, ["--no-admission"]) as running:
        yield running
        assert "Traceback" not in (home / "server.log").read_text(errors="replace")


@pytest.mark.parametrize(
    "which",
    [
        ["--exclude-path-regex", LOOSE],
        ["--include-path-regex", LOOSE, "--exclude-checks", "positive_data_acceptance"],
    ],
    ids=["all but those", "those"],
)
def test_every_answer_is_as_described(
    server: ServerProcess, home: Path, tmp_path: Path, which: list[str]
) -> None:
    token = (home / "token").read_text().strip()
    command = [sys.executable, "-W", "ignore", "-m", "schemathesis.cli", "run"]
    command += [
        f"http://127.0.0.1:{server.port}/openapi.json",
        "-H",
        f"Authorization: Bearer {token}",
    ]
    command += ["--max-examples", "10", "--seed", "4", "--phases", "coverage,fuzzing", "--no-color"]
    command += ["--request-timeout", "60"]
    (tmp_path / "hooks.py").write_text(HOOKS)
    environment = os.environ | {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [*command, *which],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-2_000:]
    assert "passed" in done.stdout
