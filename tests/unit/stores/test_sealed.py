"""A changed byte is found before it is used; what is not used is not read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.stores.sealed import PIECE, DamagedError, Held, Sealed, is_held, seal, seals


def bytes_of(content: bytes) -> np.ndarray:
    return np.frombuffer(content, dtype=np.uint8)


@given(st.binary(min_size=1, max_size=200), st.data())
def test_any_changed_bit_changes_the_seal(content: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(content) * 8 - 1))
    changed = bytearray(content)
    changed[at // 8] ^= 1 << (at % 8)
    assert seal(bytes_of(bytes(changed))) != seal(bytes_of(content))


def test_signs_swaps_and_zeros_change_the_seal() -> None:
    numbers = np.arange(1.0, 4_001.0)
    whole = seal(numbers.view(np.uint8))
    others = {
        "two signs": np.where(np.isin(numbers, (5, 9)), -numbers, numbers),
        "all signs": -numbers,
        "two words in one lane": numbers[[4, *range(1, 4), 0, *range(5, 4_000)]],
        "zeros": np.where(numbers > 2_000, 0.0, numbers),
        "rotated": np.roll(numbers, 4),
        "shorter": numbers[:-1],
        "longer by nothing": np.append(numbers, 0.0),
    }
    for name, other in others.items():
        assert seal(np.ascontiguousarray(other).view(np.uint8)) != whole, name


def test_the_seal_is_the_same_on_every_machine() -> None:
    assert f"{seal(bytes_of(b'sevenfold' * 11)):016x}" == "7c4633fc54c70133"


@pytest.fixture
def sealed(tmp_path: Path) -> Sealed:
    values = np.arange(3 * PIECE // 8 + 5, dtype=np.int64)
    values.tofile(tmp_path / "x")
    return Sealed(tmp_path, {"x": values.nbytes}, {"x": seals(tmp_path / "x")})


def spoil(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 16]))


def test_values_are_those_of_the_file(sealed: Sealed) -> None:
    n = 3 * PIECE // 8 + 5
    assert np.array_equal(sealed.whole("x", np.int64), np.arange(n))
    assert sealed.part("x", np.int64, slice(7, 9)).tolist() == [7, 8]
    assert sealed.part("x", np.int64, np.array([n - 1, 0, 0])).tolist() == [n - 1, 0, 0]
    assert len(sealed.part("x", np.int64, slice(5, 5))) == 0


def test_only_what_is_used_is_compared(sealed: Sealed, tmp_path: Path) -> None:
    spoil(tmp_path / "x", PIECE + 100)
    assert sealed.part("x", np.int64, slice(0, PIECE // 8)).tolist()[-1] == PIECE // 8 - 1
    far = np.array([0, 3 * PIECE // 8])
    assert sealed.part("x", np.int64, far).tolist() == far.tolist()
    for rows in (
        slice(PIECE // 8, PIECE // 8 + 1),
        slice(PIECE // 8 - 1, PIECE // 8 + 1),
        np.array([0, PIECE // 8 + 3]),
        np.arange(PIECE // 8 - 2, PIECE // 8 + 3),
    ):
        with pytest.raises(DamagedError, match="x has changed"):
            sealed.part("x", np.int64, rows)
    with pytest.raises(DamagedError):
        sealed.whole("x", np.int64)
    with pytest.raises(DamagedError):
        sealed.verify()


def test_ranges_across_pieces_are_compared(sealed: Sealed, tmp_path: Path) -> None:
    spoil(tmp_path / "x", PIECE + 100)
    begins = np.array([0, 3 * PIECE, 2 * PIECE])
    sealed.check_ranges("x", begins, begins + 8)
    with pytest.raises(DamagedError):
        sealed.check_ranges("x", np.array([0, PIECE - 8]), np.array([8, PIECE + 8]))


def test_all_is_compared_again_when_all_is_verified(sealed: Sealed, tmp_path: Path) -> None:
    sealed.verify()
    spoil(tmp_path / "x", 0)
    with pytest.raises(DamagedError):
        sealed.verify()


def test_a_file_that_is_gone_or_shorter_is_damaged(sealed: Sealed, tmp_path: Path) -> None:
    with (tmp_path / "x").open("r+b") as file:
        file.truncate(PIECE)
    with pytest.raises(DamagedError, match="x cannot be read"):
        sealed.part("x", np.int64, slice(PIECE // 8, PIECE // 8 + 2))
    (tmp_path / "x").unlink()
    with pytest.raises(DamagedError, match="x cannot be read"):
        sealed.part("x", np.int64, slice(0, 2))


def test_a_held_file_is_held_until_the_last_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert not is_held(path)
    path.write_bytes(b"")
    assert not is_held(path)
    first, second = Held(path), Held(path)
    first.let_go()
    assert is_held(path)
    del second
    assert not is_held(path)
