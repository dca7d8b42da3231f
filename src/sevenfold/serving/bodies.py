"""The body of a request while it comes: kept to the size of its route, and all that come at once to one together."""

from __future__ import annotations

from sevenfold.serving.head import CLOSE, too_large
from sevenfold.serving.problem import HttpError

__all__ = ["Bodies", "Body"]


class Bodies:
    """The bytes of all bodies of one listener that are on their way: at most `most`."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.n = 0

    def check(self, size: int) -> None:
        """Raise HttpError 503 where there is no room for so many bytes more."""
        if self.n + size > self.most:
            raise HttpError(
                503,
                "too_much_at_once",
                "more bytes of bodies are on their way than this server holds; wait as Retry-After says",
                headers=((b"retry-after", b"1"), *CLOSE),
            )


class Body:
    """One that comes in parts, of at most `limit` bytes; `whole` or `drop` ends it."""

    __slots__ = ("_bodies", "_limit", "_parts", "_size")

    def __init__(self, limit: int, bodies: Bodies) -> None:
        self._limit = limit
        self._bodies = bodies
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, part: bytes) -> None:
        """Take a part; raises HttpError 413 or 503."""
        size = len(part)
        if self._size + size > self._limit:
            raise too_large(self._limit)
        self._bodies.check(size)
        self._bodies.n += size
        self._size += size
        self._parts.append(part)

    def whole(self) -> bytes:
        """All of it, where nothing more comes."""
        parts = self._parts
        self.drop()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def drop(self) -> None:
        """Let go of it."""
        self._bodies.n -= self._size
        self._size, self._parts = 0, []
