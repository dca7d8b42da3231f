"""A file filled part by part, each kept when it is done: who is killed goes on where they were.

The parts lie in a folder beside the file that is wanted, `.NAME.parts`, with what they were computed from. When that
is something else by now (the spine, a definition, the events, the kernels), all is begun anew. The folder goes when
the file is there.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from sevenfold.batch.rows import Computed, Rows
from sevenfold.batch.table_file import TableFile, join_parts, table_of
from sevenfold.errors import InputError, RunError
from sevenfold.hashing import canonical_json, file_digest
from sevenfold.stores.durable import replace_file
from sevenfold.types import Instant

__all__ = ["Filled", "Filling", "fill_file"]

_LOG = logging.getLogger(__name__)
_LOCK, _PLAN = "lock", "plan.json"


@dataclass(frozen=True, slots=True)
class Filled:
    """How many rows a file has, with which features, and which were left out for want of a column.

    The first `resumed` rows were there from a run that was interrupted.
    """

    rows: int
    features: tuple[str, ...]
    left_out: tuple[str, ...]
    resumed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Filling:
    """What is done to the rows of a file.

    `compute` gives the features of some rows, of which the first has a number; `at_once` rows are held at a time.
    `identity` is all that the answer depends on beside the rows, but for the log's end: while it was read that was
    at `end_us`, first and last (None for given events), and later events touch no row up to the instant after the
    first; `latest_us` tells the latest instant of rows.
    """

    features: tuple[str, ...]
    left_out: tuple[str, ...]
    at_once: int
    compute: Callable[[Rows, int], Computed]
    identity: Mapping[str, Any]
    end_us: tuple[Instant, Instant] | None
    latest_us: Callable[[Rows], Instant]


def fill_file(
    spine: Path,
    out: Path,
    prepare: Callable[[tuple[str, ...]], Filling],
    advance: Callable[[int, int], None],
) -> Filled:
    """Fill the rows of `spine` into `out`, which is there when all is done, whole.

    `prepare` says, for the columns of the spine, what to do. What an interrupted run has done is taken over if it
    is what would be computed now. Raises InputError for files that cannot be read or written, RunError while
    another process fills `out`.
    """
    if not spine.is_file():
        raise InputError(f"there is no file {spine}")
    with _folder_of(out) as folder:
        content = file_digest(spine)
        if _kept(folder).get("spine") != content:
            _clear(folder)
        table = table_of(spine, folder)
        filling = prepare(tuple(table.types))
        _go_on_or_begin(folder, table, filling, content)
        parts, done = _parts(folder), list[Path]()
        at = resumed = 0
        while at < table.total or not done:
            end = parts.get(at, 0)
            if end:
                resumed = end
            else:
                end = min(at + filling.at_once, table.total)
                rows = table.rows(at, end)
                rows.write(filling.compute(rows, at), _part(folder, at, end))
            done.append(_part(folder, at, end))
            at = end
            advance(at, table.total)
        join_parts(done, out, folder)
        shutil.rmtree(folder)
    return Filled(table.total, filling.features, filling.left_out, resumed)


def _go_on_or_begin(folder: Path, table: TableFile, filling: Filling, content: str) -> None:
    """Keep the parts of another run if they are what would be computed now, else delete them."""
    kept = _kept(folder)
    identity = json.loads(canonical_json(dict(filling.identity)))
    same = kept.get("identity") == identity
    end_us = filling.end_us
    if same and end_us is not None and end_us[1] != kept["end_us"]:
        same = _latest_us(table, filling) <= kept["end_us"] + 1
    if same:
        return
    parts = _parts(folder)
    if parts:
        _LOG.info("begun anew, as what it depends on has changed folder=%s", folder)
    for begin, end in parts.items():
        _part(folder, begin, end).unlink()
    plan = {"spine": content, "identity": identity, "end_us": end_us[0] if end_us else None}
    replace_file(folder / _PLAN, canonical_json(plan))


def _latest_us(table: TableFile, filling: Filling) -> Instant:
    """The latest instant of a file."""
    step, total = filling.at_once, table.total
    parts = (table.rows(at, min(at + step, total)) for at in range(0, total, step))
    return max(map(filling.latest_us, parts), default=0)


def _kept(folder: Path) -> dict[str, Any]:
    """What another run was computing; empty when none was."""
    try:
        found: dict[str, Any] = json.loads((folder / _PLAN).read_bytes())
    except (OSError, ValueError):
        return {}
    return found


def _parts(folder: Path) -> dict[int, int]:
    """The parts that are done: the number of the first row, and that of the row after the last."""
    names = [path.name for path in folder.glob("[0-9]*.parquet")]
    return {int(name[:20]): int(name[21:41]) for name in names}


def _part(folder: Path, begin: int, end: int) -> Path:
    return folder / f"{begin:020d}-{end:020d}.parquet"


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name != _LOCK:
            path.unlink()


@contextmanager
def _folder_of(out: Path) -> Iterator[Path]:
    """The folder for the parts of `out`, held by this process alone; it goes when nothing is done in it."""
    folder = out.with_name(f".{out.name}.parts")
    lock = _locked(folder, out)
    try:
        yield folder
    finally:
        if folder.exists() and not _parts(folder):
            shutil.rmtree(folder)
        lock.close()  # the kernel lets go of it when the process dies, too


def _locked(folder: Path, out: Path) -> BinaryIO:
    """The lock of a folder, which is made, held until it is closed."""
    while True:
        try:
            folder.mkdir(exist_ok=True)
            stream = (folder / _LOCK).open("ab")
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.close()
            raise RunError(
                f"another process is at work in {folder}: wait for it, or give another file to write"
            ) from error
        except OSError as error:
            raise InputError(f"{out} cannot be written: {error}") from error
        # Whoever was done a moment ago has deleted the folder with the lock that was just taken.
        if (folder / _LOCK).exists() and os.path.samestat(
            os.fstat(stream.fileno()), (folder / _LOCK).stat()
        ):
            return stream
        stream.close()
