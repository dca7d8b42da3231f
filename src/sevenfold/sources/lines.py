"""Files of JSON: one object a line, or an array of objects, each read or refused by itself."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from sevenfold.errors import InputError
from sevenfold.sources.csv_file import open_bytes
from sevenfold.sources.protocol import Poison

__all__ = ["JSON_ENDS", "Objects", "parse_object", "read_columns", "read_objects"]

_DOCUMENTS = (".json", ".json.gz")
JSON_ENDS = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz", *_DOCUMENTS)
"""How the names of files of JSON end; the last two may hold an array instead of lines."""

_decode = msgspec.json.Decoder().decode
_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_MOST_SHOWN = 10_000  # characters of what cannot be read that a dead letter keeps
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Objects:
    """Some objects of a file with their numbers from 0, what is none, and the number after them all.

    `counted` says what has the numbers: a "line", or an "element" of an array.
    """

    after: int
    rows: Sequence[tuple[int, dict[str, Any]]]
    poison: Sequence[Poison]
    counted: str


def parse_object(text: bytes, where: str) -> dict[str, Any] | Poison:
    """The JSON object that `text` spells, or why it is none; `where` begins the sentence."""
    try:
        value = _decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        why = f"is not JSON: {error}"
    else:
        if isinstance(value, dict):
            return value
        why = "is not a JSON object of fields and values"
    shown = text[:_MOST_SHOWN].decode("utf-8", "backslashreplace")
    return Poison("not_json", f"{where}: {why}.", {"text": shown})


def read_objects(path: Path, start: int = 0, chunk_rows: int = 100_000) -> Iterator[Objects]:
    """The objects of a file from number `start` (from 0) on, at most `chunk_rows` at a time.

    A file whose name ends as one of a document does is an array of objects, or one object, if it begins so; every
    other is lines. An array is held as a whole while it is read. Raises InputError when the file cannot be read.
    """
    elements = _elements(path) if path.name.endswith(_DOCUMENTS) else None
    if elements is not None:
        for at in range(start, len(elements), chunk_rows):
            chunk = elements[at : at + chunk_rows]
            yield _parsed(chunk, at, "element")
        return
    at = start
    for lines in _chunks(path, start, chunk_rows):
        if isinstance(lines, Exception):
            raise InputError(f"'{path}' cannot be read after line {at}: {lines}") from lines
        yield _parsed(lines, at, "line")
        at += len(lines)


def read_columns(path: Path, names: Sequence[str] | None = None) -> Mapping[str, list[Any]]:
    """The fields of all objects of a file as columns, null where an object lacks one; all there are without `names`.

    Raises InputError when the file cannot be read, and for the first line or element that is no object.
    """
    rows: list[dict[str, Any]] = []
    for objects in read_objects(path):
        if objects.poison:
            raise InputError(
                f"'{path}' cannot be read: {objects.poison[0].detail} Mend or remove it; `sevenfold ingest` "
                "reads the others and keeps such ones as dead letters"
            )
        rows += [row for _, row in objects.rows]
    told = dict.fromkeys(name for row in rows for name in row) if names is None else names
    return {name: [row.get(name) for row in rows] for name in told}


def _elements(path: Path) -> list[bytes] | None:
    """The elements of the array that a document is, or the one object that it is; None when it is lines."""
    try:
        with open_bytes(path) as file:
            text = file.read().removeprefix(_BOM).strip()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"'{path}' cannot be read: {error}") from error
    if text.startswith(b"{"):
        return [text] if isinstance(parse_object(text, ""), dict) else None
    if not text.startswith(b"["):
        return None
    try:
        return [bytes(element) for element in _decode_array(text)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(
            f"'{path}' cannot be read: it begins as an array of JSON and is none: {error}; mend it, or write "
            "one object a line (.jsonl), where one that is damaged spoils no other"
        ) from error


def _chunks(path: Path, start: int, chunk_rows: int) -> Iterator[list[bytes] | Exception]:
    """The lines, some at a time, and last what stopped the reading, if something did."""
    chunk: list[bytes] = []
    try:
        with open_bytes(path) as file:
            for line in islice(file, start, None):
                chunk.append(line)
                if len(chunk) == chunk_rows:
                    yield chunk
                    chunk = []
    except (OSError, EOFError, zlib.error) as error:
        if chunk:
            yield chunk
        yield error
    else:
        if chunk:
            yield chunk


def _parsed(chunk: Sequence[bytes], begin: int, counted: str) -> Objects:
    """The objects of lines or elements that begin with number `begin`, and what is none."""
    rows, poison = [], []
    for number, raw in enumerate(chunk, start=begin):
        text = raw if number else raw.removeprefix(_BOM)
        if not text.strip():
            continue
        found = parse_object(text, f"{counted} {number + 1}")
        if isinstance(found, Poison):
            poison.append(found)
        else:
            rows.append((number, found))
    return Objects(begin + len(chunk), rows, poison, counted)
