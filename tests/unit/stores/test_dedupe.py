"""A second delivery inside the horizon is refused, one beyond it accepted, in whatever batches they come."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sevenfold.errors import InputError, StoreError
from sevenfold.hashing import digest, hash128
from sevenfold.stores import runs
from sevenfold.stores.dedupe import fresh
from sevenfold.stores.kv import Store
from sevenfold.stores.memory import MemoryStore
from sevenfold.stores.open import open_store
from sevenfold.stores.run_filters import Filters, Index
from sevenfold.stores.tables import IDS, META
from sevenfold.types import US_PER_DAY, US_PER_S, Texts

DELIVERIES = st.lists(
    st.tuples(st.integers(0, 4 * US_PER_S), st.sampled_from("abcde")), max_size=30
)


def ask(
    store: MemoryStore, known: list[int], ids: list[str], horizon: int, stream: str = "s"
) -> list[bool]:
    with store.write() as txn:
        mask = fresh(txn, stream, Texts.of(ids), np.array(known, dtype=np.int64), horizon)
    answers: list[bool] = mask.tolist()
    return answers


def by_hand(deliveries: list[tuple[int, str]], horizon: int) -> list[bool]:
    accepted: dict[str, int] = {}
    mask = []
    for known, name in deliveries:
        new = name not in accepted or known - accepted[name] > horizon
        mask.append(new)
        if new:
            accepted[name] = known
    return mask


def test_the_first_occurrence_wins_in_a_batch_and_across_batches() -> None:
    store = MemoryStore()
    assert ask(store, [1, 2, 3], ["a", "b", "a"], US_PER_DAY) == [True, True, False]
    assert ask(store, [4, 5], ["c", "b"], US_PER_DAY) == [True, False]
    assert ask(store, [], [], US_PER_DAY) == []


def test_the_horizon_is_inclusive_and_a_refusal_does_not_lengthen_it() -> None:
    store = MemoryStore()
    assert ask(store, [0], ["a"], 10) == [True]
    assert ask(store, [6], ["a"], 10) == [False]
    assert ask(store, [10], ["a"], 10) == [False]
    assert ask(store, [11], ["a"], 10) == [True]


def test_streams_have_ids_of_their_own() -> None:
    store = MemoryStore()
    assert ask(store, [1], ["a"], 10, "s") == [True]
    assert ask(store, [2], ["a"], 10, "t") == [True]
    assert ask(store, [3], ["a"], 10, "s") == [False]


@given(DELIVERIES, st.lists(st.integers(0, 30)), st.sampled_from([0, 1, US_PER_S, 3 * US_PER_S]))
def test_any_cut_into_batches_gives_what_one_by_one_gives(
    deliveries: list[tuple[int, str]], cuts: list[int], horizon: int
) -> None:
    deliveries.sort(key=lambda pair: pair[0])
    store = MemoryStore()
    got: list[bool] = []
    bounds = sorted({0, len(deliveries), *(cut for cut in cuts if cut < len(deliveries))})
    for begin, end in pairwise(bounds):
        part = deliveries[begin:end]
        got += ask(store, [known for known, _ in part], [name for _, name in part], horizon)
    assert got == by_hand(deliveries, horizon)


def test_what_was_rolled_back_is_new_again() -> None:
    store = MemoryStore()
    with suppress(KeyError), store.write() as txn:
        fresh(txn, "s", Texts.of(["a"]), np.array([1]), 10)
        raise KeyError
    assert ask(store, [2], ["a"], 10) == [True]


def test_old_ids_are_forgotten() -> None:
    store = MemoryStore()
    horizon = 60 * US_PER_S
    n = 3_000
    ask(store, list(range(n)), [f"id{i}" for i in range(n)], horizon)
    ask(store, [horizon], ["between"], horizon)
    with store.read() as txn:
        assert txn.count(IDS) >= 4
    ask(store, [10 * horizon], ["late"], horizon)
    with store.read() as txn:
        assert txn.count(IDS) == 1
        assert sum(len(value) for _, value in txn.scan(IDS)) == 24


def test_a_changed_horizon_still_knows_the_ids_it_has() -> None:
    store = MemoryStore()
    day = US_PER_DAY
    names = [f"id{i}" for i in range(50)]
    known = [i * day // 10 for i in range(50)]
    ask(store, known, names, 7 * day)
    assert ask(store, [5 * day] * 50, names, 3 * day) == [5 * day - t > 3 * day for t in known]
    assert ask(store, [6 * day], ["id49"], 30 * day) == [False]


def test_times_before_1970_work() -> None:
    store = MemoryStore()
    assert ask(store, [-5, -3, 0], ["a", "b", "a"], 10) == [True, True, False]
    assert ask(store, [4, 7], ["a", "b"], 10) == [False, False]
    assert ask(store, [8], ["b"], 10) == [True]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs so small that a few ids are cut into chunks and merged many times."""
    for name, value in {"_TAIL": 3, "_MERGED": 2, "_LARGEST": 40, "_CHUNK": 4}.items():
        monkeypatch.setattr(runs, name, value)


@pytest.mark.usefixtures("small")
def test_many_small_batches_through_many_merges() -> None:
    rng = np.random.default_rng(3)
    for horizon in (30, 400, 10_000):
        store = MemoryStore()
        known = np.sort(rng.integers(0, 2_000, 1_500)).tolist()
        names = [f"id{i}" for i in rng.integers(0, 400, 1_500).tolist()]
        got: list[bool] = []
        cuts = [0, *np.sort(rng.choice(1_500, 200, replace=False)).tolist(), 1_500]
        for begin, end in pairwise(cuts):
            got += ask(store, known[begin:end], names[begin:end], horizon)
        assert got == by_hand(list(zip(known, names, strict=True)), horizon)
        with store.read() as txn:
            entries = sum(len(v) for k, v in txn.scan(IDS) if not k.endswith(b"\xff" * 4)) // 24
        assert entries <= 400 + 3 * sum(got[-200:])


def hashes_of(n: int, seed: int) -> runs.Hashes:
    return np.random.default_rng(seed).integers(0, 2**64, (n, 2), dtype=np.uint64)


def keep(store: Store, hashes: runs.Hashes, known_us: int, oldest_us: int = 0) -> runs.Runs:
    with store.write() as txn:
        found = runs.Runs(txn, b"pref")
        found.add(hashes, np.full(len(hashes), known_us), oldest_us)
    return found


def newest(store: Store, hashes: runs.Hashes) -> list[int]:
    with store.write() as txn:
        answers: list[int] = runs.Runs(txn, b"pref").latest(hashes).tolist()
    return answers


@pytest.mark.usefixtures("small")
@given(
    st.integers(0, 2**32),
    st.sampled_from([1, 7, 30]),
    st.sampled_from([2, 3]),
    st.sampled_from([20, 80]),
)
@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_was_divided_every_id_is_found(
    seed: int, size: int, merged: int, largest: int
) -> None:
    """With what is repeated, which is found as it was last, and none that was not given."""
    runs._MERGED, runs._LARGEST = merged, largest
    rng, store = np.random.default_rng(seed), MemoryStore()
    hashes, last = hashes_of(600, seed), np.full(600, runs.NEVER)
    known = set[bytes]()
    for at in range(1_800 // size):
        rows = np.unique(rng.integers(0, 600, size))
        found = keep(store, hashes[rows], at)
        last[rows] = at
        divided = {run.identity for run in found._runs if run.depth}
        assert len(divided - known) <= 1 + 8 * size // largest  # eighths a commit
        known = divided
    assert max(run.depth for run in found._runs) >= 2
    assert newest(store, hashes) == last.tolist()
    assert set(newest(store, hashes_of(600, seed + 1))) == {runs.NEVER}


@pytest.mark.usefixtures("small")
def test_a_hash_is_in_few_runs_however_many_there_are() -> None:
    store, rng = MemoryStore(), np.random.default_rng(1)
    runs._MERGED = 8
    for at in range(900):
        found = keep(store, rng.integers(0, 2**64, (40, 2), dtype=np.uint64), at)
    assert len(found._runs) > 500
    asked = np.linspace(0, 2**64 - 2**11, 999).astype(np.uint64)
    spans = np.array([(run.first, run.last) for run in found._runs], dtype=np.uint64)
    covers = (spans[:, :1] <= asked) & (asked <= spans[:, 1:])
    depths = 1 + max(run.depth for run in found._runs)
    assert depths == 4
    assert covers.sum(axis=0).max() <= 8 * depths + 8  # eight more that have been begun with


@pytest.fixture(params=["memory", "lmdb", "redis"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "memory":
        yield MemoryStore()
    elif request.param == "redis":
        yield (store := open_store(request.getfixturevalue("redis").url("ids_divided")))
        store.close()
    else:
        yield (store := open_store(f"lmdb:{tmp_path / 'store'}"))
        store.close()


@pytest.mark.usefixtures("small")
def test_what_was_divided_is_stored_once_and_old_ids_are_forgotten_there_too(
    any_store: Store,
) -> None:
    store = any_store
    hashes = hashes_of(4_000, 7)
    begun = 0
    for at in range(100):
        found = keep(store, hashes[40 * at : 40 * at + 40], at)
        parts = sum(run.first % 2 ** (64 - 3 * run.depth) > 0 for run in found._runs)
        n = 40 * (at + 1)
        assert n <= n_stored(store) <= n + 4 * parts  # of each that is begun with a chunk
        begun += parts
    assert begun > 10
    for at in range(100, 200):
        found = keep(store, hashes_of(40, at), at, oldest_us=at - 20)
    assert set(newest(store, hashes)) == {runs.NEVER}
    # Where all is too old the run goes; a newer entry keeps those beside it until it is divided.
    assert n_stored(store) <= 40 * 20 * 4


def n_stored(store: Store) -> int:
    with store.read() as txn:
        chunks = [value for key, value in txn.scan(IDS) if not key.endswith(b"\xff" * 4)]
    return sum(map(len, chunks)) // 24


@pytest.mark.usefixtures("small")
def test_of_runs_that_are_no_more_nothing_is_kept_in_memory() -> None:
    runs._cache.clear()
    runs._together.clear()
    store = MemoryStore()
    for at in range(300):
        rows = hashes_of(7, at)
        assert set(newest(store, rows)) == {runs.NEVER}
        found = keep(store, rows, at)
    assert {identity for _, identity in runs._cache} <= {run.identity for run in found._runs}
    assert len(runs._together) == 1


@pytest.mark.usefixtures("small")
def test_runs_of_the_first_version_are_read_and_divided() -> None:
    store = MemoryStore()
    hashes = hashes_of(400, 2)
    with patch.object(runs.Runs, "_divide"):
        for at in range(10):
            found = keep(store, hashes[40 * at : 40 * at + 40], at)
    rows = b"".join(run.identity for run in found._runs)
    with store.write() as txn:
        txn.put(META, b"runs/" + b"pref".hex().encode(), rows)
    wanted = [at // 40 for at in range(400)]
    assert newest(store, hashes) == wanted
    for at in range(40):
        found = keep(store, hashes_of(1, 100 + at), 10)
    assert max(run.depth for run in found._runs) > 0
    assert newest(store, hashes) == wanted


@pytest.mark.parametrize("end", [b"\0\0", b"\0\0\x02", b"\0\x15\x01", b"\xff\xff\x01"])
def test_runs_of_a_later_version_or_of_no_depth_there_is_are_not_guessed_at(end: bytes) -> None:
    store = MemoryStore()
    keep(store, hashes_of(3_000, 2), 1)
    with store.write() as txn:
        name = b"runs/" + b"pref".hex().encode()
        raw = txn.get(META, name) or b""
        assert raw.endswith(b"\0\0\x01")
        assert len(raw) % 32  # what a version before this one looks at
        txn.put(META, name, raw[:-3] + end)
    with pytest.raises(StoreError, match="table of event ids is damaged"):
        newest(store, hashes_of(1, 3))


@pytest.mark.usefixtures("small")
def test_a_rolled_back_run_is_not_remembered() -> None:
    """Its number is used again by another one, whose filter must not be taken for its."""
    store = MemoryStore()
    names = [f"id{i}" for i in range(40)]
    with suppress(KeyError), store.write() as txn:
        fresh(txn, "s", Texts.of(names), np.arange(40), 100)
        assert not fresh(txn, "s", Texts.of(names), np.arange(40, 80), 100).any()
        raise KeyError
    others = [f"other{i}" for i in range(40)]
    assert all(ask(store, list(range(40)), others, 100))
    assert all(ask(store, [40] * 40, names, 100))
    assert not any(ask(store, [41] * 80, names + others, 100))


def test_hashes_that_share_a_half_are_told_apart_and_lie_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runs, "_CHUNK", 4)
    monkeypatch.setattr(runs, "_TAIL", 1)
    store = MemoryStore()
    hashes = np.array([[i // 10, i] for i in range(60)], dtype=np.uint64)
    with store.write() as txn:
        found = runs.Runs(txn, b"pref")
        found.add(hashes[::2], np.arange(0, 60, 2), 0)
        latest = runs.Runs(txn, b"pref").latest(hashes)
    assert latest.tolist() == [i if i % 2 == 0 else runs.NEVER for i in range(60)]


def test_a_filter_misses_nothing_and_asks_seldom_in_vain() -> None:
    rng = np.random.default_rng(5)
    hashes = rng.integers(0, 1 << 63, (40_000, 2), dtype=np.uint64) * np.uint64(2)
    hashes += rng.integers(0, 2, hashes.shape, dtype=np.uint64)
    some = Index.of(hashes[:20_000], hashes[:1, 0])
    nothing = Index(np.zeros((3, 8), dtype=np.uint64), hashes[:0, 0])
    every = np.array([[0, 2**64 - 1]] * 3, dtype=np.uint64)
    held = dict(Filters.of([nothing, some, some], every).holders(hashes))
    assert sorted(held) == [1, 2]  # and there are more of them than hashes
    for rows in held.values():
        assert rows[:20_000].tolist() == list(range(20_000))
        assert len(rows) < 20_000 + 0.005 * 20_000


def test_the_cells_of_the_first_version_are_taken_over() -> None:
    store = MemoryStore()
    prefix = bytes.fromhex(digest(b"s", 4))
    names = Texts.of(["a", "b"])
    rows = np.zeros((2, 3), dtype="<u8")
    rows[:, 0], rows[:, 1:] = [5, 9], hash128(names)
    with store.write() as txn:
        txn.put(META, b"ids/" + prefix.hex().encode(), (10).to_bytes(8, "big"))
        for i in range(2):
            txn.put(IDS, prefix + i.to_bytes(8, "big"), rows[i].tobytes())
    assert ask(store, [15, 16, 16], ["a", "b", "c"], 10) == [False, False, True]
    assert ask(store, [16, 19], ["a", "b"], 10) == [True, False]
    with store.read() as txn:
        assert txn.get(META, b"ids/" + prefix.hex().encode()) is None


@pytest.mark.parametrize("n", [10, 3_000])
def test_damage_is_a_store_error(n: int) -> None:
    store = MemoryStore()
    names = [f"id{i}" for i in range(n)]
    ask(store, [1] * n, names, 10)
    with store.write() as txn:
        key, value = next(txn.scan(IDS))
        txn.put(IDS, key, value[:-1])
    with pytest.raises(StoreError, match="table of event ids is damaged"):
        ask(store, [2] * n, names, 10)
    with store.write() as txn:
        for key, _ in list(txn.scan(IDS)):
            txn.delete(IDS, key)
    runs._cache.clear()
    with pytest.raises(StoreError, match="table of event ids is damaged"):
        ask(store, [3] * n, names, 10)
    with store.write() as txn:
        name = b"runs/" + bytes.fromhex(digest(b"s", 4)).hex().encode()
        txn.put(META, name, (txn.get(META, name) or b"")[:-1])
    with pytest.raises(StoreError, match="table of event ids is damaged"):
        ask(store, [4] * n, names, 10)


def test_a_negative_horizon_is_refused() -> None:
    with pytest.raises(InputError, match="horizon of stream 's' is -1 us"):
        ask(MemoryStore(), [1], ["a"], -1)
