"""A client of a Sevenfold server, for the replay and for tests: one kept connection, JSON both ways."""

from __future__ import annotations

import http.client
from pathlib import Path
from typing import Any

import msgspec

from sevenfold.errors import RunError, ServingError
from sevenfold.serving.listening import connect_home

__all__ = ["Client", "HomeConnection", "admin_client"]

_RETRIES = 2


class Client:
    """Talks to the server at a loopback `port`; `token` is what writes need. A `connection` given is used instead.

    A request that fails for want of a connection is sent again on a new one: every write of the API may be
    repeated without effect.
    """

    def __init__(
        self,
        port: int,
        token: str,
        host: str = "127.0.0.1",
        timeout_s: float = 60,
        connection: http.client.HTTPConnection | None = None,
    ) -> None:
        self._connection = connection or http.client.HTTPConnection(host, port, timeout=timeout_s)
        self._headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        self._encoder = msgspec.json.Encoder()

    def post(self, path: str, body: Any) -> dict[str, Any]:
        """The answer to a POST of `body`; raises ServingError with the server's message on a refusal."""
        return self._send("POST", path, self._encoder.encode(body))

    def get(self, path: str) -> dict[str, Any]:
        """The answer to a GET."""
        return self._send("GET", path, None)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _send(self, method: str, path: str, body: bytes | None) -> dict[str, Any]:
        for attempt in range(_RETRIES):
            try:
                self._connection.request(method, path, body, self._headers)
                response = self._connection.getresponse()
                raw = response.read()
                break
            except (http.client.HTTPException, OSError) as error:
                self._connection.close()
                if attempt + 1 == _RETRIES:
                    raise RunError(
                        f"the server does not answer {method} {path}: {error}"
                    ) from error
        if response.status >= 300:
            raise ServingError(f"{method} {path} was refused ({response.status}): {_message(raw)}")
        answer: dict[str, Any] = msgspec.json.decode(raw)
        return answer


class HomeConnection(http.client.HTTPConnection):
    """A connection to the socket in a home, made anew when it was lost."""

    def __init__(self, home: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._home = home

    def connect(self) -> None:
        """Connect to the server of the home."""
        self.sock = connect_home(self._home, self.timeout or 60)


def admin_client(home: Path, timeout_s: float = 60) -> Client:
    """A client of the server that runs on `home`, for what changes the server; the owner's token is the home's."""
    token = (home / "token").read_text("utf-8").strip()
    return Client(0, token, connection=HomeConnection(home, timeout_s))


def _message(raw: bytes) -> str:
    try:
        return str(msgspec.json.decode(raw)["error"]["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return raw[:200].decode(errors="replace")
