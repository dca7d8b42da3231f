"""How deep a body is nested is told as a parser would."""

import json

from hypothesis import given
from hypothesis import strategies as st

from sevenfold.serving.depth import MAX_DEPTH, is_deeper

TEXTS = st.text(st.sampled_from('[]{}"\\ a\n\u00e9'), max_size=8)
VALUES = st.recursive(
    TEXTS | st.integers(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=30,
)


def depth(value: object) -> int:
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 0


@given(VALUES, st.integers(0, 6), st.booleans())
def test_it_is_the_depth_of_the_value(value: object, limit: int, ascii_only: bool) -> None:
    raw = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert is_deeper(raw, limit) == (depth(value) > limit)


def test_brackets_in_texts_do_not_count() -> None:
    assert not is_deeper(json.dumps(["[" * 10_000]).encode())
    assert is_deeper(b"[" * (MAX_DEPTH + 1))
    assert is_deeper(b'["]",' * (MAX_DEPTH + 1)), "nor do those that would take it back"
    assert not is_deeper(b"[" * MAX_DEPTH)


@given(st.binary(max_size=50))
def test_it_says_something_of_any_bytes(raw: bytes) -> None:
    assert is_deeper(raw, 2) in (True, False)
