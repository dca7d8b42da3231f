import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.hashing import canonical_json, combine128, digest, hash128, key_bytes, siphash128
from sevenfold.types import Texts

# The first vectors of the reference implementation of SipHash-2-4 with 128 bits: the input is 00 01 02 ...
VECTORS = {
    0: "a3817f04ba25a8e66df67214c7550293",
    1: "da87c1d86b99af44347659119b22fc45",
    2: "8177228da4a45dc7fca38bdef60affe4",
    3: "9c70b60c5267a94e5f33b6b02985ed51",
}


@pytest.mark.parametrize("n", VECTORS)
def test_siphash_is_that_of_its_authors(n) -> None:
    low, high = siphash128(bytes(range(n)))
    assert (low.to_bytes(8, "little") + high.to_bytes(8, "little")).hex() == VECTORS[n]


@given(st.lists(st.none() | st.text(max_size=20), max_size=6))
def test_a_column_hashes_as_its_strings_and_null_as_nought(values) -> None:
    hashes = [tuple(map(int, row)) for row in hash128(Texts.of(values))]
    expected = [(0, 0) if v is None else siphash128(v.encode()) for v in values]
    assert hashes == expected


def test_composite_keys_know_which_part_is_which() -> None:
    a, b = hash128(Texts.of(["a", "b", None])), hash128(Texts.of(["b", "a", "a"]))
    both, swapped = combine128([a, b]), combine128([b, a])
    assert not (both[:2] == swapped[:2]).all(axis=1).any()
    assert both[0].tolist() == swapped[1].tolist()
    assert both[2].tolist() == [0, 0]
    assert combine128([a]) is a


@given(st.lists(st.sampled_from(["a", "b", "", "\u00e9", None]), min_size=2, max_size=5))
def test_a_composite_key_is_the_hash_of_its_parts_side_by_side(names: list[str | None]) -> None:
    parts = [hash128(Texts.of([name])) for name in names]
    expected = siphash128(b"".join(part.tobytes() for part in parts))
    if None in names:
        expected = (0, 0)
    assert tuple(map(int, combine128(parts)[0])) == expected


def test_one_key_is_combined_with_each_of_many() -> None:
    one, many = hash128(Texts.of(["a"])), hash128(Texts.of(["x", "y"]))
    repeated = hash128(Texts.of(["a", "a"]))
    assert np.array_equal(combine128([one, many]), combine128([repeated, many]))


def test_keys_of_a_store_are_the_prefix_and_sixteen_bytes() -> None:
    hashes = hash128(Texts.of(["a", "b"]))
    keys = key_bytes(hashes, b"view")
    assert [len(key) for key in keys] == [20, 20]
    assert keys[0] == b"view" + hashes[0].tobytes()


def test_json_does_not_depend_on_the_order_of_keys() -> None:
    assert canonical_json({"b": [1], "a": "é"}) == canonical_json({"a": "é", "b": [1]})
    assert canonical_json({"a": "é"}) == '{"a":"é"}'.encode()
    numbers = {"cap": np.int64(3), "share": np.float32(0.5)}
    assert canonical_json(numbers) == canonical_json({"cap": 3, "share": 0.5})
    with pytest.raises(TypeError, match="object is no value of JSON"):
        canonical_json(object())


def test_hashes_do_not_depend_on_the_process() -> None:
    program = "from sevenfold.hashing import *; print(digest(b'tea'), siphash128(b'tea'))"
    expected = f"{digest(b'tea')} {siphash128(b'tea')}\n"
    for seed in ("0", "1"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == expected
