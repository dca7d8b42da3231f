"""Dead letters come back as they were, counted by reason."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.errors import StoreError
from sevenfold.stores.dead_letters import bury, count_by_reason, exhume
from sevenfold.stores.memory import MemoryStore
from sevenfold.stores.tables import DEAD
from sevenfold.types import DeadLetter

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def letter(reason: str, row: dict[str, Any]) -> DeadLetter:
    return DeadLetter("sales", reason, f"the row is refused: {reason}.", row)


def test_letters_are_counted_and_come_back_newest_first() -> None:
    store = MemoryStore()
    letters = [letter("infinite", {"i": i}) for i in range(3)] + [
        letter("missing_customer", {"i": 3})
    ]
    with store.write() as txn:
        bury(txn, letters[:2])
        bury(txn, letters[2:])
        bury(txn, [])
    with store.read() as txn:
        assert count_by_reason(txn) == {"infinite": 3, "missing_customer": 1}
        assert exhume(txn, 100) == letters[::-1]
        assert exhume(txn, 2) == [letters[3], letters[2]]
        assert exhume(txn, 1, "infinite") == [letters[2]]
        assert exhume(txn, 0) == []


@given(st.dictionaries(st.text(), ANY, max_size=4))
def test_any_row_can_be_kept(row: dict[str, Any]) -> None:
    store = MemoryStore()
    with store.write() as txn:
        bury(txn, [letter("strange", row)])
        assert len(exhume(txn, 1)[0].row) == len(row)


def test_what_cannot_be_kept_as_it_is_keeps_its_spelling() -> None:
    store = MemoryStore()
    deep: list[Any] = []
    for _ in range(200):
        deep = [deep]
    row = {
        "big": 1 << 70,
        "huge": 1 << 99_999,
        "lone": "a\ud800",
        "type": int,
        "inf": math.inf,
        "deep": deep,
    }
    with store.write() as txn:
        bury(txn, [letter("strange", row)])
        kept = exhume(txn, 1)[0].row
    assert kept["big"] == str(1 << 70)
    assert kept["huge"].startswith("0x8000")
    assert kept["lone"] == "a\\ud800"
    assert kept["type"] == "<class 'int'>"
    assert kept["inf"] == math.inf


def test_a_damaged_letter_is_a_store_error() -> None:
    store = MemoryStore()
    with store.write() as txn:
        txn.put(DEAD, bytes(8), b"\xc1")
        with pytest.raises(StoreError, match="dead letter 0000000000000000 is damaged"):
            exhume(txn, 1)
