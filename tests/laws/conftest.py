"""What several laws need: copies of the library to plant mistakes in."""

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A copy of the library's source, without its data."""
    ignored = shutil.ignore_patterns("__pycache__", "*.parquet")
    shutil.copytree(ROOT / "src" / "sevenfold", tmp_path / "sevenfold", ignore=ignored)
    return tmp_path
