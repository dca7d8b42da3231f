"""What a client may cost: sizes, counts and times, each with what happens beyond it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]

_KIB, _MIB = 1024, 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one listener.

    Of a head: `head_bytes` with the request line and `headers` in number (431), `head_timeout_s` from its first byte
    to its last (408). Of a body: `max_body_bytes`, or less where the route says so (413), `body_timeout_s` to come in
    whole (408), `bodies_bytes` of all bodies that are being received (503). Of connections: `connections` at once (the
    one that has been idle for longest is closed for a new one; 503 when none is idle), `idle_timeout_s` without a
    request, `write_timeout_s` for a client to go on reading its answer (both closed). `anonymous_per_s` requests a
    second of all who show no token, None for no limit (429).
    """

    head_bytes: int = 32 * _KIB
    headers: int = 100
    head_timeout_s: float = 10
    max_body_bytes: int = 16 * _MIB
    body_timeout_s: float = 15
    bodies_bytes: int = 256 * _MIB
    connections: int = 10_000
    idle_timeout_s: float = 75
    write_timeout_s: float = 30
    anonymous_per_s: float | None = None
