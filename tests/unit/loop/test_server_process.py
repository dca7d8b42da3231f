"""A server that cannot start says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from sevenfold.errors import RunError
from sevenfold.loop.server_process import ServerProcess


def test_a_server_that_ends_at_its_start_is_told_with_its_last_words(tmp_path: Path) -> None:
    server = ServerProcess("no_such_module:system", tmp_path, timeout_s=60)
    with pytest.raises(RunError, match=r"the server ended at its start: .*no_such_module"):
        server.start()
    server.stop()
    server.kill()
    assert server.pid == 0


def test_a_server_that_is_not_ready_in_time_is_ended(tmp_path: Path) -> None:
    server = ServerProcess("no_such_module:system", tmp_path, timeout_s=0.0)
    with pytest.raises(RunError, match="not ready in 0 s: it said nothing"):
        server.start()
    assert server.pid == 0
