"""Writes put aside: on disk by one append, in the tables with the next transaction of whatever process.

A commit of LMDB copies each page that it touches and waits for the disk twice. What only has to be safe at once, and may be found in
the tables some tenths of a second later, is appended to a file beside it: its blocks are written from the beginning, so that
one wait for the disk is all there is.

    append    entries | write     one thread of one process
    sync      wait for the disk   beside it
    write()   the lock of the writer | entries that are not in the tables, in their order | mark | ... | commit

The mark in `meta` says which entry is the next that is not in the tables, and where it lies. An entry has its number and a checksum:
what was cut short, or is of an earlier round of the file, ends the search. Who promises an entry once a `sync` has returned loses none by a loss of power, who promises it
before that none by a kill; what they leave is put into the tables by whoever writes next, or opens the store.
"""

from __future__ import annotations

import errno
import os
import struct
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from sevenfold.errors import StoreError
from sevenfold.stores.durable import sync_folder
from sevenfold.stores.kv import Entry, Transaction
from sevenfold.stores.log import raise_frontier
from sevenfold.stores.syncing import Syncing
from sevenfold.stores.tables import META
from sevenfold.watch import Watch

__all__ = ["ASIDE_BYTES", "AsideFile", "Mark"]

ASIDE_BYTES = 16 << 20
"""What there is room for: some three thousand answers of a hundred candidates."""

_MARK = b"aside"
_MARK_FORM = struct.Struct("<QQ")
# The number of the entry, its bytes, and the checksum of both and the bytes.
_HEAD = struct.Struct("<QII")
_CHECKED = struct.Struct("<QI")


class Mark(NamedTuple):
    """The number of an entry, from 1, and where in the file it lies."""

    number: int
    at: int


_FIRST = Mark(1, 0)
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Entry)


class AsideFile:
    """The file `path` of `size` bytes; it is there only while somebody puts aside, or was killed at it.

    One process at a time puts aside, as the one server of a home; any may `put_into`.
    """

    def __init__(self, path: Path, size: int = ASIDE_BYTES) -> None:
        self.path = path
        self._name = str(path)
        self._size = size
        self._handle: int | None = None  # of whoever puts aside
        self._syncing: Syncing | None = None
        self._next: Mark | None = None  # where the next entry goes; None where none may
        self._is_failed = False
        self.watch = Watch([path], content=False)  # tells whether the file may have been taken away
        self._changes = -1
        self._done = _FIRST  # all before are in the tables, as far as this process knows
        self._held: deque[tuple[Entry, Mark]] = (
            deque()
        )  # of those that are not, each with the mark behind it

    @property
    def is_open(self) -> bool:
        """Whether entries can be put aside."""
        return self._next is not None and not self._is_failed

    @property
    def is_failed(self) -> bool:
        """Whether a `sync` has failed: what is aside may not be read back then."""
        return self._is_failed

    @property
    def done(self) -> int:
        """The number of the first entry that may not be in the tables."""
        return self._done.number

    def begin(self, mark: Mark) -> None:
        """Make the file, written to its end, and go on at `mark`: nothing may be waiting. Raises OSError."""
        self._let_go()
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            # Blocks that were never written cost the file system a commit of its own when they are.
            for begin in range(0, self._size, 1 << 20):
                os.pwrite(handle, bytes(min(1 << 20, self._size - begin)), begin)
            os.fsync(handle)
            sync_folder(self.path.parent)
        except OSError:
            os.close(handle)
            self.path.unlink(missing_ok=True)
            raise
        self._handle, self._next, self._done = handle, mark, mark
        self._held.clear()
        self.watch, self._changes = Watch([self.path], content=False), -1

    def append(self, entries: Sequence[Entry]) -> int | None:
        """Put entries aside, all or none: the number behind the last, None where there is no room, or the file was taken away.

        They are the system's to write when this returns: they outlive the process, and once there was a `sync` a loss of power.
        Raises OSError, and takes no more then: what is in the file is not known.
        """
        if self._next is None or self._handle is None or not self.is_open or not self._is_there():
            return None
        number = self._next.number
        parts = [_framed(number + n, _ENCODER.encode(entry)) for n, entry in enumerate(entries)]
        content = b"".join(parts)
        at = self._room(self._next, len(content))
        if at is None:
            return None
        if self._done.number == number:  # nothing waits: what will wait begins here
            self._done = Mark(number, at)
        behind, self._next = Mark(number + len(parts), at + len(content)), None
        written = os.pwrite(self._handle, content, at)
        if written != len(content):
            raise OSError(f"{written} of {len(content)} bytes were written to {str(self.path)!r}")
        self._next = behind
        for entry, part in zip(entries, parts, strict=True):
            at += len(part)
            number += 1
            self._held.append((entry, Mark(number, at)))
        return behind.number

    def sync(self) -> None:
        """Wait until all that is aside is on disk; beside appends of another thread. Raises OSError, and takes no more then."""
        if self._handle is None:
            return
        if self._is_failed:  # the system tells of it once, and would say that all is well
            raise OSError(errno.EIO, f"an earlier sync of {str(self.path)!r} failed")
        try:
            os.fdatasync(self._handle)
        except OSError:
            self._is_failed = True
            raise

    def begin_sync(self) -> int:
        """Begin to wait beside this thread for all that is aside by now: the file that can be read when `end_sync` will tell."""
        if self._handle is None:
            raise StoreError("nothing is put aside: begin first")
        if self._syncing is None:
            self._syncing = Syncing(self._handle)
        self._syncing.begin()
        return self._syncing.told

    def end_sync(self, wait: bool = False) -> bool:
        """Whether what was begun to be waited for is on disk; with `wait` once it is. Raises OSError, and takes no more then."""
        if self._syncing is None:
            return False
        try:
            return self._syncing.end(wait)
        except OSError:
            self._is_failed = True
            raise

    def note_kept(self, txn: Transaction, number: int) -> None:
        """Note, after a failure, that all before `number` is in the tables with a transaction, if that is all there was: none of it is read back later."""
        if self._next is not None and self._next.number == number:
            txn.put(META, _MARK, _MARK_FORM.pack(*self._next))

    def mark(self, txn: Transaction) -> Mark:
        """The first entry that is not in the tables, as a transaction knows."""
        raw = txn.get(META, _MARK)
        return _FIRST if raw is None else Mark(*_MARK_FORM.unpack(raw))

    def waiting(self, txn: Transaction) -> Iterator[tuple[Entry, Mark]]:
        """The entries that are on disk and not in the tables, each with the mark behind it."""
        if self._handle is not None:
            yield from _entries(self._handle, self.mark(txn))
            return
        if not os.access(self._name, os.F_OK):  # quicker said than by an error
            return
        try:  # anew each time: the file is another's, who makes and removes it
            handle = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            return
        try:
            yield from _entries(handle, self.mark(txn))
        finally:
            os.close(handle)

    def put_into(self, txn: Transaction) -> Mark | None:
        """Put what waits into the tables; the mark behind it for `is_done` once that is committed, None where nobody has to know."""
        found = self._found(txn)
        if not found:  # another process may have done it
            return None if self._handle is None else self.mark(txn)
        puts: dict[str, list[tuple[bytes, bytes]]] = {}
        for entry, _ in found:
            for table, key, value in entry.puts:
                puts.setdefault(table, []).append((key, value))
        for table, items in puts.items():
            txn.put_many(table, items)
        raise_frontier(txn, max(entry.read_us for entry, _ in found))
        behind = found[-1][1]
        txn.put(META, _MARK, _MARK_FORM.pack(*behind))
        return behind

    def is_done(self, mark: Mark) -> None:
        """Note that all before `mark` is in the tables, and its room free."""
        if mark.number > self._done.number:
            self._done = mark
        self._let_be(mark.number)

    def _found(self, txn: Transaction) -> list[tuple[Entry, Mark]]:
        """What waits: as this process has it in memory, where it put it aside; to read it back takes as long as to put it into the tables."""
        if self._handle is None or self._is_failed:
            return list(self.waiting(txn))
        self._let_be(self.mark(txn).number)
        return list(self._held)

    def _let_be(self, number: int) -> None:
        """Hold nothing before `number` any more."""
        while self._held and self._held[0][1].number <= number:
            self._held.popleft()

    def remove(self) -> None:
        """Delete the file: nothing of it waits."""
        self._let_go()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the file."""
        self._let_go()

    def _is_there(self) -> bool:
        """Whether the file still has its name: what is appended to one that was taken away would be gone with it."""
        assert self._handle is not None
        changes = self.watch.look()
        if changes == self._changes:
            return True
        try:
            is_there = os.path.samestat(os.stat(self.path), os.fstat(self._handle))
        except OSError:
            return False
        if is_there:
            self._changes = changes
        return is_there

    def _let_go(self) -> None:
        self._next = None
        if self._syncing is not None:
            self._syncing.close()
            self._syncing = None
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _room(self, following: Mark, size: int) -> int | None:
        """Where so many bytes go: behind the last entry, or at the beginning; None where they would be over what waits."""
        done, at = self._done, following.at
        is_empty = done.number == following.number
        if is_empty or at > done.at:  # what waits, if anything, ends here: behind it all is free
            if at + size <= self._size:
                return at
            return 0 if size < (self._size if is_empty else done.at) else None
        # Never up to it: an end where the beginning is means that nothing waits.
        return at if at + size < done.at else None


def _framed(number: int, raw: bytes) -> bytes:
    checksum = zlib.crc32(raw, zlib.crc32(_CHECKED.pack(number, len(raw))))
    return _HEAD.pack(number, len(raw), checksum) + raw


def _entries(handle: int, mark: Mark) -> Iterator[tuple[Entry, Mark]]:
    size = os.fstat(handle).st_size
    while True:
        # It went to the beginning where it had no room behind the last.
        found = _entry(handle, size, mark) or _entry(handle, size, Mark(mark.number, 0))
        if found is None:
            return
        mark = found[1]
        yield found


def _entry(handle: int, most: int, mark: Mark) -> tuple[Entry, Mark] | None:
    number, at = mark
    head = os.pread(handle, _HEAD.size, at)
    if len(head) < _HEAD.size:
        return None
    found, size, checksum = _HEAD.unpack(head)
    if found != number or size > most:
        return None
    raw = os.pread(handle, size, at + _HEAD.size)
    if len(raw) != size or zlib.crc32(raw, zlib.crc32(_CHECKED.pack(number, size))) != checksum:
        return None
    return _DECODER.decode(raw), Mark(number + 1, at + _HEAD.size + size)
