"""CSV files line by line: every whole record is read, every other is named, whatever stands around it.

A cell is text until the stream says that it is a number; nothing is guessed from the first lines. DuckDB
splits the file. Only where quotes do not pair is it split here, by a rule that loses no good record: a quote
that is not closed within `_MOST_LINES` lines, or not to a record of the right width, spoils its own line alone.
"""

from __future__ import annotations

import csv
import gzip
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import duckdb

from sevenfold.errors import InputError

__all__ = ["Reject", "header_of", "load_csv", "open_bytes"]

_DELIMITERS = ",\t;|"
_MOST_LINES = 100  # lines that one quoted cell may run over
_MOST_BYTES = 1 << 20  # in a header


@dataclass(frozen=True, slots=True)
class Reject:
    """A line that is no record of its file: its number from 1, the line, and why."""

    line: int
    text: str
    why: str


def header_of(path: Path) -> tuple[str, list[str]]:
    """The delimiter of a CSV file and the names of its columns; InputError when it has none."""
    try:
        with open_bytes(path) as file:
            first = file.readline(_MOST_BYTES).decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"'{path}' cannot be read: {error}") from error
    line = first.rstrip("\r\n")
    if not line.strip():
        raise InputError(f"'{path}' cannot be read: its first line names no columns")
    tried = {mark: next(csv.reader([line], delimiter=mark)) for mark in _DELIMITERS}
    mark = max(_DELIMITERS, key=lambda one: len(tried[one]))
    names = tried[mark]
    if len(set(names)) != len(names) or not all(names):
        raise InputError(f"'{path}' cannot be read: its columns are not each named once: {line!r}")
    return mark, names


def load_csv(
    connection: duckdb.DuckDBPyConnection, path: Path, mark: str, names: list[str], into: str
) -> list[Reject]:
    """Make the table `into` of the file's records, all cells text, in their order; what is no record."""
    try:
        rejects = _load(connection, path, mark, names, into)
    except duckdb.Error:
        rejects = None
    if rejects is not None:
        return rejects
    connection.execute(f"drop table if exists {into}")
    with tempfile.TemporaryDirectory(prefix="sevenfold-") as folder:
        mended = Path(folder) / "mended.csv"
        rejects = _mend(path, mark, len(names), mended)
        try:
            _load(connection, mended, ",", names, into)
        except duckdb.Error as error:
            raise InputError(f"'{path}' cannot be read: {error}") from error
    return rejects


def _load(
    connection: duckdb.DuckDBPyConnection, path: Path, mark: str, names: list[str], into: str
) -> list[Reject] | None:
    """DuckDB's reading; None when quotes have confused it."""
    connection.execute("drop table if exists reject_errors")
    connection.execute("drop table if exists reject_scans")
    connection.execute(
        f"create temp table {into} as select * from read_csv(?, "
        "delim = ?, quote = '\"', escape = '\"', header = true, names = ?, all_varchar = true, "
        "auto_detect = true, store_rejects = true, rejects_limit = 0, null_padding = false, "
        "strict_mode = true, comment = '')",
        [str(path), mark, names],
    )
    found = connection.execute(
        "select line, any_value(csv_line), any_value(error_message) from reject_errors "
        "group by line order by line"
    ).fetchall()
    rejects = [
        Reject(int(line), text or "", (why or "").partition("\n")[0]) for line, text, why in found
    ]
    confused = any('"' in reject.text or "\n" in reject.text for reject in rejects)
    return None if confused else rejects


def _mend(path: Path, mark: str, width: int, into: Path) -> list[Reject]:
    """Write the whole records to `into`; the lines that are none."""
    rejects: list[Reject] = []
    try:
        with open_bytes(path) as file, into.open("w", encoding="utf-8", newline="") as out:
            writer = csv.writer(out, quoting=csv.QUOTE_MINIMAL)
            writer.writerow([f"c{i}" for i in range(width)])
            for line, found in _records(file, mark, width):
                if isinstance(found, list):
                    writer.writerow(found)
                else:
                    rejects.append(Reject(line, found, f"is no record of {width} cells"))
    except (OSError, EOFError) as error:
        raise InputError(f"'{path}' cannot be read: {error}") from error
    return rejects


def _records(file: IO[bytes], mark: str, width: int) -> Iterator[tuple[int, list[str] | str]]:
    """The records after the header, each with the number of its first line; a line that is none as text."""
    lines: list[bytes] = []
    number = 1
    file.readline()
    while True:
        while len(lines) < _MOST_LINES and (line := file.readline()):
            lines.append(line)
        if not lines:
            return
        number += 1
        if not lines[0].strip():
            lines.pop(0)
            continue
        taken, record = _record(lines, mark, width)
        yield (
            number,
            lines[0].decode("utf-8", "replace").rstrip("\r\n") if record is None else record,
        )
        del lines[:taken]
        number += taken - 1


def _record(lines: list[bytes], mark: str, width: int) -> tuple[int, list[str] | None]:
    """How many lines the first record takes, and the record; one line and None when it is no record."""
    text = ""
    for taken, line in enumerate(lines, start=1):
        try:
            text += line.decode()
            (record,) = csv.reader([text.rstrip("\r\n")], delimiter=mark, strict=True)
        except UnicodeDecodeError:
            break
        except (csv.Error, ValueError):
            if b'"' not in lines[0]:
                break
            continue
        return (taken, record) if len(record) == width else (1, None)
    return 1, None


def open_bytes(path: Path) -> IO[bytes]:
    """The file's bytes to read, unpacked where its name ends with `.gz`."""
    if path.name.endswith(".gz"):
        packed: Any = gzip.open(path, "rb")  # noqa: SIM115  whoever asked closes it
        unpacked: IO[bytes] = packed
        return unpacked
    return path.open("rb")
