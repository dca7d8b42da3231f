"""What several laws need: copies of the library to plant mistakes in."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def library(root: Path, tmp_path: Path) -> Path:
    """A copy of the library's source, without its data."""
    ignored = shutil.ignore_patterns("__pycache__", "*.parquet")
    shutil.copytree(root / "src" / "sevenfold", tmp_path / "sevenfold", ignore=ignored)
    return tmp_path


def pytest_itemcollected(item: pytest.Item) -> None:
    """Tests of planted mistakes can be run apart from all others: each is a process of its own, and they take as long."""
    if item.path.name.endswith("mutants.py") and not item.get_closest_marker("thorough"):
        item.add_marker("planted")
