"""What is put aside is in the tables, once and in its order, whatever happens between: moved, aborted, killed, cut short."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sevenfold.errors import StoreError
from sevenfold.stores.aside import AsideFile, Mark
from sevenfold.stores.compact import compact
from sevenfold.stores.kv import Entry, Transaction
from sevenfold.stores.lmdb import LmdbStore
from sevenfold.stores.log import frontier_us
from sevenfold.stores.memory import MemoryStore
from sevenfold.stores.tables import META, PREDICTIONS

SIZE = 700
KEY = b"last"


def entry(n: int, size: int) -> Entry:
    own = n.to_bytes(4, "big")
    return Entry([(PREDICTIONS, own, own * size), (PREDICTIONS, KEY, own)], n)


def kept(txn: Transaction) -> list[int]:
    found = [(key, value) for key, value in txn.scan(PREDICTIONS) if key != KEY]
    assert all(value == key * (len(value) // 4) for key, value in found)
    return [int.from_bytes(key, "big") for key, _ in found]


class Home:
    """A file and the tables beside it, and what was promised: entries by number."""

    def __init__(self, folder: Path) -> None:
        self.store = MemoryStore()
        self.path = folder / "aside"
        self.path.unlink(missing_ok=True)
        self.promised = 0
        self.moved = 0
        self.take_up()

    def take_up(self) -> None:
        """As a process does that begins: it moves what another has left."""
        self.file = AsideFile(self.path, SIZE)
        self.move()
        with self.store.read() as txn:
            mark = self.file.mark(txn)
        self.file.begin(mark)

    def put(self, sizes: list[int]) -> None:
        entries = [entry(self.promised + n, size) for n, size in enumerate(sizes)]
        before = self.file.done
        if self.file.append(entries) is not None:
            self.promised += len(entries)
        else:  # only where what waits leaves too little room
            size = sum(16 + len(msgspec.msgpack.encode(one)) for one in entries)
            assert before < self.promised + 1 or size >= SIZE
            self.move()

    def move(self, abort: bool = False) -> None:
        try:
            with self.store.write() as txn:
                mark = self.file.put_into(txn)
                if abort:
                    raise StoreError("no")
        except StoreError:
            return
        if mark is not None:
            self.file.is_done(mark)
        self.moved = self.promised

    def require_all(self) -> None:
        with self.store.read() as txn:
            assert kept(txn) == list(range(self.moved))
            rest = [one.read_us for one, _ in self.file.waiting(txn)]
            assert rest == list(range(self.moved, self.promised))
            assert self.moved == 0 or txn.get(PREDICTIONS, KEY) == (self.moved - 1).to_bytes(
                4, "big"
            )
            assert frontier_us(txn) == self.moved - 1 or self.moved == 0


STEPS = st.lists(
    st.one_of(
        st.lists(st.integers(0, 40), min_size=1, max_size=4),
        st.sampled_from(["move", "abort", "another", "kill"]),
    ),
    max_size=40,
)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(STEPS)
@example([[0, 0, 0], "move", [0, 0, 30, 40], [0, 8]])  # the file begins anew where nothing waits
def test_what_is_promised_is_there_once_in_its_order(
    tmp_path: Path, steps: list[str | list[int]]
) -> None:
    home = Home(tmp_path)
    for step in steps:
        if isinstance(step, list):
            home.put(step)
        elif step == "another":  # moves it, and the one that puts aside is not told
            mine, home.file = home.file, AsideFile(home.path, SIZE)
            home.move()
            home.file = mine
        elif step == "kill":
            home.file.close()
            home.take_up()
        else:
            home.move(step == "abort")
        home.require_all()


def test_what_another_has_moved_and_somebody_deleted_does_not_come_back(tmp_path: Path) -> None:
    """Who puts aside has it in memory, too: an answer that was forgotten meanwhile stays so."""
    home = Home(tmp_path)
    home.put([3, 3])
    another = AsideFile(home.path, SIZE)
    with home.store.write() as txn:
        another.put_into(txn)
        txn.delete(PREDICTIONS, (0).to_bytes(4, "big"))
    home.put([3])
    home.move()
    with home.store.read() as txn:
        assert kept(txn) == [1, 2]
    home.put([3])
    home.move()
    with home.store.read() as txn:
        assert kept(txn) == [1, 2, 3]


def test_of_what_is_moved_nothing_is_held(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for _ in range(3):
        home.put([3, 3])
        assert len(home.file._held) == 2
        home.move(abort=True)
        assert len(home.file._held) == 2
        home.move()
        assert not home.file._held


def test_an_entry_that_is_cut_short_or_damaged_ends_what_waits(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.put([3])
    home.put([5])
    whole = home.path.read_bytes()
    end = len(whole.rstrip(b"\0"))
    rng = np.random.default_rng(1)
    seen = set()
    for at in range(end):
        for damaged in (whole[:at] + bytes(SIZE - at), _changed(whole, at, rng), whole[:at]):
            home.path.write_bytes(damaged)
            with home.store.read() as txn:
                found = [one for one, _ in AsideFile(home.path, SIZE).waiting(txn)]
            assert found == [entry(0, 3), entry(1, 5)][: len(found)]
            seen.add(len(found))
    assert seen >= {0, 1}


def _changed(whole: bytes, at: int, rng: np.random.Generator) -> bytes:
    other = bytearray(whole)
    other[at] ^= int(rng.integers(1, 256))
    return bytes(other)


def test_what_is_of_an_earlier_round_is_not_taken_for_new(tmp_path: Path) -> None:
    home = Home(tmp_path)
    for _ in range(30):  # some rounds of the file
        home.put([10, 10])
        home.move()
        home.require_all()
    assert home.promised > 40


def test_a_file_that_failed_takes_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path)

    def fails(_: int) -> None:
        raise OSError(5, "input/output error")

    assert home.file.append([entry(0, 1)]) == 2
    with monkeypatch.context() as patched:
        patched.setattr("os.fdatasync", fails)
        with pytest.raises(OSError, match="input/output"):
            home.file.sync()
    assert not home.file.is_open
    assert home.file.append([entry(1, 1)]) is None
    home.promised = 1
    home.move()
    home.require_all()


def test_a_file_that_is_taken_away_takes_nothing_until_it_is_back(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.put([3])
    moved = home.path.rename(tmp_path / "moved")
    assert home.file.append([entry(1, 1)]) is None
    moved.rename(home.path)
    home.put([4])
    home.require_all()
    assert home.promised == 2


KILLED = """
import os, sys
from sevenfold.stores.kv import Entry
from sevenfold.stores.lmdb import LmdbStore
store = LmdbStore(sys.argv[1])
aside = store.aside()
for n in range(3):
    assert aside.append([Entry([("predictions", b"k%d" % n, b"v")], n)]) == n + 2
print("there", flush=True)
if sys.argv[2] == "stay":
    sys.stdin.read()
os._exit(9)
"""


@pytest.fixture
def living(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", KILLED, str(tmp_path), "stay"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        yield process
        process.kill()


def keys_of(store: LmdbStore) -> list[bytes]:
    with store.read() as txn:
        return [key for key, _ in txn.scan(PREDICTIONS)]


@pytest.mark.parametrize("readonly", [True, False])
def test_whoever_opens_the_store_finds_what_a_killed_process_has_put_aside(
    tmp_path: Path, readonly: bool
) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path), "die"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (9, "there\n"), done.stderr
    store = LmdbStore(tmp_path, readonly=readonly)
    if not readonly:
        with store.write() as txn:  # a write begins with it
            assert frontier_us(txn) == 2
            assert txn.get(PREDICTIONS, b"k2") == b"v"
    assert keys_of(store) == [b"k0", b"k1", b"k2"]
    store.close()


def test_others_read_and_write_beside_the_one_that_puts_aside(
    tmp_path: Path, living: subprocess.Popen[str]
) -> None:
    reader = LmdbStore(tmp_path, readonly=True)
    assert keys_of(reader) == [b"k0", b"k1", b"k2"]
    reader.close()
    writer = LmdbStore(tmp_path)
    with writer.write() as txn:
        txn.put(META, b"mine", b"1")
    writer.close()
    assert living.poll() is None
    assert (tmp_path / "aside").exists(), "it is the other's"


def test_closing_moves_all_and_removes_the_file(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path)
    aside = store.aside()
    assert aside is not None
    assert aside.append([entry(0, 1)]) == 2
    store.close()
    assert not (tmp_path / "aside").exists()
    again = LmdbStore(tmp_path)
    assert keys_of(again) == [bytes(4), KEY]
    other = again.aside()
    assert other is not None
    assert other.append([entry(1, 1)]) == 3, "numbers are not given twice"
    again.close()


def test_a_store_written_anew_has_what_was_aside_and_no_file_of_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path / "store"), "die"]
    subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert (tmp_path / "store" / "aside").exists()
    compact(tmp_path / "store")
    assert not (tmp_path / "store" / "aside").exists()
    store = LmdbStore(tmp_path / "store", readonly=True)
    assert keys_of(store) == [b"k0", b"k1", b"k2"]
    store.close()


def test_a_mark_is_kept_with_the_tables(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path)
    aside = store.aside()
    assert aside is not None
    aside.append([entry(0, 1)])
    with suppress(KeyError), store.write() as txn:
        assert txn.get(PREDICTIONS, bytes(4)) is not None
        raise KeyError
    assert aside.done == 1
    assert keys_of(store) == []
    with store.write() as txn:
        txn.put(META, b"x", b"1")
    assert aside.done == 2
    with store.read() as txn:
        assert AsideFile(tmp_path / "aside").mark(txn) > Mark(2, 0)
    store.close()


def test_a_disk_that_has_failed_is_not_asked_whether_all_is_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system tells of it once, and then says that all is on disk."""

    def fails(_: int) -> None:
        raise OSError(5, "input/output error")

    home = Home(tmp_path)
    behind = home.file.append([entry(0, 1)])
    assert behind is not None
    assert not home.file.is_failed
    with monkeypatch.context() as patched:
        patched.setattr("os.fdatasync", fails)
        with pytest.raises(OSError, match="input"):
            home.file.sync()
    assert home.file.is_failed
    assert not home.file.is_open
    with pytest.raises(OSError, match="an earlier sync"):
        home.file.sync()
    assert home.file.append([entry(1, 1)]) is None
    with home.store.write() as txn:
        home.file.note_kept(txn, behind - 1)
        assert len(list(home.file.waiting(txn))) == 1, "not all there is: nothing is noted"
        home.file.note_kept(txn, behind)
        assert list(home.file.waiting(txn)) == []
    home.file.close()
