"""The checksum of a record is that of its words in whole numbers cut to 64 bits, wherever the compiler has put it."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sevenfold.stores.state_files import MEMORY, Part, place_of
from sevenfold.stores.state_records import BITS, HEAD, LOW, NO_SLOTS, SEALED, is_whole, mixed, seal
from sevenfold.stores.state_upkeep import lay_kept
from sevenfold.stores.state_view import new_table

WORDS = 1 << 64
K1, K2, K3, K4 = (
    11400714819323198485,
    13787848793156543929,
    10723151780598845931,
    15111065706836454659,
)
APART = 7046029254386353132
ADDRESS = 1 << 23
SOME = st.integers(-(1 << 63), (1 << 63) - 1)


def mixed_plainly(first: int, second: int, third: int) -> int:
    x = (first ^ (second * K1)) % WORDS
    x = ((x ^ (x >> 32)) * K2) % WORDS
    x = ((x ^ (third % WORDS)) * K3) % WORDS
    x = ((x ^ (x >> 29)) * K1) % WORDS
    return x ^ (x >> 32)


def sealed_plainly(record: list[int], address: int) -> int:
    folded = [word ^ (word >> 31) for word in record]
    total = address * K4 + folded[0] * K2 + (record[1] & LOW) * K3
    for i, word in enumerate(folded[2:]):
        total += word * (K1 + i * APART)
    return mixed_plainly(total, len(record), address) & ~LOW


def signed(word: int) -> int:
    word %= WORDS
    return word - WORDS if word >> 63 else word


@settings(deadline=None)
@given(st.lists(SOME, min_size=4, max_size=16), st.integers(0, 1 << 20))
def test_a_record_is_sealed_and_found_whole(given: list[int], place: int) -> None:
    key, value, address = given[:3], given[3:], ADDRESS + place
    record = [0, 8 * len(value) + 1, *key, *value]
    wanted = signed(sealed_plainly(record, address))
    words = np.array(record)
    assert seal(words, 0, len(words), address) == wanted
    words[1] |= wanted
    table = np.zeros(8, dtype=np.int64)
    table[BITS], table[SEALED] = 23, 1
    assert is_whole(words, table, 0, address)
    words[-1] ^= 1
    assert not is_whole(words, table, 0, address)


@settings(deadline=None)
@given(st.lists(SOME, min_size=3, max_size=12))
def test_values_are_laid_out_from_where_they_lie(given: list[int]) -> None:
    keys, values = np.array([given[:3]]), np.array(given[2:])
    part = Part.made(None, 0, 0, 4)
    table = np.concatenate([new_table(23, [part], sealed=True), np.zeros(2, dtype=np.int64)])
    out, bounds = np.zeros(20, dtype=np.int64), np.array([0, 1, 0, 20, ADDRESS])
    firsts, lengths = np.array([place_of(values)]), np.array([8 * len(values)])
    assert lay_kept(MEMORY, keys, firsts, lengths, NO_SLOTS, table, out, bounds) == 0
    record = [0, 8 * len(values) + 1, *given[:3], *given[2:]]
    record[1] |= signed(sealed_plainly(record, ADDRESS))
    assert bounds.tolist() == [1, 1, HEAD + len(values), 20, ADDRESS]
    assert out[: len(record)].tolist() == record


@settings(deadline=None)
@given(SOME, SOME, SOME)
def test_a_hash_is_that_of_whole_numbers(first: int, second: int, third: int) -> None:
    words = np.array([first, second, third])
    assert mixed(*words) == signed(mixed_plainly(first, second, third))
