"""The log of states beside a dictionary: commits, aborts, failures at each step, held snapshots, growth, cleaning, files used again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sevenfold.errors import StoreError
from sevenfold.hashing import key_bytes
from sevenfold.stores import state_commit, state_files, state_view
from sevenfold.stores.kv import Hashes, Transaction
from sevenfold.stores.lmdb import LmdbStore
from sevenfold.stores.state_commit import Commit
from sevenfold.stores.state_files import MEMORY, place_of
from sevenfold.stores.state_records import BASES, COUNT, NO_SLOTS, TABLE, find
from sevenfold.stores.tables import META, STATE

BITS = 8  # a segment of 256 words
PREFIXES = b"prefix-a", b"prefix-b"
STEPS = "flush", "keep", "publish", "say"
States = dict[bytes, bytes]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of the table that have to grow soon."""
    monkeypatch.setattr(state_view, "_LEAST_SLOTS", 4)


class PlannedError(Exception):
    """What a step fails with."""


def failing_at(monkeypatch: pytest.MonkeyPatch, step: str, after: bool) -> None:
    """Have a step of the next commit fail, before or after it did its work."""
    real: Callable[[Commit], None] = getattr(Commit, step)

    def fails(commit: Commit) -> None:
        if after:
            real(commit)
        raise PlannedError(step)

    monkeypatch.setattr(Commit, step, fails)


def some_hashes(n: int) -> Hashes:
    """Hashes, some of which share a half with others."""
    hashes = np.random.default_rng(5).integers(0, 1 << 64, (n, 2), dtype=np.uint64)
    hashes[:4, 0], hashes[4:8, 1] = 7, 1 << 63
    return hashes


class Machine:
    """A store, what is to be in it, and snapshots that are held with what they are to see."""

    def __init__(self, folder: Path, seed: int, keys: int) -> None:
        self.folder = folder
        self.rng = np.random.default_rng(seed)
        self.hashes = some_hashes(keys)
        self.model: States = {}
        self.held: list[tuple[Any, Transaction, States]] = []
        self.store = LmdbStore(folder, segment_bits=BITS)

    def commit(self) -> None:
        """Put and delete some, in one of the ways there are."""
        trial = dict(self.model)
        with self.store.write() as txn:
            for _ in range(int(self.rng.integers(1, 3))):
                self.keep(txn, trial)
                if self.rng.random() < 0.3:
                    self.change(txn, trial)
            if self.rng.random() < 0.2:
                require(txn, trial, self.hashes)
        self.model = trial

    def keep(self, txn: Transaction, trial: States, share: float = 0.1) -> None:
        # Some fill more than a segment.
        all_of_them = self.rng.random() < share
        n = len(self.hashes) * 3 // 4 if all_of_them else int(self.rng.integers(1, 9))
        prefix = PREFIXES[self.rng.integers(2)]
        hashes = self.hashes[self.rng.choice(len(self.hashes), n, replace=False)]
        lengths = self.rng.integers(0, 9, n)
        words = self.rng.integers(-(1 << 62), 1 << 62, lengths.sum())
        ends = np.cumsum(lengths)
        if (
            self.rng.random() < 0.5
        ):  # as who brings states up to date: what is known of the slots is used
            self.ask(txn, trial, prefix, hashes)
        txn.keep(STATE, prefix, hashes, words, ends)
        for key, end, length in zip(key_bytes(hashes, prefix), ends, lengths, strict=True):
            trial.pop(key, None)
            if length:
                trial[key] = words[end - length : end].tobytes()

    def ask(self, txn: Transaction, trial: States, prefix: bytes, hashes: Hashes) -> None:
        asked = [(PREFIXES[0], hashes[:2].copy()), (prefix, hashes)]
        words, places = txn.words(STATE, asked)[-1]
        for key, (begin, end) in zip(key_bytes(hashes, prefix), places.tolist(), strict=True):
            kept = words[begin // 8 : (end + 7) // 8].tobytes()[: end - begin]
            assert kept == trial.get(key, b"")

    def change(self, txn: Transaction, trial: States) -> None:
        for at in self.rng.integers(0, len(self.hashes), 2):
            key = key_bytes(self.hashes[at : at + 1], PREFIXES[0])[0]
            if self.rng.random() < 0.5:
                assert txn.delete(STATE, key) == (trial.pop(key, None) is not None)
            else:
                trial[key] = self.rng.bytes(int(self.rng.integers(0, 20)))
                txn.put(STATE, key, trial[key])

    def abort(self) -> None:
        """Leave a transaction by an exception."""
        before = dict(self.model)
        with suppress(PlannedError), self.store.write() as txn:
            self.keep(txn, dict(self.model))
            raise PlannedError
        assert self.model == before

    def fail(self, step: str, after: bool) -> None:
        """Fail at a step of a commit, as a writer that is killed at it leaves it."""
        before = dict(self.model)
        with pytest.MonkeyPatch.context() as patch, suppress(PlannedError):
            failing_at(patch, step, after)
            self.commit()
        self.model = before
        with self.store.read() as txn:
            require(txn, self.model, self.hashes)

    def hold(self) -> None:
        """Begin a snapshot that stays."""
        if len(self.held) < 3:
            context = self.store.read()
            self.held.append((context, context.__enter__(), dict(self.model)))

    def look(self, share: float = 1.0) -> None:
        """What is held sees what it saw; some of it ends."""
        for one in list(self.held):
            context, txn, model = one
            require(txn, model, self.hashes)
            if self.rng.random() < share:
                context.__exit__(None, None, None)
                self.held.remove(one)
        with self.store.read() as txn:
            require(txn, self.model, self.hashes)

    def open_anew(self, thrown_away: bool = False) -> None:
        """Close the store and open it, with its table or without."""
        self.look()
        self.store.close()
        if thrown_away:
            for path in (*self.folder.glob("states-*/*.hash"), *self.folder.glob("*/writers")):
                path.unlink()
        self.store = LmdbStore(self.folder, segment_bits=BITS)

    def step(self) -> None:
        """Do one thing of all these."""
        match int(self.rng.integers(0, 40)):
            case 0:
                self.abort()
            case 1 | 2 | 3 | 4:
                self.fail(STEPS[self.rng.integers(len(STEPS))], bool(self.rng.random() < 0.5))
            case 5 | 6 | 7:
                self.hold()
            case 8 | 9:
                self.look(0.5)
            case 10:
                self.open_anew(bool(self.rng.random() < 0.5))
            case _:
                self.commit()


def require(txn: Transaction, model: States, hashes: Hashes) -> None:
    """Fail unless the table of states is the dictionary."""
    asked = [(prefix, hashes) for prefix in PREFIXES]
    keys = [key for prefix, some in asked for key in key_bytes(some, prefix)]
    assert txn.get_many(STATE, keys) == [model.get(key) for key in keys]
    assert txn.count(STATE) == len(model)
    assert list(txn.scan(STATE, PREFIXES[0], PREFIXES[1])) == sorted(
        item for item in model.items() if item[0] < PREFIXES[1]
    )


@pytest.mark.parametrize("seed", range(3))
def test_it_agrees_with_a_dictionary_whatever_happens(tmp_path: Path, seed: int) -> None:
    machine = Machine(tmp_path, seed, keys=20 + 20 * seed)
    for _ in range(160):
        machine.step()
    machine.look()
    with machine.store.read() as txn:
        layout = machine.store._log.head(txn._txn).layout()  # type: ignore[attr-defined, union-attr]
    assert layout.first > 3  # segments were cleaned, and files used again
    machine.store.close()


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("after", [False, True])
def test_a_commit_that_fails_leaves_nothing(tmp_path: Path, step: str, after: bool) -> None:
    machine = Machine(tmp_path, 7, keys=30)
    for _ in range(12):
        machine.commit()
        machine.hold()
        machine.fail(step, after)
        machine.fail(step, after)
    machine.look()
    machine.open_anew()
    machine.commit()
    machine.look()
    machine.store.close()


def test_large_commits_clean_many_segments(tmp_path: Path) -> None:
    machine = Machine(tmp_path, 11, keys=60)
    for _ in range(25):
        trial = dict(machine.model)
        with machine.store.write() as txn:
            machine.keep(txn, trial, share=1.0)
        machine.model = trial
        with machine.store.read() as txn:
            assert dict(txn.scan(STATE)) == trial
    machine.open_anew(thrown_away=True)
    machine.look()
    machine.store.close()


def test_who_stands_in_what_failed_finds_its_way_back(tmp_path: Path) -> None:
    machine = Machine(tmp_path, 9, keys=30)
    for _ in range(8):
        machine.commit()
        before = dict(machine.model)
        machine.fail("say", after=True)
        # Slots as somebody has read them, of a snapshot from before, who comes to the records much later.
        log: Any = machine.store._log  # type: ignore[attr-defined]
        with machine.store.read() as txn:
            head = log.head(txn._txn)  # type: ignore[attr-defined]
            view = log.view(txn._txn, head)  # type: ignore[attr-defined]
            table = view.table.copy()
            slots = [
                MEMORY[one.slots : one.slots + 2 * (one.mask + 1)].copy() for one in view.parts
            ]
            table[TABLE : TABLE + 2 * len(slots) : 2] = [place_of(one) for one in slots]
            for _ in range(3):
                machine.commit()
            keys = [key for prefix in PREFIXES for key in key_bytes(machine.hashes, prefix)]
            asked = np.array(np.frombuffer(b"".join(keys), dtype=np.int64)).reshape(-1, 3)
            places = np.empty((len(keys), 2), dtype=np.int64)
            while number := find(MEMORY, table, head.tail, asked, places, NO_SLOTS):
                assert number > 0
                view.map(number)
                bases = view.table[table[BASES] :]
                table = np.concatenate([table[: table[BASES]], bases])
                table[COUNT] = len(bases)
            found = [MEMORY[a // 8 : -(-b // 8)].tobytes()[: b - a] for a, b in places.tolist()]
            assert found == [before.get(key, b"") for key in keys]
    machine.store.close()


def test_a_table_that_was_thrown_away_is_made_the_same(tmp_path: Path) -> None:
    machine = Machine(tmp_path, 8, keys=60)
    for _ in range(60):
        machine.commit()
    for _ in range(2):
        machine.open_anew(thrown_away=True)
        machine.commit()
        machine.look()
    machine.store.close()
    for path in tmp_path.glob("states-*/*.hash"):
        path.unlink()
    reader = LmdbStore(tmp_path, readonly=True)  # makes one of its own, and writes nothing
    with reader.read() as txn:
        require(txn, machine.model, machine.hashes)
    reader.close()
    assert not list(tmp_path.glob("states-*/*.hash"))


def power_lost(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take from the open segment what was not synced, as if it had never come to the disk, and boot."""
    store = LmdbStore(folder, readonly=True)
    with store.read() as txn:
        log: Any = store._log
        layout = log.head(txn._txn).layout()  # type: ignore[attr-defined]
        tails = log.tails(txn._txn)  # type: ignore[attr-defined]
    store.close()
    assert tails
    at = 8 * (tails[0][0] % (1 << layout.bits))
    path = folder / layout.folder / f"{tails[0][0] >> layout.bits}.seg"
    raw = path.read_bytes()
    path.write_bytes(raw[:at] + bytes(len(raw) - at))
    monkeypatch.setattr(state_files, "boot", lambda: (1, 2))


def test_small_commits_outlive_a_loss_of_power(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model: States = {}
    hashes = some_hashes(40)
    keys = key_bytes(hashes, PREFIXES[0])
    store = LmdbStore(tmp_path)
    for n, key in enumerate(keys):
        model[key] = bytes([n]) * n
        with store.write() as txn:
            txn.put(STATE, key, model[key])
    store.close()
    power_lost(tmp_path, monkeypatch)
    for readonly in (True, False, True):
        store = LmdbStore(tmp_path, readonly=readonly)
        with store.read() as txn:
            require(txn, model, hashes)
        store.close()


@pytest.fixture
def whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, States, Hashes]:
    """A store that is closed, all of it synced, with one small segment, and what is in it."""
    monkeypatch.setattr(state_commit, "_SMALL_WORDS", 0)
    machine = Machine(tmp_path / "whole", 4, keys=12)
    for _ in range(2):
        machine.commit()
    machine.store.close()
    return machine.folder, machine.model, machine.hashes


def is_refused(whole: tuple[Path, States, Hashes], readonly: bool) -> bool:
    """Whether a store is refused as damaged; fail when it is not, and says what it should not."""
    folder, model, hashes = whole
    told = ""
    try:
        store = LmdbStore(folder, readonly=readonly, segment_bits=BITS)
        try:
            with store.read() as txn:
                require(txn, model, hashes)
        finally:
            store.close()
    except StoreError as error:
        told = str(error)
    assert not told or "damaged" in told
    return bool(told)


def test_a_segment_changed_at_any_byte_is_refused(
    whole: tuple[Path, States, Hashes], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = whole[0]
    path, *others = folder.glob("states-*/*.seg")
    assert not others
    raw = path.read_bytes()
    used = len(raw.rstrip(b"\0"))
    monkeypatch.setattr(state_files, "boot", lambda: (3, 4))  # all records are looked at
    for at in range(0, used, 7):
        path.write_bytes(raw[:at] + bytes([raw[at] ^ (1 << at % 8)]) + raw[at + 1 :])
        assert is_refused(whole, True), at
    for length in range(0, used, 97):
        path.write_bytes(raw[:length])
        assert is_refused(whole, True), length
        path.write_bytes(raw[:length] + bytes(len(raw) - length))
        assert is_refused(whole, True), length
    path.unlink()
    assert is_refused(whole, True)
    path.write_bytes(raw)
    assert not is_refused(whole, False)


def test_a_record_that_is_read_is_looked_at(whole: tuple[Path, States, Hashes]) -> None:
    folder, model, _ = whole
    (path,) = folder.glob("states-*/*.seg")
    raw = path.read_bytes()
    key, value = next(item for item in model.items() if item[1])
    at = raw.rindex(value, 0) if raw.count(value) else 0
    path.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
    store = LmdbStore(folder, segment_bits=BITS)
    with store.read() as txn, pytest.raises(StoreError, match="not what was written"):
        txn.get(STATE, key)
    store.close()
    path.write_bytes(raw)


@pytest.mark.parametrize("readonly", [False, True])
def test_a_table_that_is_cut_or_of_another_boot_is_made_anew(
    whole: tuple[Path, States, Hashes], readonly: bool
) -> None:
    folder = whole[0]
    for n, path in enumerate(sorted(folder.glob("states-*/*.hash"))[:12]):
        raw = path.read_bytes()
        head = bytearray(raw)
        head[(5 * n) % 48] ^= 1 << n % 8
        for changed in (raw[: 11 * n], bytes(head), raw + bytes(8)):
            if path.exists():
                path.write_bytes(changed)
                assert not is_refused(whole, readonly)
    if not readonly:
        (writers,) = folder.glob("states-*/writers")
        writers.write_bytes(b"")
        assert not is_refused(whole, readonly)
        writers.unlink()
        assert not is_refused(whole, readonly)


def test_a_folder_of_no_store_goes_when_it_is_opened_to_write(
    whole: tuple[Path, States, Hashes],
) -> None:
    folder = whole[0]
    (folder / "states-left").mkdir()
    (folder / "states-left" / "1.seg").write_bytes(b"what a killed process left")
    assert not is_refused(whole, True)
    assert (folder / "states-left").exists()
    assert not is_refused(whole, False)
    assert not (folder / "states-left").exists()


def test_a_state_larger_than_a_segment_is_refused(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path, segment_bits=BITS)
    key = b"k" * 24
    with pytest.raises(StoreError, match="a state has more than"), store.write() as txn:
        txn.put(STATE, key, bytes(8 << BITS))
    with store.write() as txn:
        txn.put(STATE, key, bytes((8 << BITS) - 40))
        txn.put(META, b"n", b"1")
    with store.read() as txn:
        assert txn.get(STATE, key) == bytes((8 << BITS) - 40)
    store.close()
