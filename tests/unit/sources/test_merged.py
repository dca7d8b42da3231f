"""Rows of several files are given in the order in which they became known, however the files are cut."""

from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.sources.merged import in_order
from sevenfold.sources.raw import Raw
from sevenfold.spec.entity import Entity
from sevenfold.spec.field import Id
from sevenfold.spec.stream import Stream
from sevenfold.types import Texts

KEY = Entity("key")
NAMES = ("a", "b", "c")
DELAYS = {"a": "0 s", "b": "0 s", "c": "3 s"}
STREAMS = {
    name: Stream(
        name, time="at", id="id", keys=[KEY], fields={"note": Id()}, delay=delay, timezone="UTC"
    )
    for name, delay in DELAYS.items()
}
SECOND_US = 1_000_000


def column(kind: str, values: list[Any]) -> Raw:
    """The values as a file of some kind gives them."""
    if kind == "texts":
        return Texts.of([None if value is None else str(value) for value in values])
    if kind == "array":
        return np.ma.masked_invalid([np.nan if value is None else float(value) for value in values])
    return values


@given(st.data())
def test_each_part_was_known_before_the_next_and_no_row_is_lost(data: st.DataObject) -> None:
    files, known, expected = {}, {}, []
    for name in NAMES:
        n = data.draw(st.integers(0, 12), label=name)
        seconds = sorted(data.draw(st.lists(st.integers(0, 6), min_size=n, max_size=n)))
        unreadable = data.draw(st.sets(st.integers(0, 11), max_size=2))
        cuts = sorted(data.draw(st.sets(st.integers(0, n), max_size=4)) | {0, n})
        at = [None if i in unreadable else second * SECOND_US for i, second in enumerate(seconds)]
        delay = 3 * SECOND_US if name == "c" else 0
        for i, us in enumerate(at):
            known[name, i] = None if us is None else us + delay
            expected.append((name, i))
        kind = data.draw(st.sampled_from(["list", "array"]))
        chunks = [
            {
                "at": column(kind, at[low:high]),
                "id": column("texts", list(range(low, high))),
                "key": ["k"] * (high - low),
            }
            for low, high in pairwise(cuts)
            if high > low
        ]
        files[name] = (STREAMS[name], iter(chunks))
    given_rows, before = [], -1
    for part in in_order(files):
        assert part
        here = []
        for name, rows in part.items():
            ids = rows["id"]
            assert isinstance(ids, Texts)
            assert len(ids)
            numbers = [int(text) for text in ids.to_list() if text is not None]
            assert [len(rows["at"]), len(rows["key"])] == [len(numbers)] * 2
            here += [(name, number) for number in numbers]
        told = [us for row in here if (us := known[row]) is not None]
        assert not told or min(told) > before
        before = max([before, *told])
        given_rows += here
    assert sorted(given_rows) == sorted(expected)
    for name in NAMES:
        of_one = [i for who, i in given_rows if who == name and known[who, i] is not None]
        assert of_one == sorted(of_one)


def test_a_file_is_read_only_as_far_as_is_needed() -> None:
    read = []

    def chunks(name: str, seconds: list[int]) -> Any:
        for second in seconds:
            read.append((name, second))
            yield {"at": [second * SECOND_US], "id": [f"{name}{second}"], "key": ["k"]}

    parts = in_order(
        {
            "a": (STREAMS["a"], chunks("a", [0, 1, 2])),
            "b": (STREAMS["b"], chunks("b", [50, 60, 70])),
        }
    )
    first = next(parts)
    assert first["a"]["id"] == ["a0"]
    assert ("b", 70) not in read
