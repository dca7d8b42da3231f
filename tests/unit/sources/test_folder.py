"""A folder of files into the log: each once, whole, in order; the damaged named, the unfinished left."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from sevenfold.clock import ManualClock
from sevenfold.engines.online import OnlineEngine
from sevenfold.errors import InputError
from sevenfold.features.plan import compile_plan
from sevenfold.serving.follow import Follower
from sevenfold.serving.ingest import Ingest
from sevenfold.sources.folder import FolderSource
from sevenfold.sources.open import open_source
from sevenfold.spec import aggregate as agg
from sevenfold.spec.entity import Entity
from sevenfold.spec.field import Id, Integer, Number
from sevenfold.spec.stream import Stream
from sevenfold.stores.dead_letters import exhume
from sevenfold.stores.log import blocks, read_stream
from sevenfold.stores.memory import MemoryStore
from sevenfold.stores.offsets import read_offset
from sevenfold.types import US_PER_DAY, US_PER_S

NOW_US = 20_000 * US_PER_DAY
CUSTOMER = Entity("customer")
SALES = Stream(
    "sales",
    time="at",
    id="line",
    keys=[CUSTOMER],
    fields={"price": Number(low=0), "pieces": Integer(), "basket": Id()},
    timezone="UTC",
)


def row(i: int, **changes: Any) -> dict[str, Any]:
    """Line i of a shop that sells one thing a minute."""
    at = np.datetime64((NOW_US - 9 * US_PER_DAY) // US_PER_S + 60 * i, "s")
    plain = {"line": f"l{i}", "at": f"{at}Z", "customer": f"c{i % 3}", "price": i / 4}
    return {**plain, "pieces": 1 + i % 2, "basket": f"b{i // 4}", **changes}


def rows(begin: int, end: int) -> list[dict[str, Any]]:
    """Lines begin to end."""
    return [row(i) for i in range(begin, end)]


def put(path: Path, lines: list[dict[str, Any]], age_s: float = 60) -> Path:
    """The rows as a file of the kind that its name says, changed `age_s` ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    if path.name.endswith(".jsonl"):
        path.write_text(text)
    elif path.name.endswith(".json"):
        path.write_text(json.dumps(lines, indent=1))
    elif path.name.endswith(".jsonl.gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        plain = path.with_name("_rows.jsonl")
        plain.write_text(text)
        kind = "format parquet" if path.suffix == ".parquet" else "format csv, header"
        duckdb.sql(f"copy (select * from read_json('{plain}')) to '{path}' ({kind})")
        plain.unlink()
    aged(path, age_s)
    return path


def aged(path: Path, age_s: float) -> None:
    """Change the file's time to `age_s` before now."""
    at_us = NOW_US - int(age_s * US_PER_S)
    os.utime(path, ns=(at_us * 1_000, at_us * 1_000))


class Shop:
    """A store with one stream, and a folder that it follows."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.store, self.clock = folder, MemoryStore(), ManualClock(NOW_US)
        view = agg.aggregate(CUSTOMER, SALES, agg.count(windows=["7 d"]), agg.sum("price"))
        self.engine = OnlineEngine(compile_plan([view]))
        self.ingest = Ingest(self.store, {"sales": SALES}, self.engine, self.clock)

    def follower(self, **options: Any) -> Follower:
        """A follower as after a start of the process."""
        source = FolderSource(self.folder, SALES, self.clock)
        return Follower(self.ingest, self.store, SALES, source, **options)

    def run(self, **options: Any) -> Follower:
        """A follower that has taken all there is."""
        follower = self.follower(**options)
        while follower.step():
            pass
        return follower

    def lines(self) -> list[str]:
        """The ids in the log."""
        with self.store.read() as txn:
            return [str(name) for _, batch in blocks(txn) for name in batch.event_ids.to_list()]

    def state_is_that_of_the_log(self) -> bool:
        """Whether the states are those of a store that has seen the log."""
        other = MemoryStore()
        with self.store.read() as txn, other.write() as into:
            for _, batch in blocks(txn):
                self.engine.apply(into, batch)
            return list(txn.scan("state")) == list(into.scan("state"))


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """An empty shop and an empty folder."""
    return Shop(tmp_path / "incoming")


ENDS = [".jsonl", ".jsonl.gz", ".json", ".csv", ".parquet"]


@pytest.mark.parametrize("end", ENDS)
def test_files_are_taken_once_in_the_order_of_their_paths(shop: Shop, end: str) -> None:
    put(shop.folder / f"b{end}", rows(20, 30))
    put(shop.folder / f"a{end}", rows(0, 20))
    put(shop.folder / "later" / f"a{end}", rows(30, 40))
    assert shop.run().taken.events == 40
    assert shop.lines() == [f"l{i}" for i in range(40)]
    again = shop.run().taken
    assert (again.rows, again.position) == (0, 40)
    put(shop.folder / f"0{end}", rows(40, 45))
    assert shop.run().taken.events == 5
    assert shop.state_is_that_of_the_log()


def test_a_row_is_the_same_event_from_every_kind_of_file(shop: Shop) -> None:
    for end in ENDS:
        put(shop.folder / f"sales{end}", rows(0, 30))
    taken = shop.run().taken
    assert (taken.events, taken.duplicates, sum(taken.dead.values())) == (30, 120, 0)


def test_a_killed_follower_goes_on_where_its_store_is(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sevenfold.sources.folder._ROWS", 7)
    for i, end in enumerate(ENDS):
        put(shop.folder / f"{i}{end}", rows(40 * i, 40 * i + 40))
    steps = 0
    while steps < 60 and shop.follower().step():  # each follower is gone after one batch
        steps += 1
    assert 5 * 6 <= steps < 60
    assert shop.lines() == [f"l{i}" for i in range(200)]
    assert shop.state_is_that_of_the_log()


def document(path: Path, text: str) -> None:
    """A file of so much text, which nobody has changed for an hour."""
    path.write_text(text, "utf-8-sig")
    aged(path, 3600)


def test_a_json_file_is_an_array_an_object_or_lines(shop: Shop) -> None:
    document(shop.folder / "a.json", json.dumps([row(0), 7, row(1), {"line": "l2"}, None]))
    document(shop.folder / "b.json", json.dumps(row(3), indent=4))
    document(shop.folder / "c.json", f"{json.dumps(row(4))}\n[1]\n{json.dumps(row(5))}\n")
    document(shop.folder / "d.json", " [ ] ")
    taken = shop.run().taken
    assert shop.lines() == ["l0", "l1", "l3", "l4", "l5"]
    assert taken.dead == {"not_json": 3, "missing_time": 1}
    with shop.store.read() as txn:
        letters = exhume(txn, 10)
    assert sorted((one.origin["file"], one.detail.partition(":")[0]) for one in letters) == [
        ("a.json", "$[2].at"),
        ("a.json", "element 2"),
        ("a.json", "element 5"),
        ("c.json", "line 2"),
    ]
    assert [one.origin.get("element") for one in letters if "$" in one.detail] == [4]


def test_an_array_that_is_damaged_is_set_aside_until_it_is_mended(shop: Shop) -> None:
    whole = json.dumps(rows(0, 9))
    document(shop.folder / "a.json", whole[:-40])
    document(shop.folder / "b.jsonl", json.dumps(row(20)))
    taken = shop.run().taken
    assert shop.lines() == ["l20"]
    assert "a.json is set aside" in taken.notes[0]
    assert "begins as an array of JSON and is none" in taken.notes[0]
    assert "one object a line (.jsonl)" in taken.notes[0]
    document(shop.folder / "a.json", whole)
    assert shop.run().taken.events == 9


def test_what_is_not_finished_is_not_read(shop: Shop) -> None:
    put(shop.folder / ".hidden.jsonl", rows(0, 5))
    put(shop.folder / "_part.jsonl", rows(0, 5))
    fresh = put(shop.folder / "fresh.jsonl", rows(0, 5), age_s=0.5)
    whole = put(shop.folder / "cut.parquet", rows(5, 10))
    data = whole.read_bytes()
    whole.write_bytes(data[:-20])
    aged(whole, 5)
    follower = shop.run()
    assert (follower.taken.rows, follower.source.waiting, follower.taken.notes) == (0, 2, [])
    shop.clock.advance(3 * US_PER_S)
    whole.write_bytes(data)
    aged(whole, 5)
    assert shop.run().taken.events == 10
    assert fresh.exists()


def test_a_damaged_file_is_named_set_aside_and_read_when_it_is_mended(shop: Shop) -> None:
    whole = put(shop.folder / "a.parquet", rows(0, 10))
    data = whole.read_bytes()
    whole.write_bytes(data[:60] + b"damage" + data[66:-30] + data[-29:])
    aged(whole, 3600)
    put(shop.folder / "b.csv", rows(10, 20))
    (shop.folder / "c.csv").write_text("line,at\nl1,2020-01-01T00:00:00Z\n")
    aged(shop.folder / "c.csv", 60)
    taken = shop.run().taken
    assert taken.events == 10
    assert len(taken.notes) == 2
    assert "a.parquet is set aside" in taken.notes[0]
    assert "c.csv is set aside" in taken.notes[1]
    assert "'customer'" in taken.notes[1]
    assert shop.run().taken.notes == []
    whole.write_bytes(data)
    aged(whole, 30)
    late = shop.run()
    assert late.taken.events == 10
    with shop.store.read() as txn:
        states = read_offset(txn, "sales", late.source.name)
    assert {part: kept["state"] for part, kept in states.items()} == {
        "a.parquet": "read",
        "b.csv": "read",
        "c.csv": "damaged",
    }


def test_a_file_changed_after_it_was_read_is_set_aside_once(shop: Shop) -> None:
    put(shop.folder / "a.jsonl", rows(0, 10))
    assert shop.run().taken.events == 10
    put(shop.folder / "a.jsonl", rows(0, 20), age_s=30)
    assert shop.run().taken.notes == [
        "a.jsonl is set aside: it was changed after rows of it were taken; put further rows into a further file"
    ]
    assert shop.run().taken.notes == []
    assert len(shop.lines()) == 10


def test_a_bad_line_is_a_dead_letter_that_says_where_it_was(shop: Shop) -> None:
    good = [json.dumps(line) for line in rows(0, 4)]
    text = [good[0], "{not json", good[1], "[1, 2]", "", json.dumps(row(9, price=-1)), *good[2:]]
    (shop.folder / "a.jsonl").write_bytes("\n".join(text).encode() + b'\n{"line": "\xff"}')
    aged(shop.folder / "a.jsonl", 60)
    taken = shop.run().taken
    assert (taken.rows, taken.events) == (8, 4)
    assert taken.dead == {"not_json": 3, "out_of_range": 1}
    with shop.store.read() as txn:
        letters = exhume(txn, 10)[::-1]
    assert [letter.detail.partition(":")[0] for letter in letters[:3]] == [
        "line 2",
        "line 4",
        "line 9",
    ]
    assert letters[3].origin == {"file": "a.jsonl", "line": 6}
    assert letters[3].buried_us == NOW_US


def test_a_bad_line_of_a_csv_file_spoils_no_other(shop: Shop) -> None:
    text = put(shop.folder / "a.csv", rows(0, 6)).read_text().splitlines()
    bad = ["too,few", text[1].replace("l0", "x1") + ",more", '"never closed,1,2,3', 'a"b,,,"']
    mixed = text[2].replace("l1", "x2").replace("0.25", "cheap")
    text[3:3] = [bad[0], bad[1], bad[2], mixed]
    text.append(bad[3])
    (shop.folder / "a.csv").write_bytes(("\r\n".join(text)).encode() + b"\r\n\xff\xfe,,,,,")
    aged(shop.folder / "a.csv", 60)
    taken = shop.run().taken
    assert shop.lines() == [f"l{i}" for i in range(6)]
    assert taken.dead["not_a_record"] >= 4
    assert taken.rows == taken.events + sum(taken.dead.values())
    with shop.store.read() as txn:
        kept = read_stream(txn, "sales")
    assert kept is not None
    np.testing.assert_array_equal(np.asarray(kept.fields["price"]), np.arange(6) / 4)


def test_what_comes_after_catching_up_is_known_when_it_comes(shop: Shop) -> None:
    put(shop.folder / "a.jsonl", rows(0, 5))
    shop.run(onward=True)
    shop.clock.advance(60 * US_PER_S)
    put(shop.folder / "b.jsonl", rows(5, 10))
    shop.run(onward=True)
    with shop.store.read() as txn:
        kept = read_stream(txn, "sales")
    assert kept is not None
    assert (kept.known_us[:5] == kept.event_us[:5]).all()
    assert (kept.known_us[5:] == NOW_US + 60 * US_PER_S).all()


def test_nothing_is_known_later_than_it_is_read(shop: Shop) -> None:
    put(shop.folder / "a.jsonl", [row(0), row(1, at="2200-01-01T00:00:00Z")])
    taken = shop.run().taken
    assert (taken.events, taken.dead) == (1, {"from_the_future": 1})


def test_a_first_read_from_before_the_logs_end_needs_a_word(shop: Shop) -> None:
    shop.ingest.accept("sales", [row(100)], history=True)
    put(shop.folder / "a.jsonl", rows(0, 5))
    with pytest.raises(InputError, match="Give --late"):
        shop.run()
    assert shop.run(late=True).taken.events == 5


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("folder:", "names no place"),
        ("folder:nowhere", "no folder"),
        ("folder:.?settel=1 s", "has no option 'settel'"),
        ("folder:.?settle=soon", "settle"),
        ("ftp:x", "no kind of source"),
    ],
)
def test_an_address_that_is_none_is_refused(url: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        open_source(url, SALES, ManualClock(NOW_US))
