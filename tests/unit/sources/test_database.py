"""Tables of databases: whole in one snapshot, then what comes, with what was committed late, once each."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from sevenfold.clock import ManualClock
from sevenfold.engines.online import OnlineEngine
from sevenfold.errors import InputError
from sevenfold.features.plan import compile_plan
from sevenfold.serving.follow import Follower
from sevenfold.serving.ingest import Ingest
from sevenfold.sources.open import open_source
from sevenfold.spec import aggregate as agg
from sevenfold.spec.entity import Entity
from sevenfold.spec.field import Integer, Number
from sevenfold.spec.stream import Stream
from sevenfold.stores.dead_letters import exhume
from sevenfold.stores.log import blocks, read_stream
from sevenfold.stores.memory import MemoryStore
from sevenfold.types import US_PER_DAY
from tests.unit.sources.servers import postgres_programs, postgres_server

NOW_US = 20_000 * US_PER_DAY
BEGIN = datetime(2024, 9, 1, tzinfo=UTC)
CUSTOMER = Entity("customer")
SALES = Stream(
    "sales",
    time="at",
    id="line",
    keys=[CUSTOMER],
    fields={"price": Number(), "pieces": Integer()},
    horizon="1 h",
    timezone="UTC",
)


class Shop:
    """A database with a table of sales, and a store that reads it."""

    def __init__(self, url: str, sql: str) -> None:
        self.url, self.store, self.clock = url, MemoryStore(), ManualClock(NOW_US)
        engine = OnlineEngine(compile_plan([agg.aggregate(CUSTOMER, SALES, agg.sum("price"))]))
        self.ingest = Ingest(self.store, {"sales": SALES}, engine, self.clock)
        self.run_sql("drop table if exists sales")
        self.run_sql(sql)

    @contextmanager
    def connected(self) -> Iterator[Any]:
        """A connection of a writer."""
        if self.url.startswith("sqlite:"):
            connection: Any = sqlite3.connect(self.url.removeprefix("sqlite:"))
        else:
            connection = psycopg.connect(self.url)
        try:
            yield connection
        finally:
            connection.close()

    def run_sql(self, sql: str) -> None:
        """Do it, and commit."""
        with self.connected() as connection:
            connection.execute(sql)
            connection.commit()

    def put(self, ids: range, at: datetime | None = None, changed: datetime | None = None) -> None:
        """Add lines, one a minute, each changed when it was made, unless said."""
        with self.connected() as connection:
            for i in ids:
                insert(connection, i, at, changed)
            connection.commit()

    def follower(self, options: str, **how: Any) -> Follower:
        """A follower as after a start of the process."""
        source = open_source(f"{self.url}?table=sales{options}", SALES, self.clock)
        return Follower(self.ingest, self.store, SALES, source, **how)

    def run(self, options: str = "", **how: Any) -> Any:
        """What one pass took."""
        follower = self.follower(options, **how)
        try:
            while follower.step():
                pass
        finally:
            follower.close()
        return follower.taken

    def lines(self) -> list[str]:
        """The ids in the log."""
        with self.store.read() as txn:
            return [str(name) for _, batch in blocks(txn) for name in batch.event_ids.to_list()]


def insert(
    connection: Any, i: int, at: datetime | None = None, changed: datetime | None = None
) -> None:
    """Add line i."""
    moment = at or BEGIN + timedelta(minutes=i)
    values = (f"l{i}", moment, changed or moment, f"c{i % 3}", i / 4, 1)
    if isinstance(connection, sqlite3.Connection):
        told = tuple(str(v) if isinstance(v, datetime) else v for v in values)
        connection.execute("insert into sales values (?, ?, ?, ?, ?, ?)", told)
    else:
        connection.execute("insert into sales values (%s, %s, %s, %s, %s, %s)", values)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """A PostgreSQL server."""
    programs = postgres_programs()
    if programs is None:
        pytest.skip("no initdb and postgres on this machine: install Debian's postgresql")
    with postgres_server(programs) as url:
        yield url


TIMES = {"sqlite": "text", "postgresql": "timestamptz"}


@pytest.fixture(params=["sqlite", "postgresql"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Shop:
    """An empty table in each database."""
    time = TIMES[request.param]
    sql = (
        f"create table sales (line text primary key, at {time}, updated {time}, customer text, "
        "price double precision, pieces bigint)"
    )
    if request.param == "sqlite":
        return Shop(f"sqlite:{tmp_path / 'shop.db'}", sql)
    return Shop(request.getfixturevalue("server"), sql)


def test_a_table_is_read_whole_and_then_what_is_new(shop: Shop) -> None:
    shop.put(range(50))
    assert shop.run("&cursor=updated").events == 50
    again = shop.run("&cursor=updated")
    assert (again.rows, again.position) == (0, 50)
    shop.put(range(50, 60))
    taken = shop.run("&cursor=updated")
    assert (taken.rows, taken.events) == (10, 10)
    with shop.store.read() as txn:
        kept = read_stream(txn, "sales")
    assert kept is not None
    begin_us = int(BEGIN.timestamp()) * 1_000_000
    np.testing.assert_array_equal(kept.event_us, begin_us + np.arange(60) * 60_000_000)
    np.testing.assert_array_equal(np.asarray(kept.fields["price"]), np.arange(60) / 4)


def test_rows_committed_late_with_a_smaller_cursor_are_not_lost(shop: Shop) -> None:
    if shop.url.startswith("sqlite:"):
        shop.put(range(20))
        shop.run("&cursor=updated")
        shop.put(
            range(100, 103), at=BEGIN + timedelta(minutes=12), changed=BEGIN + timedelta(minutes=12)
        )
    else:
        with shop.connected() as early:  # it began before what is read, and commits after
            for i in range(100, 103):
                insert(early, i, changed=BEGIN + timedelta(minutes=12))
            shop.put(range(20))
            assert shop.run("&cursor=updated").events == 20
            early.commit()
    shop.put(range(20, 25))
    taken = shop.run("&cursor=updated")
    assert (taken.rows, taken.events, taken.duplicates) == (8, 8, 0)
    assert sorted(shop.lines()) == sorted(f"l{i}" for i in [*range(25), 100, 101, 102])


def test_a_row_of_the_overlap_is_not_taken_again_when_its_id_is_forgotten(shop: Shop) -> None:
    shop.put(range(5))
    shop.run("&cursor=updated", onward=True)
    shop.clock.advance(30 * US_PER_DAY)  # the horizon of an id is an hour
    for _ in range(3):
        assert shop.run("&cursor=updated", onward=True).rows == 0
    shop.put(range(5, 6))
    assert shop.run("&cursor=updated", onward=True).events == 1
    assert shop.lines() == [f"l{i}" for i in range(6)]


@pytest.mark.parametrize("options", ["", "&cursor=updated", "&cursor=updated&overlap=0 s"])
def test_a_killed_follower_goes_on_where_its_store_is(
    shop: Shop, options: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sevenfold.sources.database._ROWS", 7)
    shop.put(range(60))
    for steps in range(60):
        follower = shop.follower(options)
        more = follower.step()
        follower.close()
        if not more:
            break
        if steps == 3:
            shop.put(range(60, 70))
    assert steps < 59
    assert sorted(shop.lines()) == sorted(f"l{i}" for i in range(70))


def test_a_pass_is_one_snapshot(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sevenfold.sources.database._ROWS", 10)
    if shop.url.startswith("sqlite:"):
        shop.run_sql("pragma journal_mode = wal")
    shop.put(range(30))
    follower = shop.follower("&cursor=updated")
    assert follower.step()
    shop.put(range(30, 40))
    shop.run_sql("delete from sales where line = 'l25'")
    while follower.step():
        pass
    follower.close()
    assert follower.taken.events == 30
    assert "l25" in shop.lines()
    assert shop.run("&cursor=updated").events == 10


def test_a_changed_row_is_read_again_under_its_new_cursor(shop: Shop) -> None:
    shop.put(range(5))
    shop.run("&cursor=updated")
    later = BEGIN + timedelta(hours=1)
    shop.run_sql(f"update sales set updated = '{later}', line = 'l3b' where line = 'l3'")
    assert shop.run("&cursor=updated").events == 1


def test_rows_that_are_wrong_are_dead_letters_and_the_others_are_kept(shop: Shop) -> None:
    shop.put(range(5))
    far = "'infinity'" if shop.url.startswith("postgresql:") else "'no time'"
    shop.run_sql(f"insert into sales values ('x1', {far}, '{BEGIN}', 'c1', 1, 1)")
    shop.run_sql(f"insert into sales values ('x2', '{BEGIN}', '{BEGIN}', null, 1, 1)")
    taken = shop.run("&cursor=updated")
    assert (taken.events, taken.dead) == (5, {"bad_time": 1, "missing_customer": 1})
    with shop.store.read() as txn:
        assert {letter.row["line"] for letter in exhume(txn, 5)} == {"x1", "x2"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("&cursor=upated", "no column 'upated'"),
        ("&cursor=updated&overlap=soon", "an overlap of 'soon'"),
        ("&cursor=customer", "an overlap|several kinds|cannot be found"),
        ("&key=lines", "no column 'lines'"),
    ],
)
def test_what_cannot_be_read_is_refused(shop: Shop, options: str, said: str) -> None:
    shop.put(range(5))
    with pytest.raises(InputError, match=said):
        shop.run(options)


def test_a_cursor_that_is_null_is_refused(shop: Shop) -> None:
    shop.put(range(5))
    shop.run_sql("update sales set updated = null where line = 'l3'")
    with pytest.raises(InputError, match="1 rows have no 'updated'"):
        shop.run("&cursor=updated")


def test_a_table_that_is_not_there_is_refused(shop: Shop) -> None:
    source = open_source(f"{shop.url}?table=sails", SALES, shop.clock)
    with pytest.raises(InputError, match="no such table"):
        list(source.read({}))
    source.close()
    with pytest.raises(InputError, match="give table"):
        open_source(shop.url, SALES, shop.clock)


def test_a_server_that_is_not_there_is_refused_without_the_password() -> None:
    url = "postgresql://shop:secret@127.0.0.1:1/shop?table=sales&connect_timeout=1"
    source = open_source(url, SALES, ManualClock())
    assert "secret" not in source.name
    with pytest.raises(InputError, match="cannot be read") as refused:
        list(source.read({}))
    assert "secret" not in str(refused.value)


def test_whole_numbers_as_cursor(tmp_path: Path) -> None:
    sql = "create table sales (n integer primary key, line text, at text, customer text, price real, pieces int)"
    shop = Shop(f"sqlite:{tmp_path / 'shop.db'}", sql)

    def put(*numbers: int) -> None:
        for n in numbers:
            shop.run_sql(f"insert into sales values ({n}, 'l{n}', '{BEGIN}', 'c', 1, 1)")

    put(*range(1, 6), 9)
    assert shop.run("&cursor=n&overlap=5").events == 6
    put(6, 3_000)
    assert shop.run("&cursor=n&overlap=5").events == 2
    put(7)  # further back than the overlap: it is lost, as the page says
    assert shop.run("&cursor=n&overlap=5").events == 0
