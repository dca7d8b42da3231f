"""The addresses of stores."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sevenfold.errors import StoreError
from sevenfold.stores.lmdb import LmdbStore
from sevenfold.stores.memory import MemoryStore
from sevenfold.stores.open import open_store


def test_both_schemes_open(tmp_path: Path) -> None:
    assert isinstance(open_store("memory:"), MemoryStore)
    store = open_store(f"lmdb:{tmp_path}/new/store")
    assert isinstance(store, LmdbStore)
    store.close()
    open_store(f"lmdb:{tmp_path}/new/store", readonly=True).close()


@pytest.mark.parametrize(
    "url", ["", "memory", "lmdb", "lmdb:", "kafka://host", "/a/folder", "LMDB:x"]
)
def test_another_scheme_is_refused_with_the_allowed_ones(url: str) -> None:
    with pytest.raises(StoreError, match=r"lmdb:FOLDER.*memory:"):
        open_store(url)


def test_a_memory_store_has_no_place_and_is_not_read_only() -> None:
    with pytest.raises(StoreError, match="has none"):
        open_store("memory:here")
    with pytest.raises(StoreError, match="always be empty"):
        open_store("memory:", readonly=True)


def test_a_missing_library_is_named(monkeypatch) -> None:
    for name in [name for name in sys.modules if name.startswith("sevenfold.stores.redis")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.startswith("redis.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(StoreError, match=r"pip install 'sevenfold\[redis\]'"):
        open_store("redis://127.0.0.1")
