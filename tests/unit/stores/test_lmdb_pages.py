"""Values that are found in LMDB's pages are those that LMDB finds, of the same snapshot, wherever they lie."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import lmdb
import numpy as np
import pytest

from sevenfold.hashing import key_bytes
from sevenfold.stores.kv import Hashes, Transaction
from sevenfold.stores.lmdb import LmdbStore
from sevenfold.stores.lmdb_pages import pages_of
from sevenfold.stores.tables import LABELS, META

PREFIXES = b"\x00" * 8, b"view-one", b"\xff" * 8


def some_hashes(n: int, seed: int) -> Hashes:
    """Hashes, some of them alike in their first or last bytes."""
    rng = np.random.default_rng(seed)
    out = rng.integers(0, 1 << 63, (n, 2)).astype(np.uint64)
    out[: n // 3, 0] = 7
    out[n // 3 : n // 2, 1] = 1 << 63
    out[n // 2 : n // 2 + 2] = [[0, 0], [2**64 - 1, 2**64 - 1]]
    return out


def values_of(txn: Transaction, table: str, asked: list[tuple[bytes, Hashes]]) -> list[bytes]:
    """What lies where `words` says."""
    out = []
    for words, places in txn.words(table, asked):
        out += [words[begin // 8 : end // 8].tobytes() for begin, end in places.tolist()]
    return out


def require_same(store: LmdbStore, asked: list[tuple[bytes, Hashes]]) -> None:
    """Fail unless LMDB's own gets give the same."""
    keys = [key for prefix, hashes in asked for key in key_bytes(hashes, prefix)]
    with store.read() as txn:
        assert values_of(txn, LABELS, asked) == [v or b"" for v in txn.get_many(LABELS, keys)]


@pytest.mark.parametrize("n", [0, 1, 2, 60, 3_000])
@pytest.mark.parametrize("largest", [0, 40, 1_500, 9_000])
def test_pages_of_any_number_and_size_of_values(tmp_path: Path, n: int, largest: int) -> None:
    rng = np.random.default_rng(n + largest)
    hashes = some_hashes(max(4, n), 1)
    asked = [(prefix, hashes) for prefix in PREFIXES]
    store = LmdbStore(tmp_path / "store")
    assert store._pages is not None
    require_same(store, asked)
    for part in (0, 1):  # in two commits, so that pages are cut and written again
        with store.write() as txn:
            for prefix in PREFIXES:
                for key in key_bytes(hashes[part:n:2], prefix):
                    txn.put(LABELS, key, rng.bytes(8 * int(rng.integers(0, largest // 8 + 1))))
        require_same(store, asked)
    with store.write() as txn:
        for key in key_bytes(hashes[:n:3], PREFIXES[1]):
            txn.delete(LABELS, key)
    require_same(store, asked)
    store.close()


def test_keys_of_other_lengths_and_values_of_no_whole_words_are_beside_them(tmp_path: Path) -> None:
    hashes = some_hashes(400, 2)
    keys = key_bytes(hashes, PREFIXES[1])
    store = LmdbStore(tmp_path / "store")
    with store.write() as txn:
        for i, key in enumerate(keys):
            txn.put(LABELS, key[: 1 + i % 24], bytes(8))
            txn.put(LABELS, key + b"\0" * (i % 3), bytes([i % 256]) * 16)
            txn.put(META, key, b"another table")
    require_same(store, [(PREFIXES[1], hashes)])
    with store.write() as txn:
        txn.put(LABELS, keys[0] + b"!", b"cut")  # what lies below it begins anywhere
        txn.put(LABELS, keys[7], b"whole no")
    require_same(store, [(PREFIXES[1], hashes)])
    with store.write() as txn:
        txn.put(LABELS, keys[9], b"of no whole words")
    with store.read() as txn:
        (_, places), *_ = txn.words(LABELS, [(PREFIXES[1], hashes[9:10])])
        assert places.tolist() == [[0, 17]]
    store.close()


def test_a_snapshot_is_read_though_others_write_and_the_file_grows(tmp_path: Path) -> None:
    hashes = some_hashes(2_000, 3)
    keys = key_bytes(hashes, PREFIXES[1])
    store = LmdbStore(tmp_path / "store")
    with store.write() as txn:
        txn.put_many(LABELS, ((key, b"before.." * 50) for key in keys))
    with store.read() as old:
        for size in (10, 300, 700):
            with store.write() as txn:
                assert values_of(txn, LABELS, [(PREFIXES[1], hashes[:1])])
                txn.put_many(LABELS, ((key, b"after..." * size) for key in keys))
            require_same(store, [(PREFIXES[1], hashes)])
        assert values_of(old, LABELS, [(PREFIXES[1], hashes)]) == [b"before.." * 50] * len(keys)
    store.close()


GROW = """
import sys, lmdb
env = lmdb.open(sys.argv[1], map_size=1 << 30, max_dbs=32)
with env.begin(write=True) as txn:
    table = env.open_db(b"labels", txn=txn)
    for i in range(3000):
        txn.put(b"view-one" + i.to_bytes(16, "little"), b"by other" * 200, db=table)
"""


def test_another_process_makes_the_map_larger(tmp_path: Path) -> None:
    hashes = np.array([[i, 0] for i in range(3_000)], dtype=np.uint64)
    store = LmdbStore(tmp_path / "store", map_bytes=1 << 20)
    require_same(store, [(PREFIXES[1], hashes)])
    subprocess.run([sys.executable, "-c", GROW, str(tmp_path / "store")], check=True, timeout=120)
    with store.read() as txn:
        found = values_of(txn, LABELS, [(PREFIXES[1], hashes)])
    assert found == [b"by other" * 200] * 3_000
    store.close()


def test_pages_of_another_format_are_left_to_lmdb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lmdb, "version", lambda: (1, 0, 0))
    hashes = some_hashes(30, 4)
    store = LmdbStore(tmp_path / "store")
    assert store._pages is None
    with store.write() as txn:
        txn.put_many(LABELS, ((key, bytes(24)) for key in key_bytes(hashes, PREFIXES[1])))
    require_same(store, [(PREFIXES[1], hashes)])
    store.close()


def test_an_environment_of_nothing_has_no_pages_yet(tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path / "empty"), map_size=1 << 20) as environment:
        assert pages_of(environment) is None
