"""A store on a disk without room, and one whose file is taken away: nothing is half written, and both heal."""

from pathlib import Path
from typing import Any

import pytest

from sevenfold.errors import StoreError, StoreFullError
from sevenfold.stores.lmdb import LmdbStore

# On a disk of its own of 3 MiB: full by a file beside the store, then with room again.
ON_A_SMALL_DISK = """
import pathlib, sys
from sevenfold.errors import StoreFullError
from sevenfold.stores.lmdb import LmdbStore

disk = pathlib.Path(sys.argv[1])
store = LmdbStore(disk / "store")
with store.write() as txn:
    txn.put("meta", b"before", b"x" * 100)
beside = disk / "beside"
with beside.open("wb", buffering=0) as file:
    try:
        while file.write(bytes(65536)):
            pass
    except OSError:
        pass
for _ in range(3):
    try:
        with store.write() as txn:
            txn.put("meta", b"big", bytes(1 << 20))
    except StoreFullError:
        print("full")
with store.read() as txn:
    assert txn.get("meta", b"big") is None and txn.get("meta", b"before") == b"x" * 100
beside.unlink()
with store.write() as txn:
    txn.put("meta", b"big", bytes(1 << 20))
store.close()
again = LmdbStore(disk / "store", readonly=True)
with again.read() as txn:
    assert len(txn.get("meta", b"big")) == 1 << 20
again.close()
print("written")
"""


def test_a_full_disk_is_said_to_be_full_and_takes_writes_again(on_a_small_disk: Any) -> None:
    done = on_a_small_disk(ON_A_SMALL_DISK, 3)
    assert done.stdout.split() == ["full"] * 3 + ["written"], done.stderr


def test_a_store_that_has_reached_its_bound_is_full(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path, map_bytes=1 << 18)
    with pytest.raises(StoreFullError, match="map_bytes"), store.write() as txn:
        txn.put("meta", b"big", bytes(1 << 20))
    with store.write() as txn:
        txn.put("meta", b"small", b"x")
    store.close()


def test_nothing_is_written_to_a_file_that_is_not_where_it_was(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path / "store")
    (tmp_path / "store").rename(tmp_path / "away")
    with pytest.raises(StoreError, match="put it back"), store.write() as txn:
        txn.put("meta", b"a", b"lost")
    other = LmdbStore(tmp_path / "store")  # another in its place is none either
    with pytest.raises(StoreError, match="put it back"), store.write() as txn:
        txn.put("meta", b"a", b"lost")
    other.close()
    for file in (tmp_path / "store").iterdir():
        file.unlink()
    (tmp_path / "store").rmdir()
    (tmp_path / "away").rename(tmp_path / "store")
    with store.write() as txn:
        txn.put("meta", b"a", b"kept")
    with store.read() as txn:
        assert txn.get("meta", b"a") == b"kept"
    store.close()
