"""What a commit says of the log of states: how far it is true, which segments and parts it is in."""

from __future__ import annotations

import os
import struct
from typing import Any, NamedTuple

import msgspec

from sevenfold.errors import StoreError

__all__ = ["FOLDER", "HEAD_KEY", "PARTS", "SEGMENT_BITS", "TAIL", "Head", "Layout", "tail_key"]

FOLDER = "states-"
HEAD_KEY = b"~head"  # behind all others: on the page that the bytes of the last commit are on
TAIL = b"tail/"
"""Before the address of a small commit's bytes, which are kept until its segment is synced."""

PARTS = 64
SEGMENT_BITS = 23
"""A segment has 2^23 words: 64 MiB."""

_VERSION = 1
_FIXED = struct.Struct("<5q")


class Layout(msgspec.Struct, array_like=True, frozen=True):
    """Where states are, but for what changes with each commit.

    `closed` are the segments before the one that is `open`, and how many words of each are used; `gaps` are addresses of stretches that nobody
    may read or write again; `waiting` are segments and `void` parts with their generations that are in no layout any more, and the transaction they left in.
    """

    folder: str
    bits: int
    closed: list[tuple[int, int]]
    open: int
    gaps: list[tuple[int, int]]
    generations: list[int]
    waiting: list[tuple[int, int]]
    void: list[tuple[int, int, int]]
    version: int = _VERSION

    @classmethod
    def new(cls, bits: int) -> Layout:
        """Of a log with nothing in it."""
        folder = FOLDER + os.urandom(4).hex()
        return cls(folder, bits, [], 1, [], [1] * PARTS, [], [])

    @property
    def first(self) -> int:
        """The oldest segment."""
        return self.closed[0][0] if self.closed else self.open

    def numbers(self) -> list[int]:
        """The segments, the oldest first."""
        return [number for number, _ in self.closed] + [self.open]

    def stretches(self, number: int, begin: int, end: int) -> list[tuple[int, int]]:
        """What is no gap between two places of a segment, as addresses."""
        base = number << self.bits
        at, out = base + begin, []
        for gap in sorted(gap for gap in self.gaps if gap[0] >> self.bits == number):
            if gap[0] > at:
                out.append((at, min(gap[0], base + end)))
            at = max(at, gap[1])
        if at < base + end:
            out.append((at, base + end))
        return [(first, last) for first, last in out if first < last]


class Head(NamedTuple):
    """The state of the log as of a commit.

    All before address `tail` is true; `keys` have a value; segment `victim` is being cleaned, and has been looked at up to word `looked`;
    `unsynced` words may not be on disk but for what is kept under `TAIL`.
    """

    tail: int
    keys: int
    victim: int
    looked: int
    unsynced: int
    raw_layout: bytes

    @classmethod
    def decoded(cls, raw: Any) -> Head:
        """The head of what was stored."""
        tail, keys, victim, looked, unsynced = _FIXED.unpack_from(raw)
        return cls(tail, keys, victim, looked, unsynced, bytes(raw[_FIXED.size :]))

    def encoded(self) -> bytes:
        """What is stored."""
        return _FIXED.pack(*self[:5]) + self.raw_layout

    def layout(self) -> Layout:
        """The layout; StoreError for one of a later version."""
        found = _DECODER.decode(self.raw_layout)
        if found.version != _VERSION:
            raise StoreError(
                f"the states of this store are of format {found.version}, this version reads format {_VERSION}: "
                "open it by the version that wrote it, or by a later one"
            )
        return found


_DECODER = msgspec.msgpack.Decoder(Layout)


def tail_key(address: int) -> bytes:
    """The key of the bytes of a small commit."""
    return TAIL + address.to_bytes(8, "big")
