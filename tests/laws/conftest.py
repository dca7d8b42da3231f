"""What several laws need: one Redis server a session, and copies of the library to plant mistakes in."""

import shutil
from pathlib import Path

import pytest

from sevenfold.testing.redis_server import redis_server

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def redis(tmp_path_factory):
    if shutil.which("redis-server") is None:
        pytest.skip("no redis-server on the PATH")
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A copy of the library's source, without its data."""
    ignored = shutil.ignore_patterns("__pycache__", "*.parquet")
    shutil.copytree(ROOT / "src" / "sevenfold", tmp_path / "sevenfold", ignore=ignored)
    return tmp_path
