"""The log of states of a store: its folder, the views of its readers, and the files that its writer has open."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from sevenfold.errors import StoreError, StoreFullError
from sevenfold.stores.durable import sync_folder
from sevenfold.stores.state_files import Mapped, Part, Shared, map_segment
from sevenfold.stores.state_layout import (
    FOLDER,
    HEAD_KEY,
    PARTS,
    SEGMENT_BITS,
    TAIL,
    Head,
    Layout,
)
from sevenfold.stores.state_pending import Pending
from sevenfold.stores.state_view import View, made_anew, slots_for

__all__ = ["NO_ROOM", "StateLog"]

NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
"""What the system says where a disk, a file or a quota is full."""


class StateLog:
    """The log in a folder of `path`, named by what LMDB's table `table` says of it. One for all threads of a process."""

    def __init__(
        self, path: Path, environment: Any, table: Any, write: bool, bits: int = SEGMENT_BITS
    ) -> None:
        self.path = path
        self.environment = environment
        self.table = table
        self.pending = Pending()
        self.bits = bits
        self._write = write
        self._turn = threading.Lock()
        self._view: View | None = None
        self._shared: tuple[Path, Shared] | None = None
        self._open: tuple[Path, int, int] | None = None

    def head(self, txn: Any) -> Head | None:
        """The head as of a transaction; None while there never was a state."""
        raw = txn.get(HEAD_KEY, db=self.table)
        return None if raw is None else Head.decoded(raw)

    def view(self, txn: Any, head: Head, private: bool = True) -> View:
        """The view of a head; one whose parts cannot be trusted has its own, in memory, unless there are to be no `private` ones."""
        view = self._view
        if view is not None and view.raw == head.raw_layout:
            return view
        with self._turn:
            view = self._view
            if view is not None and view.raw == head.raw_layout:
                return view
            layout = head.layout()
            made = View(self.path / layout.folder, layout, head.raw_layout, view, self._write)
            if not made.is_true:
                if not private:
                    return made
                self._make_private(txn, head, made)
            self._view = made
            return made

    def _make_private(self, txn: Any, head: Head, view: View) -> None:
        bits, changed = view.layout.bits, dict[int, Mapped]()
        for address, raw in self.tails(txn):
            number, at = address >> bits, address & ((1 << bits) - 1)
            if number not in changed:
                changed[number] = map_segment(view.folder, number, bits, private=True)
                view.hold(number, changed[number])
            words = changed[number].words(at, at + len(raw) // 8)
            words[:] = memoryview(raw).cast("q")
        made_anew(view, head, view.layout.generations, None)

    def tails(self, txn: Any) -> list[tuple[int, bytes]]:
        """The bytes of small commits that may not be in their segments, and their addresses."""
        out = []
        with txn.cursor(self.table) as cursor:
            placed = cursor.set_range(TAIL)
            while placed and bytes(cursor.key()).startswith(TAIL):
                key = bytes(cursor.key())
                out.append((int.from_bytes(key[len(TAIL) :], "big"), bytes(cursor.value())))
                placed = cursor.next()
        return out

    def shared(self, folder: Path) -> Shared:
        """What writers share of the log in a folder."""
        if self._shared is None or self._shared[0] != folder:
            self._shared = folder, Shared(folder)
        return self._shared[1]

    def handle(self, folder: Path, number: int) -> int:
        """The open file of a segment, to write; the one before is closed."""
        if self._open is None or self._open[:2] != (folder, number):
            self.let_go()
            self._open = folder, number, os.open(folder / f"{number}.seg", os.O_RDWR)
        return self._open[2]

    def begin(self) -> Head:
        """A log with nothing in it, on disk; nobody knows of it yet. Raises OSError."""
        layout = Layout.new(self.bits)
        folder = self.path / layout.folder
        try:
            folder.mkdir()
            self.new_segment(folder, layout.open, None)
            for part in range(PARTS):
                Part.made(folder, part, layout.generations[part], slots_for(0))
            shared = self.shared(folder)
            shared.make()
            shared.table = sum(layout.generations)
            shared.published = layout.open << self.bits
            sync_folder(self.path)
        except OSError:
            self.let_go()
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return Head(layout.open << self.bits, 0, 0, 0, 0, msgspec.msgpack.encode(layout))

    def new_segment(self, folder: Path, number: int, old: int | None) -> None:
        """The file of a segment, that of an `old` one if there is one. Raises OSError."""
        self.let_go()
        path = folder / f"{number}.seg"
        # A killed writer may have made it; who reads may stand in it, so it stays that file.
        if old is not None and not path.exists() and (folder / f"{old}.seg").exists():
            (folder / f"{old}.seg").replace(path)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if os.fstat(handle).st_size != 8 << self.bits:
                os.ftruncate(handle, 8 << self.bits)
            os.fsync(handle)
            sync_folder(folder)
        except OSError:
            os.close(handle)
            raise
        self._open = folder, number, handle

    def sweep(self, folder: str | None) -> None:
        """Delete the folders of logs that are not this store's any more."""
        for path in self.path.glob(FOLDER + "*"):
            if path.name != folder:
                shutil.rmtree(path, ignore_errors=True)

    def oldest_reader(self, txn: Any) -> int:
        """The oldest transaction whose snapshot is read now, by any process; the last one committed when none is."""
        self.environment.reader_check()
        numbers = [txn.id() - 1]
        for line in self.environment.readers().splitlines()[1:]:
            last = line.split()[-1:]
            numbers += [int(word) for word in last if word.isdigit()]
        return int(min(numbers))

    @contextmanager
    def faults(self) -> Iterator[None]:
        """Say what the system refused as an error of the store."""
        try:
            yield
        except OSError as error:
            self.let_go()
            where = f"the states of the store in {str(self.path)!r}"
            if error.errno in NO_ROOM:
                raise StoreFullError(
                    f"the disk has no room for {where}: {error}; make room, it goes on by itself"
                ) from error
            raise StoreError(f"{where} cannot be written: {error}") from error

    def let_go(self) -> None:
        """Close the file that is open."""
        if self._open is not None:
            os.close(self._open[2])
            self._open = None
