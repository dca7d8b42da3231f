"""Histories while others read them, when files are damaged, and when the log is another one."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from sevenfold.errors import StoreError
from sevenfold.stores.block import encode_block, key_of
from sevenfold.stores.durable import locked
from sevenfold.stores.history import History, StreamHistory
from sevenfold.stores.kv import Store
from sevenfold.stores.lmdb import LmdbStore
from sevenfold.stores.log import (
    Departed,
    append,
    blocks,
    generation,
    note_departed,
    note_rewrite,
    read_stream,
)
from sevenfold.stores.memory import MemoryStore
from sevenfold.stores.sealed import DamagedError
from sevenfold.stores.segment import Segment, delete_segment, write_segment
from sevenfold.stores.tables import LOG
from sevenfold.types import EventBatch, Texts

KEY = ("customer",)
WANTED = {"sales": [KEY, ("customer", "item")]}
FILES = [
    "segment.json",
    "seals",
    "hashes",
    "starts",
    "known_us",
    "event_us",
    "key.customer.data",
    "key.customer.offsets",
    "key.customer.valid",
    "field.price",
    "field.vector",
    "field.note.data",
    "field.note.offsets",
    "field.note.valid",
]


def sales(begin: int, end: int, shift_us: int = 0) -> EventBatch:
    known = np.arange(begin, end, dtype=np.int64) * 10 + shift_us
    customers = [f"c{i % 7}" if i % 5 else None for i in range(begin, end)]
    return EventBatch(
        "sales",
        known - (known % 30),
        known,
        Texts.of([f"e{i}" for i in range(begin, end)]),
        {
            "customer": Texts.of(customers),
            "item": Texts.of([f"i{i % 3}" for i in range(begin, end)]),
        },
        {
            "price": np.where(known % 40 == 0, np.nan, known / 3),
            "note": Texts.of([None if i % 11 == 0 else "é" * (i % 4) for i in range(begin, end)]),
            "vector": np.stack([known / 7, -known / 9], axis=1),
        },
    )


def log(store: Store, begin: int, end: int, shift_us: int = 0) -> None:
    with store.write() as txn:
        append(txn, sales(begin, end, shift_us))


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "history", WANTED, segment_events=100, merge_events=40)


def rows(held: StreamHistory, entities: tuple[str, ...] = KEY) -> list[tuple[object, ...]]:
    """Every event that touches the key, all that is kept of it, in the order in which it became known."""
    segments, head = held.of(entities)
    parts = []
    for segment in segments:
        begins, ends = segment.find(segment.hashes)
        assert int((ends - begins).sum()) == len(segment)
        parts.append(segment.batch(slice(0, len(segment))))
    found: list[tuple[object, ...]] = []
    for part in [*parts, *([] if head is None else [head])]:
        notes = part.fields["note"]
        assert isinstance(notes, Texts)
        columns = [
            part.known_us.tolist(),
            part.event_us.tolist(),
            part.keys["customer"].to_list(),
            part.keys["item"].to_list(),
            map(repr, np.asarray(part.fields["price"]).tolist()),
            map(repr, np.asarray(part.fields["vector"]).tolist()),
            notes.to_list(),
        ]
        found += zip(*columns, strict=True)
    return sorted((row for row in found if row[2] is not None), key=lambda row: str(row[0]))


def of_log(store: Store) -> list[tuple[object, ...]]:
    """The same from the log itself."""
    with store.read() as txn:
        return rows(StreamHistory("sales", {KEY: ()}, {KEY: read_stream(txn, "sales")}))


def places(history: History, entities: str = "customer") -> list[Path]:
    return sorted((history.path / "sales" / entities).glob("0*"))


def spoil(path: Path) -> None:
    """Change one bit in the middle of a file."""
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 4
    path.write_bytes(raw)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["flipped", "cut", "gone", "emptied"])
def test_no_damage_gives_another_value(
    store: MemoryStore, history: History, name: str, damage: str
) -> None:
    log(store, 0, 400)
    history.extend(store, 50)
    path = places(history)[0] / name
    if damage == "flipped":
        spoil(path)
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "emptied":
        path.write_bytes(bytes(path.stat().st_size))
    else:
        path.unlink()
    expected = of_log(store)
    assert history.mending(lambda: rows(history.brought_up(store, 50)["sales"])) == expected
    # What was made again is whole.
    history.extend(store, 50)
    assert history.discard_damaged() == []
    with store.read() as txn:
        assert history.kept(txn).behind < 50


def test_only_what_was_damaged_is_made_again(store: MemoryStore, history: History) -> None:
    log(store, 0, 300)
    history.extend(store, 50)
    log(store, 300, 360)
    history.extend(store, 50)
    older, newer = places(history)
    kept = newer.stat().st_ino
    shutil.rmtree(older)
    with store.read() as txn:
        assert history.kept(txn).behind == 360
    assert rows(history.at(store)["sales"]) == of_log(store)
    assert history.step(store, 10_000)  # a gap is filled however few events the head may have
    assert newer.stat().st_ino == kept
    while history.step(store, 10_000):
        pass
    assert rows(history.at(store)["sales"]) == of_log(store)
    with store.read() as txn:
        assert history.kept(txn).behind == 0


def test_what_is_being_read_outlives_a_merge(store: MemoryStore, history: History) -> None:
    log(store, 0, 100)
    history.extend(store, 50)
    log(store, 100, 170)
    held = history.at(store)["sales"]
    (old,) = held.segments[KEY]
    history.extend(store, 50)
    assert [path.name for path in places(history)] == [
        f"{0:020d}-{100:020d}",
        f"{0:020d}-{170:020d}",
    ]
    assert rows(held)[0] == of_log(store)[0]
    assert rows(history.at(store)["sales"]) == of_log(store)
    old.verify()
    del held, old
    history.extend(store, 50)
    assert [path.name for path in places(history)] == [f"{0:020d}-{170:020d}"]


def test_what_is_void_goes_though_it_is_read_and_is_read_anew(
    store: MemoryStore, history: History
) -> None:
    log(store, 0, 200)
    history.extend(store, 50)
    held = history.at(store)["sales"]
    with store.write() as txn:
        note_rewrite(txn)
    with store.read() as txn:
        assert history.kept(txn).is_void
    assert history.step(store, 50)
    assert not places(history)
    with pytest.raises(DamagedError, match="cannot be read"):
        rows(held)
    tries = iter([lambda: rows(held), lambda: rows(history.brought_up(store)["sales"])])
    assert history.mending(lambda: next(tries)()) == of_log(store)


def leave(store: Store, before: int) -> None:
    """The events before one leave the log."""
    with store.write() as txn:
        for seq, batch in list(blocks(txn, "sales")):
            old = min(max(before - seq, 0), len(batch))
            if old:
                txn.delete(LOG, key_of(seq))
            if 0 < old < len(batch):
                block = encode_block(batch, old, len(batch), seq + old)
                txn.put(LOG, key_of(seq + old), block)
        note_departed(txn, "sales", Departed(before, before * 10))


def test_only_what_has_left_the_log_leaves_a_history(store: MemoryStore, history: History) -> None:
    log(store, 0, 200)
    log(store, 200, 500)
    history.extend(store, 50)
    merged = [path.name for path in places(history)]
    assert merged == [f"{0:020d}-{500:020d}"]
    log(store, 500, 600)
    history.step(store, 50)
    untouched = places(history)[1]
    was = untouched.stat().st_ino
    held = history.at(store)["sales"]
    before = rows(held)
    with store.read() as txn:
        name = generation(txn)
    leave(store, 131)
    with store.read() as txn:
        assert history.kept(txn).is_void
        assert generation(txn) == name
    assert rows(history.at(store)["sales"]) == of_log(store), "nothing that has left is read"
    assert history.step(store, 50)
    assert [path.name for path in places(history)] == [
        f"{0:020d}-{500:020d}",
        f"{131:020d}-{500:020d}",
        f"{500:020d}-{600:020d}",
    ]
    assert rows(held) == before, "who was reading reads on"
    del held
    history.extend(store, 50)
    assert untouched.stat().st_ino == was
    assert [path.name for path in places(history)] == [
        f"{131:020d}-{500:020d}",
        f"{500:020d}-{600:020d}",
    ]
    assert rows(history.at(store)["sales"]) == of_log(store)
    with store.read() as txn:
        assert not history.kept(txn).is_void
    for entities in WANTED["sales"]:
        segments, head = history.at(store)["sales"].of(entities)
        assert head is None
        assert min(int(one.batch(slice(0, len(one))).known_us.min()) for one in segments) == 1310


def test_what_lies_wholly_before_is_deleted_and_what_is_damaged_made_again(
    store: MemoryStore, history: History
) -> None:
    log(store, 0, 200)
    log(store, 200, 500)
    history.extend(store, 50)
    leave(store, 200)
    file = places(history)[0] / "known_us"
    file.write_bytes(bytes(file.stat().st_size))
    history.extend(store, 50)
    assert rows(history.at(store)["sales"]) == of_log(store)
    assert [path.name for path in places(history)] == [f"{200:020d}-{500:020d}"]
    leave(store, 500)
    history.extend(store, 50)
    assert not places(history)
    log(store, 500, 600)
    history.extend(store, 50)
    assert [path.name for path in places(history)] == [f"{500:020d}-{600:020d}"]
    assert rows(history.at(store)["sales"]) == of_log(store)


def test_histories_of_another_log_are_void(tmp_path: Path, history: History) -> None:
    first, second = MemoryStore(), MemoryStore()
    for store in (first, second):
        log(store, 0, 300)
    history.extend(first, 50)
    with second.read() as txn:
        assert history.kept(txn).is_void
    with second.write() as txn:
        append(txn, sales(300, 301))
    assert rows(history.at(second)["sales"]) == of_log(second)
    history.extend(second, 50)
    assert all(Segment.open(place).meta.origin.generation for place in places(history))
    assert rows(history.at(second)["sales"]) == of_log(second)


def test_a_log_that_was_brought_back_from_before_has_no_later_history(
    tmp_path: Path, history: History
) -> None:
    store = LmdbStore(tmp_path / "store", map_bytes=1 << 24)
    log(store, 0, 300)
    store.close()
    shutil.copytree(tmp_path / "store", tmp_path / "before")
    store = LmdbStore(tmp_path / "store", map_bytes=1 << 24)
    log(store, 300, 500)
    history.extend(store, 50)
    store.close()
    shutil.rmtree(tmp_path / "store")
    (tmp_path / "before").rename(tmp_path / "store")
    store = LmdbStore(tmp_path / "store", map_bytes=1 << 24)
    try:
        assert rows(history.at(store)["sales"]) == of_log(store)
        # It goes on with other events, as far as it had been before.
        log(store, 300, 500, shift_us=1)
        again = History(history.path, WANTED, segment_events=100)
        assert rows(again.at(store)["sales"]) == of_log(store)
        again.extend(store, 50)
        assert rows(again.at(store)["sales"]) == of_log(store)
    finally:
        store.close()


def test_a_log_has_a_name_of_its_own_that_changes_when_it_is_rewritten(tmp_path: Path) -> None:
    names = set()
    for store in (MemoryStore(), MemoryStore()):
        log(store, 0, 5)
        with store.write() as txn:
            names.add(generation(txn))
            note_rewrite(txn)
            names.add(generation(txn))
        log(store, 5, 9)
        with store.read() as txn:
            assert generation(txn) in names
    assert len(names) == 4


def test_each_event_is_written_a_few_times_only(
    store: MemoryStore, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred builds as events arrive: log to the base 1.5 of that many times at most, and few segments."""
    written = 0
    close = Segment.open.__func__  # type: ignore[attr-defined]
    seen: set[tuple[str, int]] = set()
    end = 0
    for _ in range(100):
        log(store, end, end + 25)
        end += 25
        history.extend(store, 25)
        for place in places(history):
            segment = close(Segment, place)
            if (place.name, place.stat().st_ino) not in seen:
                seen.add((place.name, place.stat().st_ino))
                written += segment.stop - segment.start
    assert len(places(history)) <= math.log2(100)
    assert written <= end * (1 + math.log(100, 1.5))
    assert rows(history.at(store)["sales"]) == of_log(store)


def test_a_long_log_is_sorted_before_it_is_merged(store: MemoryStore, history: History) -> None:
    log(store, 0, 3_000)
    steps = 0
    while history.step(store, 50):
        steps += 1
        assert len(places(history)) <= 33
    assert steps <= 30 + 2 * 3
    assert rows(history.at(store)["sales"]) == of_log(store)


def test_events_that_touch_no_key_and_streams_without_events(
    store: MemoryStore, tmp_path: Path
) -> None:
    nobody = sales(0, 200)
    none = Texts.of([None] * 200)
    with store.write() as txn:
        append(
            txn,
            EventBatch(
                "sales",
                nobody.event_us,
                nobody.known_us,
                nobody.event_ids,
                {"customer": none, "item": none},
                nobody.fields,
            ),
        )
    wanted = {"sales": [KEY], "clicks": [KEY]}
    history = History(tmp_path / "history", wanted, segment_events=100)
    history.extend(store, 50)
    assert history.at(store)["sales"].segments[KEY]
    assert "clicks" not in history.at(store)
    log(store, 200, 400)
    history.extend(store, 50)
    assert rows(history.at(store)["sales"]) == of_log(store)
    with store.read() as txn:
        assert history.kept(txn).behind == 0  # a stream without events does not hold it back


def test_histories_by_other_keys_go_when_it_is_alone(store: MemoryStore, tmp_path: Path) -> None:
    log(store, 0, 200)
    History(tmp_path, WANTED).extend(store, 50)
    fewer = {"sales": [("customer", "item")]}
    History(tmp_path, fewer).extend(store, 50)
    assert (tmp_path / "sales" / "customer").is_dir()
    History(tmp_path, fewer, alone=True).extend(store, 50)
    assert not (tmp_path / "sales" / "customer").exists()
    assert (tmp_path / "sales" / "customer+item").is_dir()


def test_histories_by_other_keys_go_when_they_are_void(store: MemoryStore, tmp_path: Path) -> None:
    log(store, 0, 200)
    History(tmp_path, WANTED).extend(store, 50)
    with store.write() as txn:
        note_rewrite(txn)
    History(tmp_path, {"sales": [("customer", "item")]}).extend(store, 50)
    assert not list((tmp_path / "sales" / "customer").iterdir())


def test_what_was_half_written_or_half_deleted_goes(store: MemoryStore, history: History) -> None:
    log(store, 0, 200)
    history.extend(store, 50)
    folder = places(history)[0].parent
    for name in (f".{200:020d}-{300:020d}.part", f".{0:020d}-{100:020d}.void"):
        (folder / name).mkdir()
        (folder / name / "starts").write_bytes(b"1234")
    history.extend(store, 50)
    assert [path.name for path in folder.iterdir()] == [path.name for path in places(history)]


def test_a_writer_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = sales(0, 20)
    broken = EventBatch(
        batch.stream,
        batch.event_us,
        batch.known_us,
        batch.event_ids,
        batch.keys,
        {"price": "no"},  # type: ignore[dict-item]
    )
    with pytest.raises(TypeError):
        write_segment(tmp_path / "k" / f"{0:020d}-{20:020d}", "sales", KEY, broken)
    assert not list((tmp_path / "k").iterdir())


def test_a_reader_does_not_wait_for_one_at_work_while_the_head_is_bearable(
    store: MemoryStore, history: History
) -> None:
    log(store, 0, 200)
    history.path.mkdir()
    with locked(history.path / "lock"):
        assert rows(history.brought_up(store, 50)["sales"]) == of_log(store)
    assert not places(history)
    assert rows(history.brought_up(store, 50)["sales"]) == of_log(store)
    assert places(history)


def test_a_segment_in_anothers_place_is_damaged(store: MemoryStore, history: History) -> None:
    log(store, 0, 100)
    history.extend(store, 50)
    (place,) = places(history)
    place.rename(place.with_name(f"{0:020d}-{90:020d}"))
    with pytest.raises(StoreError, match="positions 0 to 100"):
        Segment.open(place.with_name(f"{0:020d}-{90:020d}"))


def test_a_held_segment_is_deleted_by_force_only(store: MemoryStore, history: History) -> None:
    log(store, 0, 100)
    history.extend(store, 50)
    (place,) = places(history)
    segment = Segment.open(place)
    assert not delete_segment(place)
    assert place.is_dir()
    assert delete_segment(place, force=True)
    assert not place.exists()
    del segment
