"""Who is to be scored: the keys of a file, all that the log names, or those who did something of late."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from sevenfold.batch.rows import require_column
from sevenfold.batch.table_file import table_of
from sevenfold.errors import InputError, TimeError
from sevenfold.sources.cells import parse_names
from sevenfold.sources.flaws import Flaws
from sevenfold.sources.raw import RawColumn
from sevenfold.spec.units import parse_duration
from sevenfold.types import EventBatch, Instant

__all__ = ["Keys", "Population", "Seen", "file_keys"]

Keys = tuple[str, ...]
"""The keys of one request, in the order of the task's query."""

_ROWS = 1 << 18


class Population:
    """What was asked for: `all`, `active=30d`, or the path of a file with a column for each entity of a request.

    `within_us` is how long ago the newest event of somebody may have happened; None for ever. Raises InputError for
    a text that is none of these.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.file: Path | None = None
        self.within_us: int | None = None
        word, equals, span = text.partition("=")
        if text == "all":
            return
        if word == "active" and equals:
            try:
                self.within_us = parse_duration(span)
            except TimeError as error:
                raise InputError(f"population {text!r}: {error}") from error
        elif Path(text).is_file():
            self.file = Path(text)
        else:
            raise InputError(
                f"population {text!r}: there is no such file; give a Parquet or CSV file, `all`, or `active=30d`"
            )


class Seen:
    """Whom a log names: the keys of every event that has all entities of a request, in the order of first sight."""

    def __init__(self, entities: Sequence[str]) -> None:
        self._entities = tuple(entities)
        self._newest_us: dict[Keys, Instant] = {}

    def observe(self, batch: EventBatch) -> None:
        """Take in events of the log, in its order."""
        if not all(name in batch.keys for name in self._entities):
            return
        columns = [batch.keys[name].to_list() for name in self._entities]
        newest = self._newest_us
        for event_us, keys in zip(batch.event_us.tolist(), zip(*columns, strict=True), strict=True):
            if None not in keys:
                newest[keys] = max(event_us, newest.get(keys, event_us))

    def since(self, start_us: Instant | None) -> list[Keys]:
        """Those with an event that happened at `start_us` or later; all when that is None."""
        return [
            keys for keys, at_us in self._newest_us.items() if start_us is None or at_us >= start_us
        ]


def file_keys(path: Path, entities: Sequence[str]) -> list[Keys]:
    """The different keys of a file, in its order; InputError for a column that is missing, and for the first bad or null key."""
    found: dict[Keys, None] = {}
    with TemporaryDirectory(prefix="sevenfold-") as folder:
        table = table_of(path, Path(folder))
        for name in entities:
            require_column(name, tuple(table.types))
        for begin in range(0, table.total, _ROWS):
            rows = table.rows(begin, min(begin + _ROWS, table.total))
            flaws = Flaws(len(rows))
            columns = []
            for name in entities:
                texts = parse_names(name, RawColumn.of(rows.column(name)), flaws)
                flaws.add(~texts.valid, "null_key", partial(_null_key, name))
                columns.append(texts.to_list())
            told = flaws.told()
            if told:
                row, _, sentence = told[0]
                raise InputError(f"row {begin + row} of {path}: {sentence}")
            found.update(dict.fromkeys(zip(*columns, strict=True)))
    return list(found)


def _null_key(name: str, row: int) -> str:
    return f"$[{row}].{name}: the key is null; leave such rows out."
