"""Answers that wait for the lock of the store, shown to the other processes: whoever has it writes those of all.

A commit takes milliseconds, nearly all of them the disk's, and a store has one writer. Processes that each wrote their own
answers would stand in line for it, each with a commit of its own. So a process shows each answer that it has made in a file
that all map, until that is on disk. Whoever has the lock writes its own and what the others show; whoever comes next finds its
own written and on disk, and leaves.

    process   make, show | lock | those of its own that are not written, and what others show; commit | hide

Nobody has to trust what is shown. It is written only as the store bears it out at that moment, by the same marks as its own
process would go by; what is changed while it is read has another checksum, and is left to its process, as is what finds no
room. What a killed process had shown are answers that nobody has had: written or not, the log is right, and their requests
may be sent again. Nothing of the file is used again after a start.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import msgspec

from sevenfold.errors import StoreError
from sevenfold.serving.basis import read_basis
from sevenfold.serving.instants import seen
from sevenfold.serving.prediction_log import is_answered, knows_feature_list, write_encoded
from sevenfold.stores.kv import Transaction
from sevenfold.types import Instant

__all__ = ["SLOT_BYTES", "Offer", "Offers"]

SLOT_BYTES = 1 << 20
"""The room of each process: of some two hundred answers of a hundred candidates."""

_HEAD = struct.Struct("<II")  # bytes, checksum
_LENGTH = struct.Struct("<I")  # before each of the answers


class Offer(msgspec.Struct, array_like=True, frozen=True):
    """An answer to be written: as it is kept (`raw`), the id of its list of features, and its `Basis` in short."""

    request_id: str
    t_us: Instant
    raw: bytes
    features: str
    end: int
    standing: str


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Offer)


class Offers:
    """The file `path` with room for `among` processes, of which this is the one with that `number`.

    The file is made when it is not there. One thread of a process at a time. Raises StoreError for a file that is something else.
    """

    def __init__(self, path: Path, number: int, among: int) -> None:
        self._number, self._among = number, among
        size = among * SLOT_BYTES
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            found = os.fstat(handle).st_size
            if found not in (0, size):
                raise StoreError(
                    f"{str(path)!r} has {found} bytes and is no file of offers: delete it"
                )
            if not found:
                # Written and not only reserved: where the disk is full later, a page that is not there kills who touches it.
                for _ in range(among):
                    os.write(handle, bytes(SLOT_BYTES))
            self._map = mmap.mmap(handle, size)
        finally:
            os.close(handle)
        self._shown: dict[str, bytes] = {}
        self._size = self._checksum = 0
        self._say()

    def show(self, offer: Offer) -> None:
        """Show it to the others; not where there is no room."""
        raw = _ENCODER.encode(offer)
        part = _LENGTH.pack(len(raw)) + raw
        if self._size + len(part) <= SLOT_BYTES - _HEAD.size:
            self._shown[offer.request_id] = part
            self._append(part)
            self._say()

    def hide(self, request_ids: Iterable[str]) -> None:
        """Show them no more: they are on disk, or never will be."""
        for name in request_ids:
            self._shown.pop(name, None)
        self._size = self._checksum = 0
        self._append(b"".join(self._shown.values()))
        self._say()

    def write_others(self, txn: Transaction) -> int:
        """Write what the others show, in their transaction's stead: all that the store bears out; how many that were."""
        written = 0
        standing = ""
        for number in range(self._among):
            for offer in self.of(number) if number != self._number else ():
                standing = standing or read_basis(txn).standing()
                if self._is_borne_out(txn, offer, standing):
                    write_encoded(txn, offer.request_id, offer.t_us, offer.raw)
                    written += 1
        return written

    def of(self, number: int) -> list[Offer]:
        """What a process shows now; nothing where it is just changing that."""
        start = number * SLOT_BYTES
        size, checksum = _HEAD.unpack_from(self._map, start)
        start += _HEAD.size
        raw = self._map[start : start + min(size, SLOT_BYTES - _HEAD.size)]
        if not size or zlib.crc32(raw) != checksum:
            return []
        found, at = [], 0
        while at < len(raw):
            (length,) = _LENGTH.unpack_from(raw, at)
            at += _LENGTH.size + length
            found.append(_DECODER.decode(raw[at - length : at]))
        return found

    def close(self) -> None:
        """Let go of the file."""
        self._map.close()

    def _is_borne_out(self, txn: Transaction, offer: Offer, standing: str) -> bool:
        return (
            not is_answered(txn, offer.request_id)
            and offer.standing == standing
            and seen(txn, offer.end, offer.t_us)
            and knows_feature_list(txn, offer.features)
        )

    def _append(self, part: bytes) -> None:
        start = self._number * SLOT_BYTES + _HEAD.size + self._size
        self._map[start : start + len(part)] = part
        self._size += len(part)
        self._checksum = zlib.crc32(part, self._checksum)

    def _say(self) -> None:
        """Say how much there is: until then, what has been changed has another checksum."""
        _HEAD.pack_into(self._map, self._number * SLOT_BYTES, self._size, self._checksum)
