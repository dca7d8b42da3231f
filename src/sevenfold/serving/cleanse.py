"""A home without the bytes of what was deleted from it."""

from __future__ import annotations

from pathlib import Path

from sevenfold.stores.compact import compact, is_due
from sevenfold.stores.history import History

__all__ = ["cleanse", "is_to_be_cleansed"]


def is_to_be_cleansed(home: Path) -> bool:
    """Whether something was deleted that files of the home may still hold."""
    return is_due(home / "store")


def cleanse(home: Path) -> tuple[int, int]:
    """The bytes of the store's file before and after it was written anew; nobody may have it open.

    The histories by key are deleted too: they are made again from the log when they are next read.
    """
    if (home / "history").is_dir():
        History(home / "history", {}).drop()
    return compact(home / "store")
