"""Answers in sealed Parquet files: written whole and never changed, each named in the store by what it holds.

A file has the answers of one day (UTC), in the order of their keys. It is written aside, made durable and given its name; the
transaction that names it in the store is the one that takes its answers out of it, so a process killed at any instant leaves each
answer in exactly one of the two. A file that the store does not name is nothing, and goes when the folder is next swept.

Columns are the fields of an answer: numbers and names as such, lists and maps as JSON, arrays as their bytes (little-endian,
as `Prediction` says). `format` is 1; `feature_names` is what the vectors are of, so that a file can be read without its store;
`more` (MessagePack) holds fields that an answer has got since, so the columns never change.

Who makes files is `alone`, of all processes: one that a killed server has left, and that has not ended yet, could else have its file named just when
the next server sweeps it away.
"""

from __future__ import annotations

import hashlib
import time
from bisect import bisect_left
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, get_type_hints

import duckdb
import msgspec
import numpy as np

from sevenfold.clock import elapsed_s
from sevenfold.errors import StoreError
from sevenfold.serving.prediction_log import Prediction, SealedFile
from sevenfold.stores.durable import locked, sync_file, sync_folder

__all__ = ["PREDICTIONS_FOLDER", "NotAloneError", "SealedAnswers", "day_of"]

PREDICTIONS_FOLDER = "predictions"
"""Where a home keeps the files."""

FORMAT = 1
Keyed = tuple[bytes, Prediction]

_JSON = ("keys", "generators", "items", "timing_us", "degraded")
_TYPES = {
    "format": "INTEGER",
    "key": "BLOB",
    "request_id": "VARCHAR",
    "t_us": "BIGINT",
    "keys": "VARCHAR",
    "model": "VARCHAR",
    "version": "BIGINT",
    "rung": "VARCHAR",
    "k": "BIGINT",
    "features": "VARCHAR",
    "feature_names": "VARCHAR",
    "generators": "VARCHAR",
    "items": "VARCHAR",
    "sources": "BLOB",
    "candidate_scores": "BLOB",
    "shown": "BLOB",
    "scores": "BLOB",
    "logged": "BLOB",
    "vectors": "BLOB",
    "sample_weight": "DOUBLE",
    "timing_us": "VARCHAR",
    "asked": "VARCHAR",
    "degraded": "VARCHAR",
    "more": "BLOB",
}
_OURS = ("format", "key", "feature_names", "more")
_FIELDS = tuple(name for name in _TYPES if name not in _OURS)
_KINDS = get_type_hints(Prediction)
_SUFFIX = ".parquet"
_ROWS_AT_ONCE = 32
_LOOK_S = 0.05
# One thread keeps the rows in their order; nothing is fetched from elsewhere.
_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "threads": 1,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}


def day_of(t_us: int) -> str:
    """The day of an instant, UTC.

    >>> day_of(1_700_000_000_000_000)
    '2023-11-14'
    """
    return str(datetime.fromtimestamp(t_us // 1_000_000, UTC).date())


class NotAloneError(StoreError):
    """Another process makes files in the folder; once it has ended, this is to be tried again."""


@dataclass(frozen=True, slots=True)
class _Read:
    """A file that has been read: its keys, and its rows as they are in it."""

    name: str
    keys: list[bytes]
    rows: list[tuple[Any, ...]]


class SealedAnswers:
    """The files in `folder`, which is made with the first; the last one read is kept in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._last: _Read | None = None

    @contextmanager
    def alone(self, wait_s: float = 0.0) -> Iterator[None]:
        """Make and sweep files in this block: no other process does meanwhile, as a lock beside the folder says, which ends with a process.

        Raises NotAloneError when another has it for longer than `wait_s` seconds.
        """
        lock = self.folder.with_name(f".{self.folder.name}.lock")
        until_s = elapsed_s() + wait_s
        with ExitStack() as held:
            while True:
                try:
                    held.enter_context(locked(lock, wait=False))
                    break
                except BlockingIOError:
                    if elapsed_s() >= until_s:
                        raise NotAloneError(
                            f"another process moves answers into {str(self.folder)!r}, as that of a server that was killed does for a "
                            f"moment; if it does not end, look who has {str(lock)!r} open (`fuser`), and end it"
                        ) from None
                time.sleep(_LOOK_S)
            yield

    def write(self, answers: Sequence[Keyed], names: Mapping[str, Sequence[str]]) -> SealedFile:
        """The file of the answers, in the order of their keys, durable; `names` are the features by their list's id."""
        first, last = answers[0], answers[-1]
        if any(one[0] >= other[0] for one, other in pairwise(answers)):
            raise StoreError("answers are sealed in the order of their keys, each once")
        self.folder.mkdir(mode=0o700, exist_ok=True)
        drawn = np.random.default_rng().bytes(4).hex()
        name = f"{day_of(first[1].t_us)}-{first[0][:8].hex()}-{drawn}{_SUFFIX}"
        aside = self.folder / f".{name}.new"
        _write(aside, _columns(answers, names))
        aside.chmod(0o600)
        sync_file(aside)
        size, digest = _digest(aside)
        aside.rename(self.folder / name)
        sync_folder(self.folder)
        sync_folder(self.folder.parent)
        return SealedFile(name, first[0], last[0], len(answers), size, digest)

    def read(
        self, file: SealedFile, begin: bytes = b"", end: bytes | None = None
    ) -> Iterator[Keyed]:
        """The answers of a file with `begin <= key < end`, in the order of their keys.

        Raises StoreError when the file is not there or not what was written.
        """
        found = self._found(file)
        for at in range(bisect_left(found.keys, begin), len(found.keys)):
            if end is not None and found.keys[at] >= end:
                return
            yield found.keys[at], _answer(found.rows[at])

    def keys(self, file: SealedFile) -> list[bytes]:
        """The keys of a file in their order; all of it is read, on whatever thread this is, and nothing kept. Raises as `read` does."""
        return self._whole(file).keys

    def find(self, file: SealedFile, key: bytes) -> Prediction | None:
        """The answer under a key of a file, if any."""
        return next((answer for _, answer in self.read(file, key, key + b"\0")), None)

    def is_there(self, file: SealedFile) -> bool:
        """Whether the file lies in the folder, as long as it was."""
        path = self.folder / file.name
        return path.exists() and path.stat().st_size == file.size

    def remove(self, name: str) -> None:
        """Delete a file that the store names no more."""
        if self._last is not None and self._last.name == name:
            self._last = None
        (self.folder / name).unlink(missing_ok=True)

    def sweep(self, named: Collection[str]) -> None:
        """Delete what the store does not name, such as a file that was being written when its process was killed."""
        if not self.folder.is_dir():
            return
        for path in sorted(self.folder.iterdir()):
            if path.name not in named and (_SUFFIX in path.name):
                self.remove(path.name)

    def _found(self, file: SealedFile) -> _Read:
        if self._last is None or self._last.name != file.name:
            self._last = self._whole(file)
        return self._last

    def _whole(self, file: SealedFile) -> _Read:
        path = self.folder / file.name
        try:
            size, digest = _digest(path)
        except FileNotFoundError:
            raise StoreError(
                f"{path} is not there: it was rewritten since this snapshot of the store was taken, so read again; "
                "or it was deleted by another hand, and its answers are lost"
            ) from None
        if (size, digest) != (file.size, file.sha256):
            raise StoreError(
                f"{path} is not what was written: bring it back, its answers are nowhere else"
            )
        query = f"SELECT {', '.join(_TYPES)} FROM read_parquet(?)"
        with _database().cursor() as connection:
            found = connection.execute(query, [str(path)])
            rows: list[tuple[Any, ...]] = []
            # A thread that does this beside an event loop gives the interpreter up between two parts of it.
            while part := found.fetchmany(_ROWS_AT_ONCE):
                rows += part
        if any(row[0] != FORMAT for row in rows):
            raise StoreError(
                f"{path} is of a later format than {FORMAT}: read it by a later version"
            )
        at = list(_TYPES).index("key")
        return _Read(file.name, [row[at] for row in rows], rows)


@cache
def _database() -> duckdb.DuckDBPyConnection:
    """What reads and writes files: to make one takes 33 ms of processor time, a cursor of it none. Every thread has its own cursor."""
    return duckdb.connect(config=_SETTINGS)


def _columns(answers: Sequence[Keyed], names: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    columns: dict[str, list[Any]] = {name: [] for name in _TYPES}
    for key, answer in answers:
        told = msgspec.structs.asdict(answer)
        for name in _FIELDS:
            value = told.pop(name)
            columns[name].append(msgspec.json.encode(value).decode() if name in _JSON else value)
        columns["format"].append(FORMAT)
        columns["key"].append(key)
        columns["feature_names"].append(
            msgspec.json.encode(list(names.get(answer.features, ()))).decode()
        )
        columns["more"].append(msgspec.msgpack.encode(told))
    return {name: _array(name, values) for name, values in columns.items()}


def _array(name: str, values: Iterable[Any]) -> Any:
    kind = {"BIGINT": np.int64, "INTEGER": np.int32, "DOUBLE": np.float64}.get(_TYPES[name])
    taken = list(values)
    if kind is not None:
        return np.array(taken, dtype=kind)
    array = np.empty(len(taken), dtype=object)
    array[:] = taken
    return array


def _write(path: Path, columns: dict[str, Any]) -> None:
    chosen = ", ".join(f"{name}::{kind} AS {name}" for name, kind in _TYPES.items())
    with _database().cursor() as connection:
        connection.register("answers", columns)
        connection.execute(
            f"COPY (SELECT {chosen} FROM answers) TO ? (FORMAT PARQUET, COMPRESSION ZSTD)",
            [str(path)],
        )


def _answer(row: tuple[Any, ...]) -> Prediction:
    told = dict(zip(_TYPES, row, strict=True))
    more: dict[str, Any] = msgspec.msgpack.decode(told["more"])
    fields = {
        name: msgspec.json.decode(told[name], type=_KINDS[name]) if name in _JSON else told[name]
        for name in _FIELDS
    }
    # What a later version wrote and this one does not know is left out.
    fields |= {
        name: msgspec.convert(value, _KINDS[name]) for name, value in more.items() if name in _KINDS
    }
    return Prediction(**fields)


def _digest(path: Path) -> tuple[int, str]:
    whole = path.read_bytes()
    return len(whole), hashlib.sha256(whole).hexdigest()
