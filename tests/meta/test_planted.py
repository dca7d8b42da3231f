"""Every planted mistake still has its place: to learn that the source has moved on takes a second here, and half an hour where they are judged."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from itertools import chain, pairwise
from pathlib import Path
from typing import Any


def planted(root: Path) -> Iterator[tuple[str, Path, str]]:
    """The name of each, the file that it is planted in and what it stands in the place of."""
    library = root / "src" / "sevenfold"
    for name, mutant in written(root / "tests" / "laws"):
        for place, right in pairwise(mutant):
            if str(place).endswith(".py") and (library / str(place)).is_file():
                yield name, library / str(place), right


def written(laws: Path) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Each entry of each table of each module of planted mistakes."""
    for module in sorted(laws.glob("*_mutants.py")):
        found = vars(importlib.import_module(f"tests.laws.{module.stem}"))
        tables = [table for table in found.values() if isinstance(table, dict)]
        for name, mutant in chain.from_iterable(table.items() for table in tables):
            if isinstance(mutant, tuple):
                yield f"{module.stem}: {name}", mutant


def test_each_is_to_be_planted_in_one_place(root: Path) -> None:
    mistakes = list(planted(root))
    assert len(mistakes) > 250
    moved = [name for name, file, right in mistakes if file.read_text().count(right) != 1]
    assert moved == []
