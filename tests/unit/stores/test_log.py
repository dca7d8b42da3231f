"""The log keeps every event, in order, and knows when a block is damaged."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.errors import StoreError
from sevenfold.stores import log
from sevenfold.stores.block import MAX_EVENTS, decode_block, encode_block, key_of
from sevenfold.stores.memory import MemoryStore
from sevenfold.stores.tables import LOG
from sevenfold.types import EventBatch, Texts


def events(known_us: list[int], ids: list[str] | None = None, stream: str = "sales") -> EventBatch:
    n = len(known_us)
    known = np.asarray(known_us, dtype=np.int64)
    numbers = np.arange(n, dtype=np.float64)
    numbers[::3] = np.nan
    return EventBatch(
        stream,
        known - 5,
        known,
        Texts.of(ids if ids is not None else [f"e{i}" for i in range(n)]),
        {"customer": Texts.of([f"kunde-{i % 7}-é" if i % 4 else None for i in range(n)])},
        {
            "quantity": numbers,
            "note": Texts.of([None if i % 2 else "tea ☕" * (i % 5) for i in range(n)]),
        },
    )


def rows(batch: EventBatch) -> list[tuple[object, ...]]:
    fields = [
        column.to_list() if isinstance(column, Texts) else [repr(x) for x in column.tolist()]
        for _, column in sorted(batch.fields.items())
    ]
    keys = [column.to_list() for _, column in sorted(batch.keys.items())]
    columns = [batch.event_us.tolist(), batch.known_us.tolist(), batch.event_ids.to_list()]
    return list(zip(*columns, *keys, *fields, strict=True))


def test_what_is_appended_is_read_back_in_order() -> None:
    store = MemoryStore()
    first, second = events([10, 11, 12]), events([13, 13, 20], ["a", "b", "c"], "clicks")
    with store.write() as txn:
        assert log.position(txn) == 0
        assert log.append(txn, first) == 3
        assert log.append(txn, second) == 6
        assert log.append(txn, events([])) == 6
        assert log.last_known_us(txn) == 20
    with store.read() as txn:
        found = list(log.blocks(txn))
        assert [(seq, batch.stream) for seq, batch in found] == [(0, "sales"), (3, "clicks")]
        assert rows(found[0][1]) == rows(first)
        assert rows(found[1][1]) == rows(second)
        clicks = log.read_stream(txn, "clicks")
        assert clicks is not None
        assert rows(clicks) == rows(second)
        assert log.read_stream(txn, "none") is None


def test_a_large_batch_becomes_blocks_and_any_part_can_be_read() -> None:
    n = 2 * MAX_EVENTS + 100
    batch = events(list(range(n)))
    expected = rows(batch)
    store = MemoryStore()
    with store.write() as txn:
        assert log.append(txn, batch) == n
        assert txn.count(LOG) == 3
        for start, stop in [
            (0, None),
            (5, 9),
            (MAX_EVENTS, MAX_EVENTS + 1),
            (n - 1, None),
            (n, None),
        ]:
            parts = list(log.blocks(txn, start=start, stop=stop))
            got = [row for _, part in parts for row in rows(part)]
            assert got == expected[start:stop]
            assert not parts or parts[0][0] == start
        assert list(log.blocks(txn, start=7, stop=7)) == []


def test_an_empty_log_has_no_last_event() -> None:
    with MemoryStore().read() as txn:
        assert log.position(txn) == 0
        assert log.last_known_us(txn) == log.frontier_us(txn) == -(1 << 62)
        assert list(log.blocks(txn)) == []


def test_nothing_becomes_known_before_a_read() -> None:
    store = MemoryStore()
    with store.write() as txn:
        log.append(txn, events([10]))
        assert log.floor_us(txn) == 11
        log.raise_frontier(txn, 50)
        log.raise_frontier(txn, 40)
        assert (log.frontier_us(txn), log.floor_us(txn)) == (50, 50)
        with pytest.raises(StoreError, match="begin at 50 or later, it begins at 49"):
            log.append(txn, events([49]))
        with pytest.raises(StoreError, match="not in log order"):
            log.append(txn, events([60, 59]))
        arranged = log.arrange(events([7, 60, 49], ["c", "b", "a"]), log.floor_us(txn))
        assert arranged.known_us.tolist() == [50, 50, 60]
        assert arranged.event_ids.to_list() == ["a", "c", "b"]
        assert log.append(txn, arranged) == 4


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.text("abé☕", max_size=20)
            | st.from_regex(r"row-0000000[0-9]{1,12}", fullmatch=True),
        ),
        max_size=40,
    )
)
def test_arranging_is_sorting_by_known_and_the_bytes_of_the_id(
    pairs: list[tuple[int, str]],
) -> None:
    batch = events([known for known, _ in pairs], [text for _, text in pairs])
    arranged = log.arrange(batch, -9)
    expected = sorted(pairs, key=lambda pair: (pair[0], pair[1].encode()))
    got = list(zip(arranged.known_us.tolist(), arranged.event_ids.to_list(), strict=True))
    assert got == expected
    assert sorted(map(repr, rows(arranged))) == sorted(map(repr, rows(batch)))


def test_every_truncation_is_found() -> None:
    block = encode_block(events(list(range(12))), 0, 12, 7)
    for size in range(len(block)):
        with pytest.raises(StoreError, match="position 7"):
            decode_block(block[:size], 7)


def test_every_flipped_byte_is_found() -> None:
    rng = np.random.default_rng(3)
    block = encode_block(events(list(range(12))), 0, 12, 7)
    for at in range(len(block)):
        damaged = bytearray(block)
        damaged[at] ^= int(rng.integers(1, 256))
        with pytest.raises(StoreError, match="position 7"):
            decode_block(bytes(damaged), 7)
        with pytest.raises(StoreError, match="position 7"):
            decode_block(bytes(damaged), 7, stream="another")


@given(st.binary(max_size=60))
def test_bytes_that_are_no_block_are_found(noise: bytes) -> None:
    with pytest.raises(StoreError, match="position 7"):
        decode_block(b"\x01" + noise, 7)


def test_a_block_under_the_key_of_another_is_found() -> None:
    block = encode_block(events([1, 2]), 0, 2, 7)
    assert decode_block(block, 7) is not None
    with pytest.raises(StoreError, match="position 8"):
        decode_block(block, 8)


def test_a_damaged_block_is_named_when_the_log_is_read() -> None:
    store = MemoryStore()
    with store.write() as txn:
        log.append(txn, events([1, 2]))
        log.append(txn, events([3]))
        good = txn.get(LOG, key_of(2))
        assert good is not None
        txn.put(LOG, key_of(2), good[:-1] + b"\0\0")
    with store.read() as txn:
        reading = log.blocks(txn)
        assert next(reading)[0] == 0
        with pytest.raises(StoreError, match="block at position 2 of the log is damaged"):
            next(reading)
