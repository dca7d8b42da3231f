"""A store of before is read as it is, moved when it is opened to write, and refused by who knows no log of states."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import lmdb
import msgspec
import numpy as np
import pytest

from sevenfold.errors import StoreError
from sevenfold.stores import state_move
from sevenfold.stores.lmdb import LmdbStore
from sevenfold.stores.state_layout import Layout
from sevenfold.stores.state_pending import Pending
from sevenfold.stores.tables import ADDED, META, STATE, TABLES

Items = dict[bytes, bytes]


@pytest.fixture
def before(tmp_path: Path) -> tuple[Path, Items]:
    """The folder of a store of before, and its states: most under hashed keys, some under others."""
    rng = np.random.default_rng(1)
    items = {rng.bytes(24): rng.bytes(int(rng.integers(0, 900))) for _ in range(3_000)}
    items |= {b"other" + bytes([i]): bytes(i) for i in range(50)}
    folder = tmp_path / "store"
    folder.mkdir()
    with lmdb.open(str(folder), map_size=1 << 27, max_dbs=32) as environment:
        for name in set(TABLES) - ADDED:
            table = environment.open_db(name.encode())
            with environment.begin(table, write=True) as txn:
                for key, value in items.items() if name == STATE else [(b"n", b"1")]:
                    txn.put(key, value)
    return folder, items


def require(store: LmdbStore, items: Items) -> None:
    with store.read() as txn:
        assert list(txn.scan(STATE)) == sorted(items.items())
        assert list(txn.scan(STATE, reverse=True)) == sorted(items.items(), reverse=True)
        assert txn.count(STATE) == len(items)
        assert txn.get_many(STATE, list(items)) == list(items.values())
        assert txn.get(META, b"n") == b"1"


def names(folder: Path) -> list[bytes]:
    with (
        lmdb.open(str(folder), readonly=True, max_dbs=32) as environment,
        environment.begin() as txn,
    ):
        return [bytes(key) for key, _ in txn.cursor()]


def test_it_is_read_as_it_is_and_moved_when_it_is_written(before: tuple[Path, Items]) -> None:
    folder, items = before
    for readonly in (True, True, False, True, False):
        store = LmdbStore(folder, readonly=readonly)
        require(store, items)
        store.close()
        assert any(folder.glob("states-*")) or readonly
    assert b"state/log" in names(folder)
    with lmdb.open(str(folder), max_dbs=32) as environment, pytest.raises(lmdb.IncompatibleError):
        environment.open_db(b"state")  # as a version does that knows no log of states


@pytest.mark.parametrize("slices", [0, 2, 100])
def test_killed_at_it_it_begins_again(
    before: tuple[Path, Items], monkeypatch: pytest.MonkeyPatch, slices: int
) -> None:
    folder, items = before
    monkeypatch.setattr(state_move, "_ITEMS", 500)
    real, left = state_move._slice, [slices]

    def fails(*given: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise StoreError("planned")
        return real(*given)

    def no_mark(*given: Any) -> None:
        raise StoreError("planned")

    with monkeypatch.context() as patch:
        patch.setattr(state_move, "_slice", fails)
        patch.setattr(state_move, "mark", no_mark)
        for _ in range(2):
            with pytest.raises(StoreError, match="planned"):
                LmdbStore(folder)
            store = LmdbStore(folder, readonly=True)
            require(store, items)
            store.close()
    store = LmdbStore(folder)
    require(store, items)
    store.close()
    assert len(list(folder.glob("states-*"))) == 1


def test_who_has_it_open_to_read_reads_on(before: tuple[Path, Items]) -> None:
    folder, items = before
    store = LmdbStore(folder, readonly=True)
    require(store, items)
    moving = (
        "import sys; from sevenfold.stores.lmdb import LmdbStore; LmdbStore(sys.argv[1]).close()"
    )
    with store.read() as held:
        subprocess.run([sys.executable, "-c", moving, str(folder)], check=True, timeout=60)
        assert list(held.scan(STATE)) == sorted(items.items())
    require(store, items)
    store.close()


def test_a_format_of_later_is_refused(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path)
    with store.write() as txn:
        txn.put(STATE, b"k" * 24, b"v")
    store.close()
    with lmdb.open(str(tmp_path), max_dbs=32) as environment:
        table = environment.open_db(b"state/log")
        with environment.begin(table, write=True) as txn:
            raw = txn.get(b"~head")
            later = msgspec.structs.replace(
                msgspec.msgpack.decode(raw[40:], type=Layout), version=2
            )
            txn.put(b"~head", raw[:40] + msgspec.msgpack.encode(later))
    with pytest.raises(StoreError, match="format 2, this version reads format 1"):
        LmdbStore(tmp_path)
    with lmdb.open(str(tmp_path), max_dbs=32) as environment, environment.begin(write=True) as txn:
        txn.put(b"state", b"states in a log, format 2")
    for readonly in (True, False):
        with pytest.raises(StoreError, match="format 2, this version knows format 1"):
            LmdbStore(tmp_path, readonly=readonly)


# On a disk of its own of 6 MiB: full by states, then by a file beside them, then with room again.
ON_A_SMALL_DISK = """
import pathlib, sys
from sevenfold.errors import StoreFullError
from sevenfold.stores.lmdb import LmdbStore

disk = pathlib.Path(sys.argv[1])
store = LmdbStore(disk / "store")
beside = disk / "beside"


def put(n, size):
    with store.write() as txn:
        txn.put_many("state", [(n.to_bytes(24, "big"), bytes([n % 256]) * size)])
        txn.put("meta", b"n", str(n).encode())


def fill():
    with beside.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(65536)):
                pass
        except OSError:
            pass


def require(n):
    with store.read() as txn:
        assert int(txn.get("meta", b"n") or b"-1") == n
        assert [k for k, _ in txn.scan("state")] == [i.to_bytes(24, "big") for i in range(n + 1)]


fill()
for _ in range(2):
    try:
        put(0, 100)
    except StoreFullError as error:
        print("full")
require(-1)
beside.unlink()
for n in range(6):
    put(n, 300_000)
fill()
n = 6
for size in (300_000, 300, 300_000):  # appended to the segment or to LMDB, whichever has no room first
    try:
        for _ in range(100):
            put(n, size)
            n += 1
    except StoreFullError:
        print("full")
    require(n - 1)
beside.unlink()
put(n, 300_000)
require(n)
store.close()
store = LmdbStore(disk / "store", readonly=True)
require(n)
print("written")
"""


def test_a_full_disk_is_said_to_be_full_and_takes_states_again(on_a_small_disk: Any) -> None:
    done = on_a_small_disk(ON_A_SMALL_DISK, 6)
    assert done.stdout.split() == ["full"] * 5 + ["written"], done.stderr


def test_what_a_transaction_has_put_is_found_however_much(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    pending = Pending()
    for n in (5, 9_000, 3, 40):
        keys = rng.integers(0, 1 << 60, (n, 3))
        words = rng.integers(0, 1 << 60, 2 * n)
        firsts = np.arange(n) * 2
        pending.note(keys, words, firsts, np.full(n, 16))
        pending.note(keys[:2], words, firsts[:2], np.array([-1, 9]))
        places = pending.find(keys)
        assert places[0].tolist() == [-2, -2]
        assert (places[1:, 1] - places[1:, 0]).tolist() == [9] + [16] * (n - 2)
        assert pending.find(keys + 1).tolist() == [[-1, -1]] * n
        assert sorted(map(tuple, pending.keys().tolist())) == sorted(map(tuple, keys[1:].tolist()))
        pending.clear()
        assert pending.is_empty
        assert pending.find(keys).tolist() == [[-1, -1]] * n
