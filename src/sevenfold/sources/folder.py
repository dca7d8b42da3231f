"""A folder into which files of events are put: each is read once, whole, in a stable order."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sevenfold.clock import Clock
from sevenfold.errors import InputError
from sevenfold.sources.files import read_pieces
from sevenfold.sources.lines import JSON_ENDS, read_objects
from sevenfold.sources.protocol import Batch, Offset, Origin, Poison, row_count
from sevenfold.spec.stream import Stream

__all__ = ["FILE_ENDS", "FolderSource", "read_file"]

FILE_ENDS = (".parquet", ".csv", ".tsv", ".csv.gz", ".tsv.gz", *JSON_ENDS)
"""How the names of the files end that are read; all others are left alone."""

_UNFINISHED = (".", "_")  # how the names of files begin that their writers are not done with
_MAGIC = b"PAR1"
_ROWS = 50_000


@dataclass(frozen=True, slots=True)
class _Found:
    """A file as it lies in the folder."""

    part: str
    path: Path
    mark: str  # its size and when it was changed
    changed_us: int


class FolderSource:
    """The files below a folder, or one file.

    A file is read when nothing has changed it for `settle_us`; its name says what it is and does not begin with `.` or
    `_`. Those found together are read in the order of their paths. A file that cannot be read is named and set
    aside, until it is changed; one that is changed after it was read is set aside too: what has been taken from
    it stays, and further rows belong into a further file. A Parquet file without its last bytes is not read yet.
    """

    def __init__(
        self,
        place: Path,
        stream: Stream,
        clock: Clock,
        columns: Mapping[str, str] | None = None,
        settle_us: int = 2_000_000,
    ) -> None:
        if not place.is_dir() and not (place.is_file() and place.name.endswith(FILE_ENDS)):
            raise InputError(
                f"there is no folder {place}, and no file whose name ends with {', '.join(FILE_ENDS)}"
            )
        self.name = f"{'folder' if place.is_dir() else 'file'}:{place.resolve()}"
        self.waiting = 0
        self._place, self._stream, self._clock = place, stream, clock
        self._columns, self._settle_us = columns, settle_us

    def read(self, offset: Offset) -> Generator[Batch, None, None]:
        """The rows of the files that are new since `offset`; see the class for which."""
        self.waiting = 0
        for found in self._files():
            known = offset.get(found.part)
            if known is not None and known["mark"] == found.mark and known["state"] != "reading":
                continue
            if known is not None and known["mark"] != found.mark and known["row"]:
                if known["state"] != "changed":
                    yield _aside(found, known["row"], "changed", _CHANGED)
                continue
            if not self._settled(found):
                self.waiting += 1
                continue
            yield from self._read(found, known["row"] if known else 0)

    def close(self) -> None:
        """Nothing is held open."""

    def _files(self) -> list[_Found]:
        files = []
        try:
            alone = self._place.is_file()
            for path in [self._place] if alone else sorted(self._place.rglob("*")):
                inside = Path(path.name) if alone else path.relative_to(self._place)
                hidden = any(part.startswith(_UNFINISHED) for part in inside.parts)
                if hidden or not path.name.endswith(FILE_ENDS) or not path.is_file():
                    continue
                stat = path.stat()
                mark = f"{stat.st_size}/{stat.st_mtime_ns}"
                part = inside.as_posix().encode("utf-8", "backslashreplace").decode()
                files.append(_Found(part, path, mark, stat.st_mtime_ns // 1_000))
        except OSError as error:
            raise InputError(f"the folder {self._place} cannot be read: {error}") from error
        return files

    def _settled(self, found: _Found) -> bool:
        """Whether the file is finished, as far as can be seen."""
        age_us = self._clock.now_us() - found.changed_us
        if 0 <= age_us < self._settle_us:
            return False
        # A writer may pause; only when it has done so for long is a file without an end damaged.
        return _has_its_end(found.path) or age_us > 30 * self._settle_us

    def _read(self, found: _Found, start: int) -> Iterator[Batch]:
        row = start
        try:
            for batch, after in read_file(found.path, self._stream, self._columns, start):
                row = after
                if row_count(batch.rows) or batch.poison:
                    yield replace(batch, offset=_entry(found, row, "reading"))
        except InputError as error:
            yield _aside(found, row, "damaged", str(error))
            return
        yield Batch([], _entry(found, row, "read"))


def read_file(
    path: Path, stream: Stream, columns: Mapping[str, str] | None = None, start: int = 0
) -> Iterator[tuple[Batch, int]]:
    """The rows of a file from number `start` on, each batch with the number after it; offsets are left empty.

    Raises InputError for a file that cannot be read.
    """
    if path.name.endswith(JSON_ENDS):
        yield from _json_batches(path, columns, start)
        return
    names = stream.names()
    for piece in read_pieces(path, stream, columns, start, _ROWS):
        poison = [
            Poison("not_a_record", f"line {reject.line}: {reject.why}.", {"text": reject.text})
            for reject in piece.rejects
            if piece.begin == 0
        ]
        n = min(_ROWS, piece.total - piece.begin) if piece.rows else 0
        told = [replace(one, origin={"file": path.name}) for one in poison]
        missing = [name for name in names if name not in piece.rows]
        if piece.rows and missing:
            raise InputError(f"'{path}' has no column {', '.join(map(repr, missing))}")
        yield Batch(piece.rows or [], {}, told, _in_file(path)), piece.begin + n


def _json_batches(
    path: Path, columns: Mapping[str, str] | None, start: int
) -> Iterator[tuple[Batch, int]]:
    for found in read_objects(path, start, _ROWS):
        objects = [row for _, row in found.rows]
        if columns is not None:
            objects = [{name: row.get(own) for name, own in columns.items()} for row in objects]
        numbers = [number for number, _ in found.rows]
        told = [replace(one, origin={"file": path.name}) for one in found.poison]
        yield Batch(objects, {}, told, _place_of(path, found.counted, numbers)), found.after


def _in_file(path: Path) -> Origin:
    return lambda _row: {"file": path.name}


def _place_of(path: Path, counted: str, numbers: list[int]) -> Origin:
    return lambda row: {"file": path.name, counted: numbers[row] + 1}


_CHANGED = "it was changed after rows of it were taken; put further rows into a further file"


def _entry(found: _Found, row: int, state: str, why: str = "") -> dict[str, Any]:
    entry: dict[str, Any] = {"mark": found.mark, "row": row, "state": state}
    if why:
        entry["why"] = why
    return {found.part: entry}


def _aside(found: _Found, row: int, state: str, why: str) -> Batch:
    return Batch([], _entry(found, row, state, why), notes=[f"{found.part} is set aside: {why}"])


def _has_its_end(path: Path) -> bool:
    """Whether a file ends as one of its kind does, as far as its kind says how."""
    if not path.name.endswith(".parquet"):
        return True
    try:
        with path.open("rb") as file:
            head = file.read(4)
            file.seek(-4, 2)
            return head == file.read(4) == _MAGIC
    except OSError:
        return False
