"""Files come in chunks of typed columns, in the order of the file or of a column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from sevenfold.errors import InputError
from sevenfold.sources.files import read_chunks
from sevenfold.types import Texts


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    path = tmp_path / "sample.parquet"
    duckdb.sql(
        "select i as n, case when i % 3 = 0 then null else 'tea ' || i end as name, i / 2 as half, i % 2 = 0 as even, "
        "case when i % 2 = 0 then i end as holes, timestamp '2011-07-01 12:00:00' + to_seconds(i) as local, "
        "make_timestamptz(1309518000000000) as instant, date '2011-07-01' as day, (i * 1.5)::decimal(9, 2) as price, "
        "i::hugeint as huge, [i] as list, (10 - i) % 4 as rank from range(10) t(i)"
    ).write_parquet(str(path))
    return path


def lists(chunks: list[dict[str, Any]], name: str) -> list[Any]:
    return [value for chunk in chunks for value in chunk[name].tolist()]


def test_each_type_has_one_form(sample: Path) -> None:
    (chunk,) = read_chunks(sample)
    assert chunk["n"].dtype == np.int64  # type: ignore[union-attr]
    name = chunk["name"]
    assert isinstance(name, Texts)
    assert name.to_list()[:3] == [None, "tea 1", "tea 2"]
    assert chunk["half"].tolist()[:2] == [0.0, 0.5]  # type: ignore[union-attr]
    assert chunk["even"].tolist()[:2] == [True, False]  # type: ignore[union-attr]
    assert chunk["holes"].tolist()[:3] == [0, None, 2]  # type: ignore[union-attr]
    assert str(chunk["local"][1]) == "2011-07-01T12:00:01.000000"  # type: ignore[index]
    assert chunk["instant"].tolist()[0] == 1_309_518_000_000_000  # type: ignore[union-attr]
    assert str(chunk["day"][0]) == "2011-07-01T00:00:00.000000"  # type: ignore[index]
    assert chunk["price"].tolist()[:2] == [0.0, 1.5]  # type: ignore[union-attr]
    assert chunk["huge"].tolist()[9] == 9.0  # type: ignore[union-attr]
    lists_as_text = chunk["list"]
    assert isinstance(lists_as_text, Texts)
    assert lists_as_text.to_list()[3] == "[3]"


def test_chunks_hold_all_rows_once_in_order_and_progress_is_told(sample: Path) -> None:
    told: list[tuple[int, int]] = []
    chunks = list(
        read_chunks(sample, chunk_rows=4, progress=lambda done, total: told.append((done, total)))
    )
    assert lists(chunks, "n") == list(range(10))
    assert [len(chunk["n"]) for chunk in chunks] == [4, 4, 2]
    assert told == [(4, 10), (8, 10), (10, 10)]


def test_rows_can_be_ordered_and_columns_renamed(sample: Path) -> None:
    chunks = list(
        read_chunks(sample, {"place": "rank", "number": "n"}, order_by="place", chunk_rows=3)
    )
    assert list(chunks[0]) == ["place", "number"]
    expected = sorted(range(10), key=lambda i: ((10 - i) % 4, i))
    assert lists(chunks, "number") == expected


def test_csv_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "it's.csv"
    path.write_text('id,"odd ""name""",at\n1,tea,2011-07-01T12:00:00Z\n2,,2011-07-02T12:00:00Z\n')
    (chunk,) = read_chunks(path, {"id": "id", "odd": 'odd "name"', "at": "at"})
    odd = chunk["odd"]
    assert isinstance(odd, Texts)
    assert odd.to_list() == ["tea", None]
    assert chunk["id"].tolist() == [1, 2]  # type: ignore[union-attr]


def test_an_empty_file_has_no_chunks(tmp_path: Path) -> None:
    duckdb.sql("select 1 as n where false").write_parquet(str(tmp_path / "none.parquet"))
    assert list(read_chunks(tmp_path / "none.parquet")) == []


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("x.txt", {}, "must end in"),
        ("gone.parquet", {}, "cannot be read"),
        ("broken.parquet", {}, "cannot be read"),
        ("sample.parquet", {"columns": {"a": "nope"}}, "no column 'nope'; it has n, name"),
        ("sample.parquet", {"columns": {}}, "no column at all"),
        ("sample.parquet", {"order_by": "nope"}, "order_by='nope' is not one of"),
        ("sample.parquet", {"chunk_rows": 0}, "at least 1"),
    ],
)
def test_what_cannot_be_read_is_told(
    sample: Path, name: str, arguments: dict[str, Any], words: str
) -> None:
    (sample.parent / "broken.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(InputError, match=words):
        list(read_chunks(sample.parent / name, **arguments))
