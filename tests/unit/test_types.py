import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.errors import InputError
from sevenfold.types import EventBatch, Texts

COLUMNS = st.lists(st.none() | st.text(max_size=5), max_size=8)


def batch(n: int, stream: str = "s", start: int = 0) -> EventBatch:
    us = np.arange(start, start + n, dtype=np.int64)
    ids = Texts.of([f"e{i}" for i in us])
    names = Texts.of([None if i % 2 else f"u{i}" for i in us])
    return EventBatch(stream, us, us + 1, ids, {"user": names}, {"x": us / 2, "tag": ids})


@given(COLUMNS)
def test_texts_are_what_they_were(values) -> None:
    column = Texts.of(values)
    assert column.to_list() == list(column) == values
    assert len(column) == len(values)


@given(COLUMNS, st.data())
def test_taking_texts_is_taking_strings(values, data) -> None:
    places = st.lists(st.integers(0, len(values) - 1)) if values else st.just([])
    index = np.array(data.draw(places), dtype=np.int64)
    assert Texts.of(values).take(index).to_list() == [values[i] for i in index]
    mask = np.array([value is not None for value in values], dtype=np.bool_)
    assert Texts.of(values).take(mask).to_list() == [v for v in values if v is not None]


@given(st.lists(COLUMNS, max_size=4))
def test_texts_put_together_are_lists_put_together(parts) -> None:
    joined = Texts.concat([Texts.of(part) for part in parts])
    assert joined.to_list() == [value for part in parts for value in part]


def test_a_null_is_not_an_empty_string() -> None:
    assert Texts.of(["", None]).valid.tolist() == [True, False]


def test_events_are_taken_with_all_their_columns() -> None:
    taken = batch(4).take(np.array([3, 0]))
    assert taken.event_us.tolist() == [3, 0]
    assert taken.known_us.tolist() == [4, 1]
    assert taken.event_ids.to_list() == ["e3", "e0"]
    assert taken.keys["user"].to_list() == [None, "u0"]
    assert taken.fields["x"].tolist() == [1.5, 0.0]
    assert len(batch(4).take(np.zeros(4, dtype=np.bool_))) == 0


def test_batches_put_together_are_one() -> None:
    joined, whole = EventBatch.concat([batch(2), batch(0), batch(3, start=2)]), batch(5)
    assert joined.event_us.tolist() == whole.event_us.tolist()
    assert joined.event_ids.to_list() == whole.event_ids.to_list()
    assert joined.keys["user"].to_list() == whole.keys["user"].to_list()
    assert joined.fields["x"].tolist() == whole.fields["x"].tolist()
    assert joined.fields["tag"].to_list() == whole.fields["tag"].to_list()


def test_batches_of_two_streams_are_refused() -> None:
    with pytest.raises(InputError, match="'s' and 'other'"):
        EventBatch.concat([batch(1), batch(1, "other")])
    with pytest.raises(InputError, match="at least one"):
        EventBatch.concat([])
