"""Every planted mistake still has its place: to learn that the source has moved on takes a second here, and half an hour where they are judged."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path


def planted(root: Path) -> Iterator[tuple[str, Path, str]]:
    """The name of each, the file that it is planted in and what it stands in the place of."""
    library = root / "src" / "sevenfold"
    for module in sorted((root / "tests" / "laws").glob("*_mutants.py")):
        found = vars(importlib.import_module(f"tests.laws.{module.stem}"))
        for tables in [table for table in found.values() if isinstance(table, dict)]:
            for name, mutant in tables.items():
                parts = list(mutant) if isinstance(mutant, tuple) else []
                for place, right in zip(parts, parts[1:], strict=False):
                    if str(place).endswith(".py") and (library / str(place)).is_file():
                        yield f"{module.stem}: {name}", library / str(place), right


def test_each_is_to_be_planted_in_one_place(root: Path) -> None:
    mistakes = list(planted(root))
    assert len(mistakes) > 250
    moved = [name for name, file, right in mistakes if file.read_text().count(right) != 1]
    assert moved == []
