"""Heads of requests that came before, byte for byte: what a parser made of one it makes of the same bytes again."""

from __future__ import annotations

from sevenfold.serving.route import Head

__all__ = ["KnownHeads"]

_MOST = 512
_MOST_BYTES = 4096


class KnownHeads:
    """What the heads ask that came of late, at most `2 * most` of `most_bytes` each.

    A client asks again and again with the same head, but for what it says of the time or of the caller. Only what
    follows from the bytes alone is kept: who asks, and whether there is time for it, is decided anew each time.
    """

    def __init__(self, most: int = _MOST, most_bytes: int = _MOST_BYTES) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._new: dict[bytes, Head] = {}
        self._old: dict[bytes, Head] = {}

    def find(self, raw: bytes) -> Head | None:
        """What a head asks, its bytes with the empty line; None where it is not known."""
        found = self._new.get(raw)
        if found is None:
            found = self._old.get(raw)
            if found is not None:
                self.keep(raw, found)
        return found

    def keep(self, raw: bytes, head: Head) -> None:
        """Know it from now on; those that nobody has asked with for longest are let go of."""
        if len(raw) > self._most_bytes:
            return
        if len(self._new) >= self._most:
            self._old, self._new = self._new, {}
        self._new[raw] = head
