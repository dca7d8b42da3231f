"""The slates of a table as a file: a row an item."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sevenfold.batch.table_file import join_parts, write_columns
from sevenfold.errors import InputError
from sevenfold.serving.slate_table import Slate, SlateTable, slates_of
from sevenfold.stores.kv import Store

__all__ = ["SLATE_COLUMNS", "require_kind", "write_slates"]

SLATE_COLUMNS = ("position", "item", "score", "model", "version", "rung", "as_of_us")
"""The columns behind those of the keys."""

_AT_ONCE = 2_048


def require_kind(out: Path) -> None:
    """Raise InputError for a file that slates cannot be written to."""
    if out.suffix not in (".parquet", ".csv"):
        raise InputError(f"{str(out)!r} cannot be written: its name must end in .parquet or .csv")


def write_slates(store: Store, table: SlateTable, entities: Sequence[str], out: Path) -> None:
    """Write a table to `out`, a Parquet or CSV file, whole or not at all; slates in the order of the store, places from 1.

    A key named as one of SLATE_COLUMNS is written as `key_NAME`. Raises InputError for another kind of file.
    """
    require_kind(out)
    folder = out.with_name(f".{out.name}.parts")
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    folder.mkdir(parents=True)
    try:
        parts = []
        for number, page in enumerate(_pages(store, table)):
            parts.append(folder / f"{number}.parquet")
            write_columns(_columns(page, entities), parts[-1])
        join_parts(parts, out, folder, "csv" if out.suffix == ".csv" else "parquet")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _pages(store: Store, table: SlateTable) -> Iterator[Sequence[Slate]]:
    slates = slates_of(store, table.number)
    page = list(islice(slates, _AT_ONCE))
    yield page  # of an empty table too: a file has its columns
    while page := list(islice(slates, _AT_ONCE)):
        yield page


def _columns(
    slates: Sequence[Slate], entities: Sequence[str]
) -> dict[str, npt.NDArray[np.generic]]:
    counts = [len(slate.items) for slate in slates]
    columns: dict[str, npt.NDArray[np.generic]] = {}
    for name in entities:
        column = f"key_{name}" if name in SLATE_COLUMNS else name
        columns[column] = np.repeat(_texts([slate.keys[name] for slate in slates]), counts)
    places = [np.arange(1, n + 1, dtype=np.int32) for n in counts]
    scores = [np.frombuffer(slate.scores, dtype=np.float64) for slate in slates]
    columns["position"] = np.concatenate([np.empty(0, np.int32), *places])
    columns["item"] = _texts([item for slate in slates for item in slate.items])
    columns["score"] = np.concatenate([np.empty(0), *scores])
    columns["model"] = np.repeat(_texts([slate.model for slate in slates]), counts)
    versions = np.array([slate.version for slate in slates], dtype=np.int64)
    columns["version"] = np.repeat(versions, counts)
    columns["rung"] = np.repeat(_texts([slate.rung for slate in slates]), counts)
    instants = np.array([slate.as_of_us for slate in slates], dtype=np.int64)
    columns["as_of_us"] = np.repeat(instants, counts)
    return columns


def _texts(values: Sequence[str]) -> npt.NDArray[np.object_]:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column
