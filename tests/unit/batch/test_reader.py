"""Features as of then for any kind of table: the same values, the caller's own columns, a clear word for the rest."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from sevenfold.batch import Reader
from sevenfold.clock import SystemClock
from sevenfold.engines.offline import read_at
from sevenfold.engines.online import OnlineEngine
from sevenfold.errors import InputError, NotFoundError, RunError, TimeError
from sevenfold.features.frame import Spine
from sevenfold.features.plan import compile_plan
from sevenfold.serving.ingest import Ingest
from sevenfold.stores.log import note_rewrite
from sevenfold.stores.open import open_store
from sevenfold.types import Texts
from tests.unit.batch.kinds import KINDS, as_arrow, as_pandas, plain
from tests.unit.batch.shop import DAY0, HOUR, sales, some_rows, some_sales, system

SALES = some_sales(300)


@pytest.fixture(scope="module")
def reader() -> Reader:
    """The shop's sales, as a dict of arrays."""
    return Reader(system, events={"sales": SALES})


def expected(
    reader: Reader, table: dict[str, list[Any]], dtype: Any = np.float32
) -> dict[str, list[Any]]:
    """What the engine gives, column by column, null as None."""
    assert reader._given is not None
    keys = {name: Texts.of([str(k) for k in table[name]]) for name in ("user", "item")}
    price = np.array([math.nan if p is None else p for p in table["popular_score"]])
    spine = Spine(np.array(table["t"], dtype=np.int64), keys, {"popular_score": price})
    frame = read_at(reader.plan, reader.plan.names, spine, reader._given)
    columns = zip(frame.names, frame.values.T.astype(dtype), strict=True)
    return {n: [None if math.isnan(v) else v for v in column.tolist()] for n, column in columns}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_comes_back_as_it_was_given_with_the_same_values(
    kind: str, reader: Reader
) -> None:
    table = some_rows(41)
    given = KINDS[kind](table)
    own = plain(KINDS[kind](table))
    filled = reader.features_at(given)
    assert type(filled) is type(given)
    found = plain(filled)
    assert list(found) == [*own, *reader.plan.names]
    assert {name: found[name] for name in own} == own
    assert {name: found[name] for name in reader.plan.names} == expected(reader, table)


def test_the_index_stays_and_the_frame_is_not_changed(reader: Reader) -> None:
    given = as_pandas(some_rows(9))
    before = given.copy()
    filled = reader.features_at(given, ["item__count_1d"])
    pd.testing.assert_frame_equal(given, before)
    assert filled.index.equals(given.index)
    assert filled.dtypes["item__count_1d"] == np.float32
    assert filled.columns.tolist() == [*given.columns, "item__count_1d"]


def test_a_repeated_index_and_whole_numbers_as_keys_are_fine(reader: Reader) -> None:
    given = as_pandas(some_rows(9)).astype({"item": int})
    given.index = [0] * 9
    filled = reader.features_at(given, ["item__count_1d"])
    assert plain(filled[["item__count_1d"]]) == {
        "item__count_1d": expected(reader, some_rows(9))["item__count_1d"]
    }


def test_float64_is_what_was_computed(reader: Reader) -> None:
    table = some_rows(23)
    filled = reader.features_at(as_arrow(table), dtype="float64")
    assert filled.schema.field("worth").type == pa.float64()
    found = plain(filled)
    assert {n: found[n] for n in reader.plan.names} == expected(reader, table, np.float64)


@pytest.mark.parametrize("kind", KINDS)
def test_no_rows_are_no_rows(kind: str, reader: Reader) -> None:
    table = {name: values[:0] for name, values in some_rows(3).items()}
    if kind in ("Arrow batch", "DuckDB", "Arrow reader", "Arrow chunks", "Arrow"):
        given = KINDS[kind](some_rows(3))
        if kind == "DuckDB":
            given = given.limit(0)
        elif kind == "Arrow reader":
            given = pa.RecordBatchReader.from_batches(given.schema, [])
        else:
            given = given.slice(0, 0)
    else:
        given = KINDS[kind](table)
    filled = plain(reader.features_at(given))
    assert set(filled) >= set(reader.plan.names)
    assert all(values == [] for values in filled.values())


@pytest.mark.parametrize("threads", [2, 3, 16])
def test_threads_change_nothing(threads: int, reader: Reader) -> None:
    several = Reader(system, events={"sales": SALES}, threads=threads)
    one, many = (one.features_at(some_rows(41), dtype="float64") for one in (reader, several))
    assert all(one[name].tobytes() == many[name].tobytes() for name in reader.plan.names)


@pytest.mark.parametrize("rows_at_once", [1, 2, 5, 40, 41, 1000])
def test_a_stream_gives_the_same_however_it_is_cut(
    rows_at_once: int, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Reader, "rows_at_once", lambda *_: rows_at_once)
    table = some_rows(41)
    filled = reader.features_at(KINDS["Arrow reader"](table))
    batches = list(filled)
    assert sum(batch.num_rows for batch in batches) == 41
    assert max(batch.num_rows for batch in batches) <= rows_at_once
    found = plain(pa.Table.from_batches(batches))
    assert {n: found[n] for n in reader.plan.names} == expected(reader, table)


def test_a_stream_goes_on_where_its_history_is_void_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sevenfold.batch.reader.HEAD_EVENTS", 50)
    monkeypatch.setattr(Reader, "rows_at_once", lambda *_: 7)
    store = open_store(f"lmdb:{tmp_path / 'store'}")
    ingest = Ingest(
        store, {"sales": sales}, OnlineEngine(compile_plan(system.features)), SystemClock()
    )
    assert ingest.accept("sales", SALES, history=True).events == 300
    store.close()
    reader, table = Reader(system, home=tmp_path), some_rows(41)
    whole = plain(reader.features_at(KINDS["Arrow"](table)))
    stream = reader.features_at(KINDS["Arrow reader"](table))
    batches = [stream.read_next_batch()]
    store = open_store(f"lmdb:{tmp_path / 'store'}")
    with store.write() as txn:
        note_rewrite(txn)
    assert reader._history.step(store, 50)
    store.close()
    assert not list((tmp_path / "history").glob("*/*/0*"))
    batches += stream
    assert plain(pa.Table.from_batches(batches)) == whole


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
@pytest.mark.parametrize("rows_at_once", [1, 7, 41, 1000])
def test_a_file_gives_the_same_however_it_is_cut(
    rows_at_once: int, suffix: str, reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Reader, "rows_at_once", lambda *_: rows_at_once)
    table = some_rows(41)
    spine, out = tmp_path / f"spine{suffix}", tmp_path / "out.parquet"
    write = pl.from_arrow(as_arrow(table))
    write.write_parquet(spine) if suffix == ".parquet" else write.write_csv(spine)
    done = reader.backfill(spine, out)
    assert (done.rows, done.features, done.left_out) == (41, reader.plan.names, ())
    found = plain(duckdb.sql(f"select * from read_parquet('{out}')"))
    assert {n: found[n] for n in reader.plan.names} == expected(reader, table)
    assert found["note"] == table["note"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([spine.name, out.name])


def test_a_relation_that_gives_another_order_each_time_is_asked_once(reader: Reader) -> None:
    connection = duckdb.connect()
    table = as_arrow(some_rows(41))  # noqa: F841  found by its name
    shuffled = connection.sql("select * from table order by random()".replace("table", '"table"'))
    found = plain(reader.features_at(shuffled))
    own = {name: found[name] for name in ("t", "user", "item", "popular_score")}
    assert {n: found[n] for n in reader.plan.names} == expected(reader, own)
    assert sorted(zip(*own.values(), strict=True), key=str) == sorted(
        zip(*(some_rows(41)[n] for n in own), strict=True), key=str
    )


def test_what_lies_in_the_connection_of_a_relation_is_not_seen(reader: Reader) -> None:
    connection = duckdb.connect()
    rows = as_arrow(some_rows(5))  # noqa: F841  found by its name
    connection.execute("create table computed as select 1 as worth; create table given as select 2")
    found = plain(reader.features_at(connection.sql("select * from rows")))
    assert {n: found[n] for n in reader.plan.names} == expected(reader, some_rows(5))


def zoned(kind: str) -> Any:
    """A table with local times."""
    table = some_rows(5)
    match kind:
        case "pandas":
            frame = as_pandas(table)
            return frame.assign(t=frame["t"].dt.tz_localize(None))
        case "numpy":
            return {**table, "t": np.array(table["t"]).astype("datetime64[us]")}
        case "Polars":
            return pl.from_arrow(as_arrow(table)).with_columns(
                pl.col("t").dt.replace_time_zone(None)
            )
        case "Arrow":
            whole = as_arrow(table)
            return whole.set_column(0, "t", whole.column("t").cast(pa.timestamp("ns")))
        case _:
            rows = zoned("Arrow")  # noqa: F841  found by its name
            return duckdb.connect().sql("select * from rows")


@pytest.mark.parametrize("kind", ["pandas", "numpy", "Polars", "Arrow", "DuckDB"])
def test_local_times_need_a_zone(kind: str, reader: Reader) -> None:
    with pytest.raises(
        InputError, match=r"row 0 of the spine: \$\[0\].t: .* declare the time zone"
    ):
        reader.features_at(zoned(kind))
    found = plain(reader.features_at(zoned(kind), timezone="UTC"))
    assert {n: found[n] for n in reader.plan.names} == expected(reader, some_rows(5))
    there = plain(reader.features_at(zoned(kind), ["user__since_last"], timezone="Asia/Tokyo"))
    earlier = {**some_rows(5), "t": [t - 9 * HOUR for t in some_rows(5)["t"]]}
    assert there["user__since_last"] == expected(reader, earlier)["user__since_last"]


def changed(**columns: Any) -> dict[str, Any]:
    return {**some_rows(3), **columns}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (changed(t=["a", "b", "c"]), r"row 0 of the spine: \$\[0\]\.t: 'a' is not a time"),
        (changed(t=[DAY0, None, DAY0]), r"row 1 of the spine: \$\[1\]\.t: the time .* is missing"),
        (changed(user=["a", None, "b"]), r"\$\[1\]\.user: the key is null; .* null_keys='empty'"),
        (changed(user=["a", "", "b"]), r"\$\[1\]\.user: the key is null"),
        (changed(user=np.array([1, 2.5, 3])), r"\$\[1\]\.user: 2\.5 is not a name"),
        (changed(user=[True, False, True]), r"\$\[0\]\.user: True is not a name"),
        (changed(user=["a", object(), "b"]), r"\$\[1\]\.user: .* is not a name"),
        (
            changed(popular_score=["a", "b", None]),
            r"\$\[0\]\.popular_score: 'a' is no number.*2 rows cannot be read",
        ),
        (
            changed(popular_score=np.array([b"a", b"b", b"c"])),
            r"\$\.popular_score: a column of numpy type \|S1",
        ),
        (changed(worth=[1, 2, 3]), r"\$\.worth: the spine has a column 'worth' already"),
        (changed(WORTH=[1, 2, 3]), r"a column 'WORTH' already"),
        (changed(user=["a"]), r"\$\.user: the column has 1 rows and 't' has 3"),
        (changed(user="abc"), r"\$\.user: a str is no column"),
        (changed(user=np.zeros((3, 2))), r"\$\.user: an array of shape \(3, 2\) is no column"),
    ],
)
def test_what_cannot_be_used_is_said(table: dict[str, Any], said: str, reader: Reader) -> None:
    with pytest.raises(InputError, match=said):
        reader.features_at(table)


def test_missing_columns_are_said(reader: Reader) -> None:
    table = some_rows(3)
    without_t = {name: values for name, values in table.items() if name != "t"}
    with pytest.raises(InputError, match=r"\$\.t: there is no column 't'; there are user, item"):
        reader.features_at(without_t)
    with pytest.raises(
        InputError, match=r"'worth' needs a column 'popular_score' in the spine; there are t"
    ):
        reader.features_at({n: table[n] for n in ("t", "item")}, ["worth"])
    with pytest.raises(InputError, match="the columns of no feature; it lacks item"):
        reader.features_at({"t": table["t"]})
    with pytest.raises(NotFoundError, match="no feature named 'ghost'"):
        reader.features_at(table, ["ghost"])
    with pytest.raises(InputError, match="'worth' is asked for twice"):
        reader.features_at(table, ["worth", "worth"])
    with pytest.raises(InputError, match="give a list of names"):
        reader.features_at(table, "worth")
    some = reader.features_at({n: table[n] for n in ("t", "item")})
    assert list(some) == ["t", "item", "item__count_1d", "item__mean_pieces_7d"]
    assert reader.left_out(["t", "item"]) == {
        "user__last_pieces": "user",
        "user__since_last": "user",
        "user_x_item__count": "user",
        "worth": "popular_score",
    }


def test_wrong_words_are_said(reader: Reader) -> None:
    with pytest.raises(InputError, match="dtype='int8': allowed are 'float32' and 'float64'"):
        reader.features_at(some_rows(1), dtype="int8")  # type: ignore[typeddict-item]
    with pytest.raises(InputError, match="null_keys=None"):
        reader.features_at(some_rows(1), null_keys=None)  # type: ignore[typeddict-item]
    with pytest.raises(TimeError, match="'Mars' is no time zone"):
        reader.features_at(some_rows(1), timezone="Mars")
    with pytest.raises(InputError, match="give backfill"):
        reader.features_at("spine.parquet")
    with pytest.raises(InputError, match=r"the spine is a numpy.ndarray; allowed are a pandas"):
        reader.features_at(np.zeros(3))
    with pytest.raises(InputError, match=r"the spine is a builtins.list"):
        reader.features_at([1, 2])
    with pytest.raises(InputError, match="threads=0: give at least 1"):
        Reader(system, threads=0)
    with pytest.raises(InputError, match="memory_mib=0: give at least 1"):
        Reader(system, memory_mib=0)
    with pytest.raises(InputError, match="not both"):
        Reader(system, home="x", events={})
    with pytest.raises(RunError, match="no store in"):
        Reader(system, home="x").features_at(some_rows(1))


def nested(kind: str) -> Any:
    whole = as_arrow(some_rows(3))
    listed = whole.set_column(1, "user", pa.array([[1], [2], [3]]))
    if kind == "Arrow":
        return listed
    if kind == "Polars":
        return pl.from_arrow(listed)
    return listed.to_pandas(types_mapper=pd.ArrowDtype)


@pytest.mark.parametrize("kind", ["Arrow", "Polars", "pandas"])
def test_a_column_of_lists_is_no_key(kind: str, reader: Reader) -> None:
    with pytest.raises(InputError, match=r"\$\.user: a column of (Arrow|Polars) type .*convert it"):
        reader.features_at(nested(kind))


def test_two_columns_of_one_name_are_not_guessed_at(reader: Reader) -> None:
    frame = as_pandas(some_rows(3))
    both = pd.concat([frame, frame[["user"]]], axis=1)
    with pytest.raises(InputError, match=r"\$\.user: 2 columns have this name"):
        reader.features_at(both)
    assert len(reader.features_at(both, ["item__count_1d"])) == 3  # it is not asked for


@pytest.mark.parametrize("kind", ["dict", "pandas", "Polars", "Arrow chunks", "DuckDB"])
def test_a_null_key_can_be_one_that_nothing_is_known_of(kind: str, reader: Reader) -> None:
    table = some_rows(6)
    table["user"][2] = None
    unknown = {**table, "user": ["nobody" if u is None else u for u in table["user"]]}
    found = plain(reader.features_at(KINDS[kind](table), null_keys="empty"))
    assert {n: found[n] for n in reader.plan.names} == expected(reader, unknown)


def test_the_column_of_times_may_have_any_name(reader: Reader) -> None:
    table = {("asked_at" if n == "t" else n): values for n, values in some_rows(7).items()}
    found = plain(reader.features_at(table, time="asked_at"))
    assert {n: found[n] for n in reader.plan.names} == expected(reader, some_rows(7))


@pytest.mark.parametrize(
    "kind", ["pandas", "Polars", "Polars lazy", "Arrow chunks", "Arrow reader", "DuckDB"]
)
def test_events_may_be_of_any_kind(kind: str, reader: Reader) -> None:
    rng = np.random.default_rng(5)
    order = rng.permutation(300)
    moved = {name: column[order].tolist() for name, column in SALES.items()}
    moved = {
        "t": moved["sold_at"],
        **{k: [str(v) for v in moved[k]] if k == "item" else moved[k] for k in moved},
    }
    given = KINDS[kind](moved)
    other = Reader(system, events={"sales": given})
    found = plain(other.features_at(some_rows(41)))
    assert {n: found[n] for n in reader.plan.names} == expected(reader, some_rows(41))


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_events_may_be_files(suffix: str, reader: Reader, tmp_path: Path) -> None:
    frame = pl.DataFrame(SALES)
    path = tmp_path / f"sales{suffix}"
    frame.write_parquet(path) if suffix == ".parquet" else frame.write_csv(path)
    found = plain(Reader(system, events={"sales": path}).features_at(some_rows(41)))
    assert {n: found[n] for n in reader.plan.names} == expected(reader, some_rows(41))


def test_refused_and_doubled_events_are_as_in_a_store(reader: Reader) -> None:
    bad = {name: np.concatenate([column, column[:4]]) for name, column in SALES.items()}
    bad["pieces"] = bad["pieces"].copy()
    bad["line"] = np.concatenate([SALES["line"], ["l0", "x1", "x2", "x3"]])
    bad["pieces"][301:] = -4
    other = Reader(system, events={"sales": bad})
    assert other.refused == {"sales": {"out_of_range": 3}}
    assert "is below the lowest allowed" in other.refused_because["sales"]
    found = plain(other.features_at(some_rows(41)))
    assert {n: found[n] for n in reader.plan.names} == expected(reader, some_rows(41))


def test_events_that_cannot_be_had_are_said() -> None:
    with pytest.raises(NotFoundError, match="no stream 'sale'"):
        Reader(system, events={"sale": SALES})
    less = {name: column for name, column in SALES.items() if name != "basket"}
    with pytest.raises(InputError, match=r"\$\.basket: the events given of stream 'sales' have no"):
        Reader(system, events={"sales": less})
    with pytest.raises(NotFoundError, match="there are no events of sales"):
        Reader(system, events={"sales": {name: column[:0] for name, column in SALES.items()}})
    with pytest.raises(InputError, match="there is no file"):
        Reader(system, events={"sales": "nothing.csv"})


def test_no_library_is_loaded_that_the_caller_has_not_loaded() -> None:
    program = (
        "import sys\nfrom sevenfold.batch import Reader\nfrom tests.unit.batch.shop import *\n"
        "Reader(system, events={'sales': some_sales(9)}).features_at(some_rows(3))\n"
        "assert not {'pandas', 'polars', 'pyarrow'} & set(sys.modules)"
    )
    root = Path(__file__).resolve().parents[3]
    path = f"{root / 'src'}:{root}"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": path, "NUMBA_NUM_THREADS": "1"},
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
