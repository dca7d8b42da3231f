"""Replies of a Redis server, received into memory that is used again and read where they lie.

A read of 500 states is 0.7 MB. Parsed into an object for each value, and joined again, those bytes are copied four times
more. Here they come from the socket into one piece of memory, a kernel walks the reply's heads, and another one moves each
value down by the few bytes that it lies beyond a multiple of 8: into its own head, which nobody needs any more.

Known are replies as a read of values has them: flat lists of strings and of nothing. At anything else (an error, a
number, a list in a list, a push) the walk stops with all bytes as they came, for a parser of all replies.
The form is that of RESP 2: `*N`, then N times `$LENGTH`, the bytes, or `$-1` for nothing; each ends with a line's end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from sevenfold.compiled import borrowed, kernel
from sevenfold.stores.kv import Hashes, Words
from sevenfold.types import Ints

__all__ = ["ANY", "BEFORE", "Lying", "Room", "asking", "listed", "receive"]

Bytes = npt.NDArray[np.uint8]

ANY = -1
"""Of a reply whose length is not known before."""

BEFORE = 9
"""Bytes of a stored value before the value itself: the version that wrote it, big end first, and that it is one."""

_LEAST = 1 << 16
_KEPT = 4 << 20  # bytes that an idle connection holds at most
_SPARE = 16  # bytes behind what is received: words are read two at a time
_FURTHER = 256  # values of the replies whose length is not known
_DONE, _MORE, _ODD = 0, 1, 2
_STAR, _DOLLAR, _MINUS, _CR, _LF, _ZERO = b"*$-\r\n0"
_DIGITS = 10
_KEY = np.dtype([("head", "V5"), ("prefix", "V8"), ("hashes", "V16"), ("end", "V2")])
_KEY_HEAD, _KEY_END = np.void(b"$24\r\n"), np.void(b"\r\n")


class Room:
    """Memory of one connection for the replies of one transaction after the other.

    What was received stays where it is until `again`.
    """

    def __init__(self) -> None:
        self._words = np.empty((_LEAST + _SPARE) // 8, dtype=np.int64)
        self._begin = 0

    def again(self) -> None:
        """What was received is needed no more."""
        self._begin = 0
        if self._words.nbytes > _KEPT + _SPARE:
            self._words = np.empty((_LEAST + _SPARE) // 8, dtype=np.int64)

    def free(self) -> Ints:
        """The words that are free."""
        return self._words[self._begin // 8 :]

    def larger(self, got: int) -> Ints:
        """Twice as many words, all free, which begin with the `got` bytes that the free ones began with."""
        before = self.free()
        self._words = np.empty(2 * len(self._words), dtype=np.int64)
        self._words[: (got + 7) // 8] = before[: (got + 7) // 8]
        self._begin = 0
        return self._words

    def take(self, got: int) -> None:
        """The first `got` of the free bytes are in use."""
        self._begin += (got + 7) // 8 * 8


@dataclass(frozen=True, slots=True, eq=False)
class Lying:
    """Values as they were received: in these words, from one byte up to another (n, 2), from 0 for nothing."""

    words: Ints
    places: Ints

    def values(self) -> list[bytes | None]:
        """The bytes of each value."""
        raw = self.words.data.cast("B")
        return [bytes(raw[a:b]) if a else None for a, b in self.places.tolist()]

    @staticmethod
    def all_of(parts: Sequence[Lying]) -> Lying:
        """The values of replies that were received together."""
        if len(parts) == 1:
            return parts[0]
        return Lying(parts[0].words, np.concatenate([part.places for part in parts]))

    def settled(self, bound: int) -> Words | None:
        """The stored values as words, without what is before each, moved so that each begins at a multiple of 8.

        None, and nothing is moved, when one of them was written by version `bound` or a later one.
        """
        return (self.words, self.places) if _settle(self.words, self.places, bound) else None


def listed(reply: Lying | list[bytes | None]) -> list[Any]:
    """The values of a reply, wherever they are."""
    return reply.values() if isinstance(reply, Lying) else reply


def asking(
    data: bytes, asked: Sequence[tuple[bytes, Hashes]], most: int
) -> tuple[bytes, list[int]]:
    """The commands that ask the hash `data` for the keys of prefixes and hashes, at most `most` in each, as they are sent.

    And how many each of them asks for. The keys are those of `key_bytes`.
    """
    total = sum(len(hashes) for _, hashes in asked)
    # Fields that are bytes are filled several times as fast as columns of a table of bytes.
    rows = np.empty(total, dtype=_KEY)
    rows["head"], rows["end"] = _KEY_HEAD, _KEY_END
    end = 0
    for prefix, hashes in asked:
        begin, end = end, end + len(hashes)
        rows["prefix"][begin:end] = np.void(prefix)
        rows["hashes"][begin:end] = np.ascontiguousarray(hashes).view("V16")[:, 0]
    counts = [min(most, total - begin) for begin in range(0, total, most)]
    commands = []
    for i, count in enumerate(counts):
        commands.append(b"*%d\r\n$5\r\nHMGET\r\n$%d\r\n%s\r\n" % (2 + count, len(data), data))
        commands.append(rows[i * most : i * most + count].tobytes())
    return b"".join(commands), counts


def receive(
    take: Callable[[memoryview], int], room: Room, counts: Sequence[int]
) -> list[Lying] | memoryview:
    """The replies, lists of so many values each (or of `ANY` number), as they lie in `room`.

    `take` fills memory with what has come and says how many bytes; 0 ends it. Returned are all the bytes that came, as they
    came, when they are no such replies, or when they end before the last reply does.
    """
    lengths = np.array(counts, dtype=np.int64)
    places = np.empty((sum(count for count in counts if count > 0) + _FURTHER, 2), dtype=np.int64)
    progress = np.zeros(4, dtype=np.int64)
    words = room.free()
    raw, got, told = words.data.cast("B"), 0, _MORE
    while told == _MORE:
        if got + _SPARE >= len(raw):
            words = room.larger(got)
            raw = words.data.cast("B")
        came = take(raw[got : len(raw) - _SPARE])
        got += came
        told = _walk(words, got, progress, lengths, places) if came else _ODD
    if told == _ODD:
        return raw[:got]
    room.take(got + _SPARE)
    ends = list(accumulate(lengths.tolist()))
    return [Lying(words, places[begin:end]) for begin, end in pairwise([0, *ends])]


@kernel
def _walk(words: Ints, got: int, progress: Ints, lengths: Ints, places: Ints) -> int:
    """Go on from `progress` to where the replies end, or what has come of them: where each value lies, and how many are in each.

    Progress is the next byte, the values that the reply still has, the replies begun, the values found. It stops before a value
    that has not come whole.
    """
    words, progress, lengths = borrowed(words), borrowed(progress), borrowed(lengths)
    places = borrowed(places)
    raw = words.view(np.uint8)
    while progress[1] > 0 or progress[2] < len(lengths):
        is_list = progress[1] == 0
        number, at = _head(raw, progress[0], got, _STAR if is_list else _DOLLAR)
        if at <= 0:
            return _MORE if at == 0 else _ODD
        if is_list:
            expected = lengths[progress[2]]
            if number < 0 or (expected >= 0 and number != expected):
                return _ODD
            lengths[progress[2]] = number
            progress[1] = number
            progress[2] += 1
        else:
            place = progress[3]
            if place == len(places):
                return _ODD
            if number < 0:
                places[place, 0] = places[place, 1] = 0
            else:
                if at + number + 2 > got:
                    return _MORE
                if raw[at + number] != _CR or raw[at + number + 1] != _LF:
                    return _ODD
                places[place, 0], places[place, 1] = at, at + number
                at += number + 2
            progress[1] -= 1
            progress[3] += 1
        progress[0] = at
    return _DONE if progress[0] == got else _ODD


@kernel
def _head(raw: Bytes, at: int, got: int, kind: int) -> tuple[int, int]:
    """The number of the head at a byte, -1 for none, and the byte after it: 0 when it has not come whole, -1 when it is another."""
    if at >= got:
        return -1, 0
    if raw[at] != kind:
        return -1, -1
    begin = at = at + 1
    number = 0
    while at < got and at - begin < _DIGITS and 0 <= int(raw[at]) - _ZERO <= 9:
        number = number * 10 + int(raw[at]) - _ZERO
        at += 1
    if at == begin and at < got and raw[at] == _MINUS:
        # Of numbers below zero there is but one.
        if at + 1 < got and raw[at + 1] != _ZERO + 1:
            return -1, -1
        number, at = -1, min(at + 2, got)
    for end in (_CR, _LF):
        if at >= got:
            return -1, 0
        if at == begin or raw[at] != end:
            return -1, -1
        at += 1
    return number, at


@kernel
def _settle(words: Ints, places: Ints, bound: int) -> bool:
    """Move each value down to a multiple of 8 and make `places` its own; False, before any is moved, for one to be looked at."""
    words, places = borrowed(words), borrowed(places)
    raw = words.view(np.uint8)
    for i in range(len(places)):
        begin, length = places[i, 0], places[i, 1] - places[i, 0]
        if begin == 0:
            continue
        if length < BEFORE - 1:
            return False
        version = int(raw[begin])
        for byte in range(begin + 1, begin + BEFORE - 1):
            version = (version << 8) | int(raw[byte])
        if not 0 <= version < bound:
            return False
    for i in range(len(places)):
        begin, end = places[i, 0] + BEFORE, places[i, 1]
        if end <= begin:
            places[i, 1] = places[i, 0] = 0  # of no value, or of a deleted one
            continue
        first, right = begin >> 3, (begin & 7) * 8
        if right:
            # Each word comes from itself and the one above it, so what is read was not yet written. As a part of its own the
            # compiler makes vectors of it: a quarter of the time.
            part = words[first : first + ((end - begin + 7) >> 3) + 1]
            rest = (1 << (64 - right)) - 1
            for at in range(len(part) - 1):
                part[at] = ((part[at] >> right) & rest) | (part[at + 1] << (64 - right))
        places[i, 0] = first << 3
        places[i, 1] = end - (begin & 7)
    return True
