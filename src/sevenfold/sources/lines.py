"""Files of JSON lines: one object a line, each read or refused by itself."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from sevenfold.errors import InputError
from sevenfold.sources.csv_file import open_bytes
from sevenfold.sources.protocol import Poison

__all__ = ["JSON_ENDS", "parse_object", "read_lines"]

JSON_ENDS = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")

_decode = msgspec.json.Decoder().decode
_MOST_SHOWN = 10_000  # characters of what cannot be read that a dead letter keeps


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


def read_lines(
    path: Path, start: int = 0, chunk_rows: int = 100_000
) -> Iterator[tuple[int, list[tuple[int, dict[str, Any]]], list[Poison]]]:
    """The lines from number `start` (from 0) on: the number after each chunk, its objects, what is none.

    An object comes with its line's number. Raises InputError when the file cannot be read.
    """
    at = start
    for chunk in _chunks(path, start, chunk_rows):
        if isinstance(chunk, Exception):
            raise InputError(f"'{path}' cannot be read after line {at}: {chunk}") from chunk
        yield at + len(chunk), *_parsed(chunk, at)
        at += len(chunk)


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


def _parsed(
    chunk: list[bytes], begin: int
) -> tuple[list[tuple[int, dict[str, Any]]], list[Poison]]:
    """The objects of lines that begin with number `begin`, each with its number, and what is none."""
    rows, poison = [], []
    for number, line in enumerate(chunk, start=begin):
        if not line.strip():
            continue
        found = parse_object(line, f"line {number + 1}")
        if isinstance(found, Poison):
            poison.append(found)
        else:
            rows.append((number, found))
    return rows, poison
