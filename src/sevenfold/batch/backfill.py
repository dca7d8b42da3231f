"""A file filled part by part: the parts lie in a folder beside the file that is wanted, `.NAME.parts`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sevenfold.batch.rows import Computed, Rows
from sevenfold.batch.table_file import join_parts, table_of
from sevenfold.errors import InputError

__all__ = ["Filled", "Filling", "fill_file"]


@dataclass(frozen=True, slots=True)
class Filled:
    """How many rows a file has, with which features, and which were left out for want of a column."""

    rows: int
    features: tuple[str, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Filling:
    """What is done to the rows of a file.

    `compute` gives the features of some rows, of which the first has a number; `at_once` rows are held at a time.
    """

    features: tuple[str, ...]
    left_out: tuple[str, ...]
    at_once: int
    compute: Callable[[Rows, int], Computed]


def fill_file(
    spine: Path,
    out: Path,
    prepare: Callable[[tuple[str, ...]], Filling],
    advance: Callable[[int, int], None],
) -> Filled:
    """Fill the rows of `spine` into `out`, which is there when all is done.

    `prepare` says, for the columns of the spine, what to do.

    Raises InputError for files that cannot be read or written.
    """
    with _folder_of(out) as folder:
        table = table_of(spine, folder)
        filling = prepare(tuple(table.types))
        parts = []
        for begin in range(0, max(table.total, 1), filling.at_once):
            part = folder / f"{begin:020d}.parquet"
            end = min(begin + filling.at_once, table.total)
            if not part.exists():
                rows = table.rows(begin, end)
                rows.write(filling.compute(rows, begin), part)
            parts.append(part)
            advance(end, table.total)
        join_parts(parts, out)
    return Filled(table.total, filling.features, filling.left_out)


@contextmanager
def _folder_of(out: Path) -> Iterator[Path]:
    """An empty folder for the parts of `out`, which is gone afterwards."""
    folder = out.with_name(f".{out.name}.parts")
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    except OSError as error:
        raise InputError(f"{out} cannot be written: {error}") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
