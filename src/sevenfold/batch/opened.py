"""A spine that is looked at and not filled: a table, or a file part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sevenfold.batch.given import is_stream, rows_of
from sevenfold.batch.rows import Rows
from sevenfold.batch.table_file import table_of
from sevenfold.errors import InputError

__all__ = ["Opened", "opened"]


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """The columns of a spine, and its rows, of which so many are held at a time, with the number of the first."""

    names: tuple[str, ...]
    parts: Callable[[int], Iterator[tuple[int, Rows]]]


@contextmanager
def opened(spine: Any) -> Iterator[Opened]:
    """The spine while the block runs; InputError for a stream, which would be used up."""
    if is_stream(spine):
        raise InputError("the spine is a stream, which a look would use up: give a table or a file")
    if not isinstance(spine, str | Path):
        rows = rows_of(spine)
        yield Opened(rows.names, lambda _: iter([(0, rows)]))
        return
    with TemporaryDirectory(prefix="sevenfold-") as folder:
        table = table_of(Path(spine), Path(folder))

        def parts(at_once: int) -> Iterator[tuple[int, Rows]]:
            for begin in range(0, max(table.total, 1), at_once):
                yield begin, table.rows(begin, min(begin + at_once, table.total))

        yield Opened(tuple(table.types), parts)
