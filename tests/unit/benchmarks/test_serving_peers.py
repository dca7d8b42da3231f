"""A model server beside ours is found, started, compared and ended with all that it started; its processor time is counted."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers import serving
from benchmarks.peers.beside import PeerError
from benchmarks.peers.serving import PEERS, SERVING_VARIABLE, find_servers, peer_server
from benchmarks.processes import family, processor_s

ROWS = np.array([[1.0, 2.0], [3.0, np.nan]], dtype=np.float32)
SUMS = np.array([3.0, 3.0])
SERVER = """
import http.server, json, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
open("child", "w").write(str(child.pid))
class Answer(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        rows = json.loads(self.rfile.read(int(self.headers["content-length"])))["rows"]
        raw = json.dumps({"scores": [sum(v or 0 for v in row) for row in rows]}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Answer).serve_forever()
"""
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")


@pytest.fixture
def trees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of trees beside which a server of sums stands in for one of a model."""
    script = tmp_path / "sums_server.py"
    script.write_text(SERVER)
    monkeypatch.setitem(serving._FILES, "fastapi", script)
    return tmp_path / "trees.txt"


def gone(pid: int) -> bool:
    """Whether a process has ended, within some seconds."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":  # nobody has waited for it, but it is no more
            return True
        time.sleep(0.02)
    return False


@LINUX
def test_a_peer_is_compared_with_the_model_and_ends_with_all_it_started(
    trees: Path, tmp_path: Path
) -> None:
    with peer_server(Path(sys.executable), "fastapi", trees, ROWS, SUMS) as peer:
        child = int((tmp_path / "child").read_text())
        assert {peer.pid, child} <= set(family(peer.pid))
        assert os.getpid() not in family(peer.pid)
    assert gone(peer.pid)
    assert gone(child)


@LINUX
def test_a_peer_that_gives_other_scores_is_an_error_and_is_ended(
    trees: Path, tmp_path: Path
) -> None:
    with (
        pytest.raises(PeerError, match="fastapi gives other scores than the model"),
        peer_server(Path(sys.executable), "fastapi", trees, ROWS, SUMS + 1e-15),
    ):
        pass
    assert gone(int((tmp_path / "child").read_text()))


@LINUX
def test_a_peer_that_ends_at_its_start_says_why(trees: Path, tmp_path: Path) -> None:
    (tmp_path / "sums_server.py").write_text("raise SystemExit('no such package')")
    with (
        pytest.raises(PeerError, match=r"(?s)fastapi did not answer.*no such package"),
        peer_server(Path(sys.executable), "fastapi", trees, ROWS, SUMS),
    ):
        pass


@LINUX
def test_the_time_of_children_counts(tmp_path: Path) -> None:
    busy = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ntime.sleep(600)"
    both = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {busy!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", both], stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert processor_s(process.pid) >= 0.2
        for pid in family(process.pid):
            os.kill(pid, 9)


def test_every_peer_has_its_server_and_an_interpreter_that_is_named_has_to_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert all(path.is_file() for path in serving._FILES.values())
    assert serving._FILES.keys() == PEERS.keys()
    monkeypatch.delenv(SERVING_VARIABLE, raising=False)
    assert find_servers(None) is None
    monkeypatch.setenv(SERVING_VARIABLE, str(tmp_path / "gone"))
    with pytest.raises(PeerError, match=f"gone: give --servers or {SERVING_VARIABLE}"):
        find_servers(None)
    assert serving.installed(Path(sys.executable))["lightgbm"]
