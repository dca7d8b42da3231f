"""What LMDB adds to the laws of a store: read-only opening, folders, sizes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sevenfold.errors import StoreError
from sevenfold.stores.lmdb import LmdbStore
from sevenfold.stores.tables import STATE


def run_python(source: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", source, *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


def test_a_store_open_to_read_sees_later_commits_of_another_process(tmp_path: Path) -> None:
    writer = LmdbStore(tmp_path)
    with writer.write() as txn:
        txn.put(STATE, b"k", b"1")
    out = run_python(
        "import sys\nfrom sevenfold.stores.lmdb import LmdbStore\n"
        "store = LmdbStore(sys.argv[1], readonly=True)\n"
        "with store.read() as txn: print(txn.get('state', b'k'))\n"
        "try:\n    store.write().__enter__()\nexcept Exception as error: print(error)",
        str(tmp_path),
    )
    assert out.startswith("b'1'\n")
    assert "open it with readonly=False to write" in out
    writer.close()


def test_a_store_open_to_read_must_exist(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no store in"):
        LmdbStore(tmp_path / "none", readonly=True)


def test_one_process_opens_a_folder_once(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path)
    with pytest.raises(StoreError, match="already open in this process"):
        LmdbStore(tmp_path)
    store.close()
    LmdbStore(tmp_path).close()


def test_a_file_in_the_way_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreError, match="cannot be opened"):
        LmdbStore(tmp_path / "file")


def test_a_damaged_file_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"\x01" * 9000)
    with pytest.raises(StoreError, match="cannot be opened"):
        LmdbStore(tmp_path)


def test_a_full_store_says_so_and_keeps_what_it_has(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path, map_bytes=1 << 20)
    with store.write() as txn:
        txn.put(STATE, b"k", b"1")
    with pytest.raises(StoreError, match="larger map_bytes"), store.write() as txn:
        txn.put_many(STATE, ((i.to_bytes(4, "big"), b"x" * 2_000) for i in range(1_000)))
    with store.read() as txn:
        assert list(txn.scan(STATE)) == [(b"k", b"1")]
    store.close()


def test_a_store_that_another_process_made_larger_is_still_read_and_written(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path, map_bytes=1 << 20)
    run_python(
        "import sys\nfrom sevenfold.stores.lmdb import LmdbStore\n"
        "store = LmdbStore(sys.argv[1], map_bytes=1 << 26)\n"
        "with store.write() as txn:\n"
        "    for i in range(2_000): txn.put('state', i.to_bytes(4, 'big'), b'x' * 2_000)",
        str(tmp_path),
    )
    with store.read() as txn:
        assert txn.count(STATE) == 2_000
    with store.write() as txn:
        assert txn.delete(STATE, bytes(4))
    store.close()


def test_the_file_is_as_large_as_what_is_in_it(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path)
    store.close()
    assert (tmp_path / "data.mdb").stat().st_blocks * 512 < 1 << 20
