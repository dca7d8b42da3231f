"""The addresses of stores."""

from __future__ import annotations

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
    "url", ["", "memory", "lmdb", "lmdb:", "redis://host", "/a/folder", "LMDB:x"]
)
def test_another_scheme_is_refused_with_the_allowed_ones(url: str) -> None:
    with pytest.raises(StoreError, match=r"lmdb:FOLDER.*memory:"):
        open_store(url)


def test_a_memory_store_has_no_place_and_is_not_read_only() -> None:
    with pytest.raises(StoreError, match="has none"):
        open_store("memory:here")
    with pytest.raises(StoreError, match="always be empty"):
        open_store("memory:", readonly=True)
