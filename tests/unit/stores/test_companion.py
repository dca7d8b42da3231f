"""A process beside a server: it has its orders whole, tells what it ended with, and ends when its server does."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from sevenfold.stores.companion import Companion

A_WHILE_S = 60.0
MODULE = "ordered_to_write"
SOURCE = """
import os, sys, time
from pathlib import Path
import msgspec
from sevenfold.stores.companion import Companion

class Orders(msgspec.Struct, frozen=True):
    path: str
    text: str = ""
    code: int = 0

orders = Companion.ordered(Orders)
fresh = Path(orders.path + ".new")
fresh.write_text(f"{os.getpid()} {os.getpriority(os.PRIO_PROCESS, 0)} {len(orders.text)}")
fresh.rename(orders.path)
if orders.code:
    sys.exit(orders.code)
time.sleep(600)
"""
SERVER = """
import sys, time
import msgspec
from sevenfold.stores.companion import Companion

class Orders(msgspec.Struct, frozen=True):
    path: str

companion = Companion(sys.argv[1])
companion.start(Orders(sys.argv[2]))
time.sleep(600)
"""


class Orders(msgspec.Struct, frozen=True):
    """What the module is to write, and where."""

    path: str
    text: str = ""
    code: int = 0


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + A_WHILE_S
    while not what():
        assert time.monotonic() < deadline, "it takes for ever"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A child that nobody has waited for is still listed.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def tasks_of(pid: int) -> list[Path]:
    return list(Path(f"/proc/{pid}/task").iterdir())


@pytest.fixture
def companion(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Companion]:
    (tmp_path / f"{MODULE}.py").write_text(SOURCE)
    (tmp_path / "ends_at_once.py").write_text("raise SystemExit(3)")
    monkeypatch.setenv("PYTHONPATH", f"{root / 'src'}{os.pathsep}{tmp_path}")
    found = Companion(MODULE)
    yield found
    found.close()


def test_it_has_its_orders_whole_and_a_lower_priority(companion: Companion, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert (companion.pid, companion.code) == (0, None)
    companion.start(Orders(str(out), "x" * 200_000))  # more than a pipe holds
    until(out.exists)
    pid, priority, size = map(int, out.read_text().split())
    assert (pid, size) == (companion.pid, 200_000)
    assert priority == min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10)
    assert companion.code is None
    companion.close()
    assert (companion.pid, companion.code) == (0, None)
    assert not alive(pid)
    companion.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="no such class")
@pytest.mark.parametrize("at_leisure", [False, True])
def test_one_at_leisure_has_what_nobody_else_wants(
    companion: Companion, tmp_path: Path, at_leisure: bool
) -> None:
    out = tmp_path / "out"
    companion.start(Orders(str(out)), at_leisure)
    until(out.exists)
    kinds = {os.sched_getscheduler(int(each.name)) for each in tasks_of(companion.pid)}
    assert kinds == {os.SCHED_IDLE if at_leisure else os.SCHED_OTHER}


def test_what_it_ended_with_is_told(companion: Companion, tmp_path: Path) -> None:
    companion.start(Orders(str(tmp_path / "out"), code=7))
    until(lambda: companion.code is not None)
    assert companion.code == 7
    assert companion.pid > 0, "until it is closed"
    companion.start(Orders(str(tmp_path / "again")))
    until((tmp_path / "again").exists)
    os.kill(companion.pid, signal.SIGKILL)
    until(lambda: companion.code == -9)


def test_one_that_ends_before_it_has_read_its_orders_is_no_error_of_its_server(
    companion: Companion,
) -> None:
    early = Companion("ends_at_once")
    early.start(Orders("", "x" * 1_000_000))
    until(lambda: early.code is not None)
    assert early.code == 3
    early.close()


def test_it_ends_with_its_server_however_that_ends(companion: Companion, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with subprocess.Popen([sys.executable, "-c", SERVER, MODULE, str(out)]) as server:
        try:
            until(out.exists)
        finally:
            server.kill()
    pid = int(out.read_text().split()[0])
    until(lambda: not Path(f"/proc/{pid}").exists() or not alive(pid))


def test_without_a_server_there_is_nothing_to_do(companion: Companion, tmp_path: Path) -> None:
    command = [sys.executable, "-m", MODULE]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, timeout=A_WHILE_S, check=False)
    assert done.returncode == 0
    assert not (tmp_path / "out").exists()
