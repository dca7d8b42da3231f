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
