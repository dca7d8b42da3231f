"""A real server as a child process, started on a free port and stopped by its own id."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import msgspec

from sevenfold.clock import elapsed_s
from sevenfold.errors import RunError

__all__ = ["ServerProcess"]


class ServerProcess:
    """`sevenfold serve SYSTEM --home HOME` on a free loopback port, up while the block runs.

    What it says goes to `server.log` in the home. Raises RunError when it ends at its start, at once, and when it is not ready in
    `timeout_s`: minutes, since the first start of a version compiles, and a busy machine takes its time for that.
    """

    def __init__(
        self, system: str, home: Path, arguments: Sequence[str] = (), timeout_s: float = 600
    ) -> None:
        self._command = [sys.executable, "-m", "sevenfold", "serve", system, "--home", str(home)]
        self._command += ["--port", "0", *arguments]
        self._home = home
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def pid(self) -> int:
        """The server's process id; 0 when it does not run."""
        return self._process.pid if self._process else 0

    def start(self) -> ServerProcess:
        """Start the server and wait until it is ready."""
        ready = self._home / "server.json"
        ready.unlink(missing_ok=True)
        with (self._home / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = elapsed_s() + self._timeout_s
        while elapsed_s() < deadline:
            if self._process.poll() is not None:
                raise RunError(f"the server ended at its start: {self._last_words()}")
            if ready.exists():
                described = msgspec.json.decode(ready.read_bytes())
                if described["pid"] == self._process.pid:
                    self.port = int(described["port"])
                    return self
            time.sleep(0.02)
        self.stop()
        raise RunError(f"the server was not ready in {self._timeout_s:.0f} s: {self._last_words()}")

    def stop(self, timeout_s: float = 20) -> None:
        """Ask the server to drain and end; end it for good when it does not."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def kill(self) -> None:
        """End the server at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> ServerProcess:
        """Start the server."""
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the server, whatever happened."""
        self.stop()

    def _last_words(self) -> str:
        log = self._home / "server.log"
        lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
        return " | ".join(lines[-5:]) or "it said nothing"
