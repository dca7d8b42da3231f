"""The files of the log of states, as this process has them in its memory: segments, parts of the table, what writers share.

    N.seg      64 MiB of records, of which only what is in use has blocks
    I.P.hash   a part of the table: MAGIC, boot, generation, part, slots; then its slots
    writers    MAGIC, boot, how far was published, of which parts it speaks, slots in use by part, living words by segment

The last two are never synced. They are true to the records only as long as the machine runs that wrote them, so they carry the
identity of its boot: those of another one are made anew.
"""

from __future__ import annotations

import mmap
import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np

from sevenfold.errors import StoreError
from sevenfold.stores.state_records import RING
from sevenfold.types import Ints

__all__ = [
    "MEMORY",
    "Mapped",
    "Part",
    "Shared",
    "boot",
    "damaged",
    "map_segment",
    "place_of",
    "room_for",
]

_MAGIC = 0x37666F6C64537431
_BASE = 4096  # numpy takes no array that begins at 0
_PART = 8  # words of a part before its slots
_SHARED = 128
_PARTS = 64


class _Everything:
    __array_interface__: dict[str, Any] = {  # noqa: RUF012 (numpy asks for this name)
        "data": (_BASE, False),
        "shape": (1 << 44,),
        "typestr": "<i8",
        "version": 3,
    }


MEMORY: Ints = np.asarray(_Everything())
"""All of the process's memory as words: what kernels are told of lies somewhere in it. Not to be printed: most of it is not there."""


def place_of(words: Ints) -> int:
    """Where in `MEMORY` an array of whole words begins that lie one after the other."""
    address: int = words.__array_interface__["data"][0]
    return (address - _BASE) // 8


@cache
def boot() -> tuple[int, int]:
    """The identity of this boot of the machine, two words; of this process where the machine does not tell."""
    try:
        told = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        told = _asked()
    try:
        raw = UUID(told).bytes
    except ValueError:
        raw = uuid4().bytes
    first, second = np.frombuffer(raw, dtype=np.int64).tolist()
    return first, second


def _asked() -> str:
    command = ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def damaged(path: Path, what: str) -> StoreError:
    """The error for files of states that are not what they were."""
    return StoreError(
        f"the states in {str(path)!r} are damaged: {what}; rebuild the state from the log, or restore the folder of the store as a whole"
    )


class Mapped:
    """A file, or memory without one, in the memory of this process for as long as this is held.

    `place` is its first word in `MEMORY`.
    """

    __slots__ = ("_map", "place")

    def __init__(self, held: mmap.mmap) -> None:
        self._map = held
        address = np.frombuffer(held, dtype=np.uint8).__array_interface__["data"][0]
        self.place = (address - _BASE) // 8

    @classmethod
    def of_file(cls, path: Path, size: int, access: int) -> Mapped:
        """The first `size` bytes of a file; StoreError when there are fewer."""
        flags = os.O_RDWR if access == mmap.ACCESS_WRITE else os.O_RDONLY
        try:
            handle = os.open(path, flags)
        except FileNotFoundError as error:
            raise damaged(path.parent, f"there is no {path.name}") from error
        try:
            found = os.fstat(handle).st_size
            if found < size:
                raise damaged(path.parent, f"{path.name} has {found} bytes and had {size}")
            return cls(mmap.mmap(handle, size, access=access))
        finally:
            os.close(handle)

    @classmethod
    def of_nothing(cls, words: int) -> Mapped:
        """Memory of this process alone, zeros."""
        return cls(mmap.mmap(-1, max(8 * words, mmap.PAGESIZE)))

    def words(self, begin: int, end: int) -> Ints:
        """Some of its words, as long as it is held."""
        return MEMORY[self.place + begin : self.place + end]


def map_segment(folder: Path, number: int, bits: int, private: bool = False) -> Mapped:
    """A segment to be read; a `private` one can be changed, for this process alone."""
    access = mmap.ACCESS_COPY if private else mmap.ACCESS_READ
    return Mapped.of_file(folder / f"{number}.seg", 8 << bits, access)


def room_for(handle: int, size: int) -> None:
    """Have blocks for all of a file that will be written to by its map; OSError when the disk is full."""
    try:
        os.posix_fallocate(handle, 0, size)
    except AttributeError:  # not there on every system
        for begin in range(0, size, 1 << 20):
            os.pwrite(handle, bytes(min(1 << 20, size - begin)), begin)


def _new_file(path: Path, size: int) -> None:
    # A file of that name may be what a killed writer left: nobody is to have it in memory.
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        room_for(handle, size)
    except OSError:
        path.unlink()
        raise
    finally:
        os.close(handle)


class Part:
    """A part of the table: where its slots are in `MEMORY`, and their number less 1."""

    __slots__ = ("generation", "held", "mask", "slots")

    def __init__(self, held: Mapped, generation: int, slots: int) -> None:
        self.held = held
        self.generation = generation
        self.slots = held.place + _PART
        self.mask = slots - 1

    @staticmethod
    def path(folder: Path, part: int, generation: int) -> Path:
        """Its file."""
        return folder / f"{generation}.{part}.hash"

    @classmethod
    def opened(cls, folder: Path, part: int, generation: int, write: bool) -> Part | None:
        """The part as it is in its file; None when it cannot be trusted."""
        path = cls.path(folder, part, generation)
        try:
            size = path.stat().st_size
            held = Mapped.of_file(path, size, mmap.ACCESS_WRITE if write else mmap.ACCESS_READ)
        except (OSError, StoreError, ValueError):
            return None
        slots = (size // 8 - _PART) // 2
        if slots < 1 or slots & (slots - 1) or size != 8 * (_PART + 2 * slots):
            return None
        wanted = [_MAGIC, *boot(), generation, part, slots]
        if held.words(0, len(wanted)).tolist() != wanted:
            return None
        return cls(held, generation, slots)

    @classmethod
    def made(cls, folder: Path | None, part: int, generation: int, slots: int) -> Part:
        """One with nothing in it; without a folder in the memory of this process alone. Raises OSError."""
        words = _PART + 2 * slots
        if folder is None:
            return cls(Mapped.of_nothing(words), generation, slots)
        path = cls.path(folder, part, generation)
        _new_file(path, 8 * words)
        held = Mapped.of_file(path, 8 * words, mmap.ACCESS_WRITE)
        held.words(0, 6)[:] = [_MAGIC, *boot(), generation, part, slots]
        return cls(held, generation, slots)


class Shared:
    """What the writers of all processes know of the table, beside what a commit says."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "writers"
        self._name = str(self._path)  # of a path it would be made for each commit
        self._held: Mapped | None = None
        self._identity: tuple[int, int] | None = None

    @property
    def is_true(self) -> bool:
        """Whether it is there, and of this boot."""
        return self.told() is not None

    def told(self) -> tuple[int, int] | None:
        """How far slots may point, and of which parts it speaks: `published` and `table`; None where it is not `is_true`."""
        try:
            found = os.stat(self._name)
        except OSError:
            return None
        if self._held is None or (found.st_dev, found.st_ino) != self._identity:
            if found.st_size != 8 * (_SHARED + RING):
                return None
            self._held = Mapped.of_file(self._path, found.st_size, mmap.ACCESS_WRITE)
            self._identity = found.st_dev, found.st_ino
        magic, first, second, published, table = self._held.words(0, 5).tolist()
        return (published, table) if (magic, first, second) == (_MAGIC, *boot()) else None

    def make(self) -> None:
        """Make it anew; it `is_true` only when `published` is set. Raises OSError."""
        _new_file(self._path, 8 * (_SHARED + RING))
        self._held = None

    @property
    def published(self) -> int:
        """How far slots may point."""
        return int(self._words(3, 4)[0])

    @published.setter
    def published(self, end: int) -> None:
        words = self._words(0, 4)
        words[3] = end
        words[:3] = [_MAGIC, *boot()]

    @property
    def table(self) -> int:
        """Of which parts it speaks: the sum of their generations."""
        return int(self._words(4, 5)[0])

    @table.setter
    def table(self, generations: int) -> None:
        self._words(4, 5)[0] = generations

    @property
    def used(self) -> Ints:
        """The slots in use, by part."""
        return self._words(8, 8 + _PARTS)

    @property
    def live(self) -> Ints:
        """The words of records that are the newest of their key and no deletions, by segment, as in `RING`."""
        return self._words(_SHARED, _SHARED + RING)

    def _words(self, begin: int, end: int) -> Ints:
        if self._held is None:
            self._held = Mapped.of_file(self._path, 8 * (_SHARED + RING), mmap.ACCESS_WRITE)
            found = os.stat(self._path)
            self._identity = found.st_dev, found.st_ino
        return self._held.words(begin, end)
