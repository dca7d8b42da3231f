"""An answer as it is kept: read back as it was, those of earlier stores too, and never read wrong."""

import zlib
from contextlib import suppress

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.errors import StoreError
from sevenfold.serving.prediction_log import Prediction, decode_prediction, encode_prediction

ANSWER = Prediction(
    request_id="r1",
    t_us=1_700_000_000_000_000,
    keys={"customer": "ada"},
    model="trees",
    version=3,
    rung="full",
    k=2,
    features="abc",
    generators=["popular"],
    items=[f"item-{n}" for n in range(40)],
    sources=bytes(160),
    candidate_scores=bytes(160),
    shown=bytes(8),
    scores=bytes(16),
    logged=bytes(8),
    vectors=bytes(range(256)),
    sample_weight=1.5,
)


def test_it_is_read_back_as_it_was_and_is_smaller() -> None:
    raw = encode_prediction(ANSWER)
    assert decode_prediction(raw, "r1") == ANSWER
    assert len(raw) < len(msgspec.msgpack.encode(ANSWER))


def test_an_answer_of_an_earlier_store_is_read() -> None:
    raw = zlib.compress(msgspec.msgpack.encode(ANSWER), 1)
    assert decode_prediction(raw, "r1") == ANSWER


@given(st.data())
def test_one_that_is_damaged_is_refused_or_read_as_it_was(data: st.DataObject) -> None:
    raw = bytearray(encode_prediction(ANSWER))
    if data.draw(st.booleans()):
        del raw[data.draw(st.integers(0, len(raw) - 1)) :]
    else:
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    with suppress(StoreError):
        assert decode_prediction(bytes(raw), "r1") == ANSWER


@pytest.mark.parametrize("raw", [b"", b"\x04", b"\x04\x22\x4d\x18", b"x" * 50])
def test_what_is_no_answer_is_refused(raw: bytes) -> None:
    with pytest.raises(StoreError, match="cannot be read"):
        decode_prediction(raw, "r1")
