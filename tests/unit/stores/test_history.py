"""A history holds what the log holds, by key: built in pieces, merged, repaired, made again."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sevenfold.errors import StoreError
from sevenfold.hashing import hash128
from sevenfold.stores.block import key_of
from sevenfold.stores.compact import compact
from sevenfold.stores.history import HISTORY, History, StreamHistory
from sevenfold.stores.lmdb import LmdbStore
from sevenfold.stores.log import append, note_rewrite, read_stream
from sevenfold.stores.memory import MemoryStore
from sevenfold.stores.segment import Segment, write_segment
from sevenfold.stores.tables import LOG
from sevenfold.types import EventBatch, Texts

WANTED = {"sales": [("customer",), ("customer", "item")]}


def events(begin: int, end: int, stream: str = "sales") -> EventBatch:
    known = np.arange(begin, end, dtype=np.int64) * 10
    n = len(known)
    customers = [f"c{i % 7}" if i % 5 else None for i in range(begin, end)]
    return EventBatch(
        stream,
        known - (known % 30),
        known,
        Texts.of([f"e{i}" for i in range(begin, end)]),
        {"customer": Texts.of(customers), "item": Texts.of([f"i{i % 3}" for i in range(n)])},
        {
            "price": np.where(known % 40 == 0, np.nan, known / 3),
            "note": Texts.of(["é" * (i % 4) for i in range(n)]),
        },
    )


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def log_more(store: MemoryStore, begin: int, end: int) -> None:
    with store.write() as txn:
        append(txn, events(begin, end))


def extended(store: MemoryStore, folder: Path, head_events: int = 50) -> StreamHistory:
    history = History(folder, WANTED, segment_events=100)
    history.extend(store, head_events)
    return history.at(store)["sales"]


def held(history: StreamHistory, entities: tuple[str, ...]) -> set[tuple[object, ...]]:
    """Every event in segments and head, as (known, event, customer, item, price, note)."""
    segments, head = history.of(entities)
    parts = [segment.batch(slice(0, len(segment))) for segment in segments]
    found: list[tuple[object, ...]] = []
    for part in [*parts, *([] if head is None else [head])]:
        columns = [
            part.known_us.tolist(),
            part.event_us.tolist(),
            *(part.keys[name].to_list() for name in ("customer", "item")),
        ]
        prices, notes = part.fields["price"], part.fields["note"]
        assert isinstance(notes, Texts)
        assert not isinstance(prices, Texts)
        found += zip(*columns, map(repr, prices.tolist()), notes.to_list(), strict=True)
    assert len(found) == len(set(found)), "an event is held twice"
    return {row for row in found if row[2] is not None}


def expected(end: int) -> set[tuple[object, ...]]:
    whole = StreamHistory("sales", {("customer",): ()}, {("customer",): events(0, end)})
    return held(whole, ("customer",))


def test_all_events_are_held_once_while_the_log_grows(store: MemoryStore, tmp_path: Path) -> None:
    end = 0
    for more in (30, 90, 400, 10, 260):
        log_more(store, end, end + more)
        end += more
        history = extended(store, tmp_path)
        for entities in WANTED["sales"]:
            # Batches begin their items anew, so compare with what the log was given.
            assert len(held(history, entities)) == len(expected(end))
            segments, head = history.of(entities)
            assert head is None or len(head) < 50 + 1
            stops = [0, *(segment.stop for segment in segments)]
            assert [segment.start for segment in segments] == stops[:-1]


def test_segments_of_like_size_are_merged(store: MemoryStore, tmp_path: Path) -> None:
    log_more(store, 0, 3_000)
    segments, _ = extended(store, tmp_path).of(("customer",))
    assert len(segments) <= 6
    sizes = [len(segment) for segment in segments]
    assert all(older >= 2 * newer for older, newer in itertools.pairwise(sizes))


def test_a_key_reads_in_log_order(store: MemoryStore, tmp_path: Path) -> None:
    log_more(store, 0, 700)
    (segment, *_), _ = extended(store, tmp_path).of(("customer",))
    wanted = hash128(Texts.of(["c3"]))
    begins, ends = segment.find(wanted)
    batch = segment.batch(slice(int(begins[0]), int(ends[0])))
    assert set(batch.keys["customer"].to_list()) == {"c3"}
    assert (np.diff(batch.known_us) > 0).all()
    assert len(batch) == sum(1 for i in range(segment.stop) if i % 7 == 3 and i % 5)


def test_an_unknown_key_has_no_rows(store: MemoryStore, tmp_path: Path) -> None:
    log_more(store, 0, 700)
    (segment, *_), _ = extended(store, tmp_path).of(("customer",))
    wanted = hash128(Texts.of(["nobody", None]))
    begins, ends = segment.find(wanted[np.lexsort((wanted[:, 1], wanted[:, 0]))])
    assert (begins == ends).all()


@pytest.mark.parametrize("damage", ["cut", "gone", "garbled"])
def test_a_damaged_segment_is_made_again(store: MemoryStore, tmp_path: Path, damage: str) -> None:
    log_more(store, 0, 700)
    before = held(extended(store, tmp_path), ("customer",))
    place = next(iter((tmp_path / "sales" / "customer").glob("0*")))
    if damage == "cut":
        (place / "known_us").write_bytes((place / "known_us").read_bytes()[:-8])
    elif damage == "gone":
        (place / "starts").unlink()
    else:
        (place / "segment.json").write_text("{")
    assert held(extended(store, tmp_path), ("customer",)) == before


def test_a_reader_does_not_see_a_damaged_segment(store: MemoryStore, tmp_path: Path) -> None:
    log_more(store, 0, 700)
    before = held(extended(store, tmp_path), ("customer",))
    place = next(iter((tmp_path / "sales" / "customer").glob("0*")))
    (place / "known_us").unlink()
    found = History(tmp_path, WANTED).at(store)["sales"]
    assert held(found, ("customer",)) == before


def test_a_changed_byte_is_found_by_reading_all(tmp_path: Path) -> None:
    segment = write_segment(tmp_path / f"{0:020d}-{9:020d}", "sales", ("customer",), events(0, 9))
    segment.verify()
    raw = bytearray((segment.path / "field.price").read_bytes())
    raw[3] ^= 1
    (segment.path / "field.price").write_bytes(raw)
    with pytest.raises(StoreError, match=r"damaged: field\.price has changed"):
        Segment.open(segment.path).verify()


def test_what_was_half_written_is_not_taken(store: MemoryStore, tmp_path: Path) -> None:
    log_more(store, 0, 700)
    before = held(extended(store, tmp_path), ("customer",))
    folder = tmp_path / "sales" / "customer"
    half = folder / f".{700:020d}-{800:020d}.part"
    half.mkdir()
    (half / "starts").write_bytes(b"1234")
    assert held(extended(store, tmp_path), ("customer",)) == before


def test_dropped_segments_are_gone_and_come_back(store: MemoryStore, tmp_path: Path) -> None:
    log_more(store, 0, 700)
    before = held(extended(store, tmp_path), ("customer",))
    History(tmp_path, WANTED).drop()
    assert not list(tmp_path.glob("sales"))
    assert held(extended(store, tmp_path), ("customer",)) == before


def test_a_log_that_was_rewritten_has_no_old_segments(store: MemoryStore, tmp_path: Path) -> None:
    log_more(store, 0, 300)
    log_more(store, 300, 700)
    extended(store, tmp_path)
    with store.write() as txn:
        for key, _ in txn.scan(LOG, b"", key_of(300)):
            txn.delete(LOG, key)
        note_rewrite(txn)
    with store.read() as txn:
        left = read_stream(txn, "sales")
        assert left is not None
        whole = StreamHistory("sales", {("customer",): ()}, {("customer",): left})
    stale = History(tmp_path, WANTED).at(store)["sales"]
    assert held(stale, ("customer",)) == held(whole, ("customer",))
    assert held(extended(store, tmp_path), ("customer",)) == held(whole, ("customer",))


def test_a_field_that_came_later_is_null_before(store: MemoryStore, tmp_path: Path) -> None:
    early, late = events(0, 300), events(300, 700)
    fewer = {"note": early.fields["note"]}
    with store.write() as txn:
        append(txn, replace(early, fields=fewer))
    extended(store, tmp_path)
    with store.write() as txn:
        append(txn, late)
    segments, _ = extended(store, tmp_path).of(("customer",))
    prices = np.concatenate(
        [np.asarray(s.batch(slice(0, len(s))).fields["price"]) for s in segments]
    )
    known = np.concatenate([s.batch(slice(0, len(s))).known_us for s in segments])
    assert np.isnan(prices[known < 3_000]).all()
    assert not np.isnan(prices[known >= 3_000]).all()


def test_a_key_that_is_not_kept_is_refused(store: MemoryStore, tmp_path: Path) -> None:
    log_more(store, 0, 10)
    with pytest.raises(
        StoreError, match=r"not kept by item; it is kept by customer, customer\+item"
    ):
        extended(store, tmp_path).of(("item",))


def test_streams_without_events_are_left_out(store: MemoryStore, tmp_path: Path) -> None:
    assert History(tmp_path, WANTED).at(store) == {}


def test_a_store_written_anew_leaves_no_history_of_what_it_held(tmp_path: Path) -> None:
    store = LmdbStore(tmp_path / "store", map_bytes=1 << 24)
    with store.write() as txn:
        append(txn, events(0, 300))
    History(tmp_path / HISTORY, WANTED).extend(store, 50)
    store.close()
    assert list((tmp_path / HISTORY).rglob("known_us"))
    compact(tmp_path / "store")
    assert not (tmp_path / HISTORY).exists()


def test_a_segment_of_no_events_knows_how_wide_its_vectors_are(tmp_path: Path) -> None:
    batch = replace(events(0, 4), fields={"look": np.ones((4, 3))})
    kept = write_segment(tmp_path / "0-4", "sales", ("item",), batch.take(np.arange(0)))
    assert kept.batch(slice(0, 0)).fields["look"].shape == (0, 3)
