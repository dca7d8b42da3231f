"""Files of several streams go into one log in the order in which their rows became known; JSON is read as tables are."""

import json
from pathlib import Path

import duckdb
import pytest

from tests.unit.cli.test_store_commands import SALES, answer, refusal, run, write


@pytest.fixture
def sales(tmp_path: Path) -> Path:
    """300 lines of a shop, one an hour."""
    return write(SALES, tmp_path / "sales.csv")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home that is not there yet."""
    return tmp_path / "home"


def test_an_array_of_json_is_taken_in_and_read(tea: Path, home: Path, tmp_path: Path) -> None:
    day = "2024-01-01T00:00:00Z"
    rows = [
        {"line": f"l{i}", "customer": "c1", "item": "1", "pieces": 2, "basket": "b", "sold_at": day}
        for i in range(3)
    ]
    file, spine = tmp_path / "sales.json", tmp_path / "spine.csv"
    file.write_text(json.dumps(rows), "utf-8")
    taken = answer("ingest", tea, "sales", file, "--home", home)
    assert (taken["events"], taken["dead_letters"]) == (3, 0)
    spine.write_text("t,customer,item\n2024-01-02T00:00:00Z,c1,1\n", "utf-8")
    filled = [tmp_path / "home.parquet", tmp_path / "given.parquet"]
    answer("features", tea, "--spine", spine, "--out", filled[0], "--home", home)
    given = ("features", tea, "--spine", spine, "--out", filled[1])
    answer(*given, "--events", f"sales={file}")
    both = [duckdb.sql(f"select * exclude (t) from '{path}'").fetchall() for path in filled]
    assert both[0] == both[1]
    assert 3.0 in both[0][0]
    file.write_text("[]", "utf-8")
    assert "there are no events" in refusal(*given, "--events", f"sales={file}")
    file.write_text(f"{json.dumps(rows[0])}\nnot json\n", "utf-8")
    assert "line 2: is not JSON" in refusal(*given, "--events", f"sales={file}")
    assert ".jsonl, .ndjson" in refusal("ingest", tea, "sales", tea, "--home", home)


MORE = """
from dataclasses import replace

maker = sf.Entity("maker")
stock = sf.Table("stock", item, {"maker": sf.Id(), "price": sf.Number()}, time="at", delete="gone", timezone="UTC")
views = sf.Stream(
    "views", time="at", id="id", keys=[customer, item], fields={}, timezone="UTC",
    enrich={"price": sf.Lookup(stock, "price")},
)
notes = sf.Stream("notes", time="at", keys=[maker], fields={"stars": sf.Number()}, timezone="UTC")
of_maker = sf.aggregate(maker, notes, sf.count(), sf.mean("stars"))
system = replace(
    system,
    data=[*system.data, stock, views, notes],
    features=[
        *system.features,
        sf.aggregate(customer, views, sf.sum("price")),
        sf.attribute(item, stock, "price"),
        sf.through(stock, "maker", of_maker),
    ],
)
"""


@pytest.fixture
def ads(tea: Path) -> Path:
    """The tea shop with a table of prices, views that are enriched from it, and a stream behind a link."""
    path = tea.with_name("ads.py")
    path.write_text(tea.read_text("utf-8") + MORE, "utf-8")
    return path


def test_pasts_of_several_streams_go_in_together(
    ads: Path, sales: Path, home: Path, tmp_path: Path
) -> None:
    changes = "select i % 5 as item, 'm' || (i % 2) as maker, i * 1.0 as price, false as gone, timestamp '2024-01-01' + interval (i * 3) hour as at from range(60) t(i)"
    stock = write(changes, tmp_path / "stock.csv")
    looks = "select 'v' || i as id, 'c' || (i % 7) as customer, i % 5 as item, timestamp '2024-01-01 00:30' + interval (i) hour as at from range(200) t(i)"
    views = write(looks, tmp_path / "views.parquet")
    others = ("--with", f"stock={stock}", "--with", f"views={views}")
    taken = answer("ingest", ads, "sales", sales, *others, "--home", home)
    assert (taken["stream"], taken["events"]) == ("sales", 300)
    further = {name: (one["events"], one["position"]) for name, one in taken["with"].items()}
    assert further == {"stock": (60, 560), "views": (200, 560)}
    text = run("ingest", ads, "sales", sales, *others, "--home", home, "--resume").stdout
    assert [line.partition(":")[0] for line in text.splitlines()] == ["sales", "stock", "views"]
    # Each view has the price of its own hour, and what nobody has written yet is no reason to refuse.
    spine = write(
        "select 'c' || i as customer, i % 5 as item, timestamptz '2024-01-06 00:00:00+00' as t from range(7) t(i)",
        tmp_path / "spine.parquet",
    )
    out = tmp_path / "out.parquet"
    filled = answer("features", ads, "--spine", spine, "--out", out, "--home", home)
    assert not filled["left_out"]
    then = f"""
        select l.customer, sum(c.price) from ({looks}) l asof join ({changes}) c
        on l.item = c.item and l.at > c.at where l.at < timestamp '2024-01-06' group by 1 order by 1
    """
    found = f"select customer, customer__sum_price from '{out}' order by 1"
    assert duckdb.sql(found).fetchall() == duckdb.sql(then).fetchall()
    behind = f"select distinct item_maker__count, item_maker__mean_stars from '{out}'"
    assert duckdb.sql(behind).fetchall() == [(0.0, None)]
    given = answer(
        "features", ads, "--spine", spine, "--out", tmp_path / "given.parquet",
        "--feature", "customer__sum_price",
        "--events", f"views={views}", "--events", f"stock={stock}",
    )  # fmt: skip
    assert given["rows"] == 7
    same = found.replace("out.parquet", "given.parquet")
    assert duckdb.sql(same).fetchall() == duckdb.sql(then).fetchall()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("sales.csv", "--with", "sales=sales.csv"), "is taken in already"),
        (("folder:.", "--with", "sales=sales.csv"), "is taken in already"),
        (("sales.csv", "--with", "sales"), "is not of the form STREAM=FILE"),
        (("sales.csv", "--with", "gone=sales.csv"), "no stream 'gone'"),
    ],
)
def test_what_cannot_go_in_together_is_said(
    tea: Path,
    sales: Path,
    home: Path,
    arguments: tuple[str, ...],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(sales.parent)
    assert said in refusal("ingest", tea, "sales", *arguments, "--home", home)


@pytest.mark.parametrize(
    ("source", "mode", "said"),
    [
        ("folder:.", (), "--with is for files"),
        ("sales.csv", ("--late",), "so there is no order to put them in"),
        ("sales.csv", ("--follow",), "--follow is for an address"),
    ],
)
def test_files_together_have_one_order(
    ads: Path,
    sales: Path,
    home: Path,
    source: str,
    mode: tuple[str, ...],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(sales.parent)
    given = ("--with", "stock=sales.csv", "--home", home, *mode)
    assert said in refusal("ingest", ads, "sales", source, *given)
