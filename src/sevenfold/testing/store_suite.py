"""The laws that every store keeps, as tests that a store's own test file inherits.

    class TestMemory(StoreSuite):
        def open(self, folder: Path) -> Store:
            return MemoryStore()

`DurableSuite` adds the laws of a store that outlives its process; it starts processes and kills them.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import numpy as np

from sevenfold.errors import StoreError
from sevenfold.hashing import key_bytes
from sevenfold.stores.kv import Hashes, Store, Transaction
from sevenfold.stores.tables import META, STATE, TABLES
from sevenfold.types import Ints

__all__ = ["DurableSuite", "StoreSuite"]

PREFIXES = (b"prefix-a", b"prefix-b", b"prefix-\xff")
ITEMS = [(bytes([i]) * 3, str(i).encode()) for i in range(0, 250, 5)]


class StoreSuite:
    """The laws of any store; a subclass opens it."""

    def open(self, folder: Path) -> Store:
        """The store to test, empty, in `folder` if it needs one."""
        raise NotImplementedError

    @contextmanager
    def opened(self, folder: Path) -> Iterator[Store]:
        """The store, closed at the end."""
        store = self.open(folder)
        try:
            yield store
        finally:
            store.close()

    def test_a_new_store_is_empty(self, tmp_path: Path) -> None:
        """Every table is there, with nothing in it."""
        with self.opened(tmp_path) as store, store.read() as txn:
            for table in TABLES:
                assert txn.count(table) == 0
                assert txn.get(table, b"k") is None
                assert list(txn.scan(table)) == []
                assert list(txn.scan(table, reverse=True)) == []

    def test_a_writer_reads_what_it_wrote(self, tmp_path: Path) -> None:
        """Inside the transaction and after it."""
        with self.opened(tmp_path) as store:
            with store.write() as txn:
                txn.put(STATE, b"k", b"1")
                assert txn.get(STATE, b"k") == b"1"
                txn.put(STATE, b"k", b"2")
                assert txn.get_many(STATE, [b"k", b"x", b"k"]) == [b"2", None, b"2"]
                assert txn.count(STATE) == 1
            with store.read() as txn:
                assert txn.get(STATE, b"k") == b"2"

    def test_many_is_as_one_by_one(self, tmp_path: Path) -> None:
        """put_many and get_many do what put and get do, and the last of a key wins."""
        with self.opened(tmp_path) as store:
            with store.write() as txn:
                txn.put_many(STATE, [*ITEMS, (ITEMS[0][0], b"last")])
                for key, value in ITEMS:
                    txn.put(META, key, value)
                txn.put(META, ITEMS[0][0], b"last")
            with store.read() as txn:
                keys = [key for key, _ in ITEMS]
                assert txn.get_many(STATE, keys) == [txn.get(META, key) for key in keys]
                for asked in (keys, [b"none", *keys[::-1], keys[0], b"none"], []):
                    data, lengths = txn.gather(STATE, asked)
                    values = [value or b"" for value in txn.get_many(STATE, asked)]
                    assert data == b"".join(values)
                    assert lengths.tolist() == [len(value) for value in values]
                assert list(txn.scan(STATE)) == list(txn.scan(META))

    def test_hashed_keys_are_found_as_words(self, tmp_path: Path) -> None:
        """`words` says where the values of `get_many` lie, for any number of prefixes, by a reader and by the writer."""
        hashes = np.array([[1, 2], [3, 1 << 63], [1, 2], [9, 9]], dtype=np.uint64)
        asked = [(b"prefix-a", hashes), (b"prefix-b", hashes[:2]), (b"prefix-c", hashes[:0])]
        keys = [key for prefix, some in asked for key in key_bytes(some, prefix)]
        with self.opened(tmp_path) as store:
            with store.write() as txn:
                txn.put(STATE, keys[0], bytes(range(80)))
                txn.put(STATE, keys[4], bytes(range(8)))
                require_words(txn, asked, keys)
                txn.put(STATE, keys[5], bytes(range(200)) * 40)
                txn.put(STATE, keys[3] + b"!", b"of no whole words")
                require_words(txn, asked, keys)
            with store.read() as txn:
                require_words(txn, asked, keys)
                assert txn.words(STATE, []) == []

    def test_hashed_keys_are_kept_as_words(self, tmp_path: Path) -> None:
        """`keep` does what `put` and `delete` of each key do, beside them, before and after them, and rolled back with them."""
        rng = np.random.default_rng(3)
        model: dict[bytes, bytes] = {}
        with self.opened(tmp_path) as store:
            for _ in range(15):
                trial, stays = dict(model), rng.random() < 0.8
                with suppress(KeyError), store.write() as txn:
                    keep_and_change(txn, trial, rng)
                    if not stays:
                        raise KeyError("roll back")
                model = trial if stays else model
                with store.read() as txn:
                    require_states(txn, model)

    def test_what_is_kept_is_not_changed(self, tmp_path: Path) -> None:
        """Arrays are given to `keep` to be read; values of one length, of several, and none at all."""
        hashes = np.array([[5, 1], [2, 9], [1 << 63, 4]], dtype=np.uint64)
        words = np.arange(6, dtype=np.int64) << 40
        for place, ends in enumerate(([2, 4, 6], [1, 1, 6], [6, 6, 6], [0, 0, 0])):
            asked = [(PREFIXES[0], hashes)]
            given = words[: ends[-1]], np.array(ends, dtype=np.int64)
            for array in (hashes, *given):
                array.flags.writeable = False
            with self.opened(tmp_path / str(place)) as store:
                with store.write() as txn:
                    txn.keep(STATE, PREFIXES[0], hashes, *given)
                    txn.keep(STATE, PREFIXES[1], hashes[:0], words[:0], given[1][:0])
                with store.read() as txn:
                    (found, places), *_ = txn.words(STATE, asked)
                    values = [found[begin // 8 : end // 8].tolist() for begin, end in places]
                    begins = [0, *ends[:-1]]
                    assert values == [
                        words[a:b].tolist() for a, b in zip(begins, ends, strict=True)
                    ]
                    assert txn.count(STATE) == sum(map(bool, values))

    def test_tables_are_apart(self, tmp_path: Path) -> None:
        """A key of one table is not a key of another."""
        with self.opened(tmp_path) as store:
            with store.write() as txn:
                txn.put(STATE, b"k", b"1")
            with store.read() as txn:
                assert txn.get(META, b"k") is None

    def test_a_reader_keeps_its_snapshot(self, tmp_path: Path) -> None:
        """What is committed during a read is seen by the next one."""
        with self.opened(tmp_path) as store:
            with store.write() as txn:
                txn.put_many(STATE, ITEMS)
            with store.read() as before:
                in_thread(lambda: put(store, ITEMS[3][0], b"new"))
                in_thread(lambda: remove(store, ITEMS[4][0]))
                assert list(before.scan(STATE)) == ITEMS
                assert before.get(STATE, ITEMS[3][0]) == ITEMS[3][1]
                assert before.count(STATE) == len(ITEMS)
            with store.read() as after:
                assert after.get(STATE, ITEMS[3][0]) == b"new"
                assert after.get(STATE, ITEMS[4][0]) is None

    def test_an_exception_leaves_nothing(self, tmp_path: Path) -> None:
        """Neither new, changed nor removed keys."""
        with self.opened(tmp_path) as store:
            with store.write() as txn:
                txn.put_many(STATE, ITEMS)
            failure = None
            try:
                with store.write() as txn:
                    txn.put(STATE, b"new", b"1")
                    txn.put(STATE, ITEMS[0][0], b"changed")
                    txn.delete(STATE, ITEMS[1][0])
                    raise KeyError("planned")
            except KeyError as error:
                failure = error
            assert failure is not None
            with store.read() as txn:
                assert list(txn.scan(STATE)) == ITEMS

    def test_scans_go_in_the_order_of_bytes(self, tmp_path: Path) -> None:
        """[start, stop), both ways, whatever order the keys were written in."""
        with self.opened(tmp_path) as store:
            with store.write() as txn:
                for at in np.random.default_rng(1).permutation(len(ITEMS)).tolist():
                    txn.put(STATE, *ITEMS[at])
            bounds = [b"", b"\0", ITEMS[7][0], ITEMS[7][0] + b"\0", ITEMS[7][0][:1], b"\xff" * 4]
            with store.read() as txn:
                for start in bounds:
                    for stop in [*bounds, None]:
                        expected = [
                            i for i in ITEMS if start <= i[0] and (stop is None or i[0] < stop)
                        ]
                        assert list(txn.scan(STATE, start, stop)) == expected
                        assert list(txn.scan(STATE, start, stop, reverse=True)) == expected[::-1]

    def test_a_scan_survives_writes(self, tmp_path: Path) -> None:
        """A table can be emptied or changed along a scan of it; what is untouched is seen once."""
        many = [(i.to_bytes(4, "big"), b"v") for i in range(3_000)]
        for reverse in (False, True):
            with self.opened(tmp_path / str(reverse)) as store:
                with store.write() as txn:
                    txn.put_many(STATE, many)
                    seen = []
                    for key, _ in txn.scan(STATE, reverse=reverse):
                        seen.append(key)
                        txn.delete(STATE, key)
                        txn.put(META, key, b"moved")
                    assert sorted(seen) == [key for key, _ in many]
                with store.read() as txn:
                    assert txn.count(STATE) == 0
                    assert txn.count(META) == len(many)

    def test_delete_says_whether_it_was_there(self, tmp_path: Path) -> None:
        """True once, then False."""
        with self.opened(tmp_path) as store, store.write() as txn:
            txn.put(STATE, b"k", b"")
            assert txn.get(STATE, b"k") == b""
            assert txn.delete(STATE, b"k")
            assert not txn.delete(STATE, b"k")
            assert txn.count(STATE) == 0

    def test_it_agrees_with_a_dictionary(self, tmp_path: Path) -> None:
        """Ten thousand random writes, removals, roll-backs and looks."""
        rng = np.random.default_rng(7)
        model: dict[bytes, bytes] = {}
        with self.opened(tmp_path) as store:
            for _ in range(40):
                trial, keep = dict(model), rng.random() < 0.8
                with suppress(KeyError), store.write() as txn:
                    random_walk(txn, trial, rng)
                    assert list(txn.scan(STATE)) == sorted(trial.items())
                    if not keep:
                        raise KeyError("roll back")
                model = trial if keep else model
                with store.read() as txn:
                    assert list(txn.scan(STATE)) == sorted(model.items())
                    assert txn.count(STATE) == len(model)

    def test_writers_take_turns(self, tmp_path: Path) -> None:
        """Increments by four threads are all there."""
        with self.opened(tmp_path) as store:
            threads = [threading.Thread(target=count_up, args=(store, 25)) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            with store.read() as txn:
                assert txn.get(META, b"n") == b"100"

    def test_misuse_is_told(self, tmp_path: Path) -> None:
        """Unknown tables, bad keys, writing to a snapshot, nesting, late use: StoreError with a reason."""
        nothing = np.empty((0, 2), np.uint64), np.empty(0, np.int64), np.empty(0, np.int64)
        with self.opened(tmp_path) as store:
            with store.read() as txn:
                told(lambda: txn.get("nowhere", b"k"), "no table 'nowhere'")
                told(lambda: txn.put(STATE, b"k", b"v"), "read transaction")
                told(lambda: txn.put_many(STATE, [(b"k", b"v")]), "read transaction")
                told(lambda: txn.keep(STATE, PREFIXES[0], *nothing), "read transaction")
                told(lambda: txn.delete(STATE, b"k"), "read transaction")
            told(lambda: txn.get(STATE, b"k"), "has ended")
            for key in (b"", b"k" * 512):
                told(lambda key=key: put(store, key, b"v"), "1 to 511 bytes")  # type: ignore[misc]
            put(store, b"k" * 511, b"v")
            with store.write() as writer:
                assert list(writer.scan(STATE)) == [(b"k" * 511, b"v")]
                told(lambda: put(store, b"k", b"v"), "already inside")
                told(lambda: writer.keep("nowhere", PREFIXES[0], *nothing), "no table 'nowhere'")
            told(lambda: writer.put(STATE, b"k", b"v"), "has ended")
            told(lambda: writer.keep(STATE, PREFIXES[0], *nothing), "has ended")
            put(store, b"k", b"v")
        told(lambda: put(store, b"k", b"v"), "closed")


class DurableSuite(StoreSuite):
    """The laws of a store that outlives its process.

    A subclass also gives `program`: Python source that leaves the same store, opened in the folder
    `sys.argv[1]`, in the variable `store`.
    """

    program: str

    def test_a_restart_finds_what_was_committed(self, tmp_path: Path) -> None:
        """All of it, in order."""
        with self.opened(tmp_path) as store, store.write() as txn:
            txn.put_many(STATE, ITEMS)
        with self.opened(tmp_path) as store, store.read() as txn:
            assert list(txn.scan(STATE)) == ITEMS

    def test_another_process_reads_while_this_one_writes(self, tmp_path: Path) -> None:
        """It sees whole commits only, and never waits for the writer."""
        reader = (
            "import time\nwhile True:\n    with store.read() as txn:\n"
            "        seen = [value for _, value in txn.scan('state')]\n"
            "    assert len(set(seen)) <= 1 and len(seen) in (0, 20), seen\n"
            "    if seen and int(seen[0]) >= 30: break\nprint('saw', seen[0].decode())\n"
        )
        with self.opened(tmp_path) as store, self.process(tmp_path, reader) as (process, out):
            for n in range(31):
                with store.write() as txn:
                    txn.put_many(STATE, [(bytes([i]), str(n).encode()) for i in range(1, 21)])
            assert out.readline() == "saw 30\n"
            assert process.wait(60) == 0

    def test_a_killed_writer_leaves_whole_commits(self, tmp_path: Path) -> None:
        """Nothing it had acknowledged is lost, and nothing of the commit it was killed in is seen."""
        writer = (
            "n = 0\nwhile True:\n    with store.write() as txn:\n"
            "        for i in range(50): txn.put('state', n.to_bytes(4, 'big') + bytes([i]), b'x' * 900)\n"
            "        txn.put('meta', b'n', str(n).encode())\n"
            "    print(n, flush=True)\n    n += 1\n"
        )
        with self.process(tmp_path, writer) as (process, out):
            acknowledged = -1
            while acknowledged < 8:
                acknowledged = int(out.readline())
            process.kill()
            acknowledged = max([acknowledged, *(int(line) for line in out if line.endswith("\n"))])
        with self.opened(tmp_path) as store:
            with store.read() as txn:
                committed = int(txn.get(META, b"n") or b"-1")
                assert committed >= acknowledged
                assert txn.count(STATE) == 50 * (committed + 1)
            put(store, b"after", b"the lock of the dead writer is free")

    @contextmanager
    def process(self, folder: Path, source: str) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
        """A Python process of its own that runs `program` and then `source`, killed at the end."""
        command = [sys.executable, "-c", f"import sys\n{self.program}\n{source}", str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                yield process, process.stdout
            finally:
                process.kill()


def require_words(txn: Transaction, asked: list[tuple[bytes, Hashes]], keys: list[bytes]) -> None:
    """Fail unless `words` gives what `get_many` does."""
    found = []
    for words, places in txn.words(STATE, asked):
        found += [words[begin // 8 : end // 8].tobytes() for begin, end in places.tolist()]
    assert found == [value or b"" for value in txn.get_many(STATE, keys)]


def keep_and_change(txn: Transaction, model: dict[bytes, bytes], rng: np.random.Generator) -> None:
    """Keep values a few times, with other changes and looks between, and do the same to a dictionary."""
    for _ in range(int(rng.integers(1, 6))):
        keep_some(txn, model, rng)
        if rng.random() < 0.4:
            change_some(txn, model, rng)
        if rng.random() < 0.4:
            require_states(txn, model)


def keep_some(txn: Transaction, model: dict[bytes, bytes], rng: np.random.Generator) -> None:
    """Keep values of some of forty keys of a prefix, in any order, and do the same to a dictionary."""
    prefix = PREFIXES[rng.integers(len(PREFIXES))]
    hashes = some_hashes()[rng.permutation(40)[: rng.integers(41)]]
    lengths = rng.integers(0, 4, len(hashes)) if rng.random() < 0.7 else np.full(len(hashes), 2)
    ends: Ints = np.cumsum(lengths)
    words = rng.integers(-(1 << 62), 1 << 62, lengths.sum())
    txn.keep(STATE, prefix, hashes, words, ends)
    for key, end, length in zip(key_bytes(hashes, prefix), ends, lengths, strict=True):
        model.pop(key, None)
        if length:
            model[key] = words[end - length : end].tobytes()


def change_some(txn: Transaction, model: dict[bytes, bytes], rng: np.random.Generator) -> None:
    """Put and delete keys of a prefix one by one, and do the same to a dictionary."""
    for key in key_bytes(some_hashes()[rng.integers(0, 40, 6)], PREFIXES[rng.integers(3)]):
        if rng.random() < 0.5:
            assert txn.delete(STATE, key) == (model.pop(key, None) is not None)
        else:
            model[key] = bytes(8) * int(rng.integers(1, 5))
            txn.put(STATE, key, model[key])


def require_states(txn: Transaction, model: dict[bytes, bytes]) -> None:
    """Fail unless the table of states is the dictionary, whichever way it is read."""
    hashes = some_hashes()
    asked = [(prefix, hashes) for prefix in PREFIXES[::-1]]
    keys = [key for prefix, some in asked for key in key_bytes(some, prefix)]
    assert txn.get_many(STATE, keys) == [model.get(key) for key in keys]
    assert txn.get(STATE, keys[7]) == model.get(keys[7])
    require_words(txn, asked, keys)
    for start, stop in ((b"", None), (PREFIXES[1], PREFIXES[2]), (keys[3], keys[80])):
        between = [i for i in sorted(model.items()) if i[0] >= start and (not stop or i[0] < stop)]
        assert list(txn.scan(STATE, start, stop)) == between
        assert list(txn.scan(STATE, start, stop, reverse=True)) == between[::-1]
    assert txn.count(STATE) == len(model)


def some_hashes() -> Hashes:
    """Forty hashes, some of which share a half with others."""
    hashes = np.random.default_rng(5).integers(0, 1 << 64, (40, 2), dtype=np.uint64)
    hashes[:8, 0], hashes[8:12, 1] = 7, 1 << 63
    return hashes


def put(store: Store, key: bytes, value: bytes) -> None:
    """Set one key of the table of states, in a transaction of its own."""
    with store.write() as txn:
        txn.put(STATE, key, value)


def remove(store: Store, key: bytes) -> None:
    """Remove one key of the table of states, in a transaction of its own."""
    with store.write() as txn:
        txn.delete(STATE, key)


def count_up(store: Store, times: int) -> None:
    """Add 1 to a counter, `times` times."""
    for _ in range(times):
        with store.write() as txn:
            txn.put(META, b"n", str(int(txn.get(META, b"n") or b"0") + 1).encode())


def random_walk(txn: Transaction, model: dict[bytes, bytes], rng: np.random.Generator) -> None:
    """Do the same 250 random things to the table of states and to a dictionary."""
    for _ in range(250):
        key = int(rng.integers(0, 1_500)).to_bytes(2, "big")
        value = rng.bytes(3)
        match int(rng.integers(0, 4)):
            case 0:
                assert txn.delete(STATE, key) == (model.pop(key, None) is not None)
            case 1:
                assert txn.get(STATE, key) == model.get(key)
            case _:
                txn.put(STATE, key, value)
                model[key] = value


def in_thread(act: Callable[[], None]) -> None:
    """Do it in a thread of its own and wait."""
    thread = threading.Thread(target=act)
    thread.start()
    thread.join()


def told(act: Callable[[], object], words: str) -> None:
    """Assert that `act` raises StoreError with `words` in its message."""
    message = None
    try:
        act()
    except StoreError as error:
        message = str(error)
    assert message is not None, f"no StoreError was raised, one with {words!r} was expected"
    assert words in message, f"{words!r} is not in {message!r}"
