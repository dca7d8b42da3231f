"""What a read says that it will do is what it does."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from sevenfold.batch import Reader
from sevenfold.cli.main import main
from sevenfold.engines import histories, offline
from sevenfold.errors import InputError
from sevenfold.types import EventBatch
from tests.unit.batch.kinds import as_arrow, as_reader
from tests.unit.batch.shop import DAY0, HOUR, some_rows, some_sales, system

SYSTEM = Path(__file__).parent / "shop.py"
SALES = some_sales(300)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that holds the sales."""
    folder = tmp_path_factory.mktemp("home")
    pl.DataFrame(SALES).write_parquet(folder / "sales.parquet")
    done = CliRunner().invoke(
        main, ["ingest", str(SYSTEM), "sales", str(folder / "sales.parquet"), "--home", str(folder)]
    )
    assert done.exit_code == 0, done.output
    return folder


def test_events_and_keys_are_those_of_the_spine() -> None:
    reader = Reader(system, events={"sales": SALES})
    rows = {"t": [DAY0, DAY0 + HOUR], "user": ["u1", "nobody"], "item": ["2", "2"]}
    told = reader.explain(rows).as_dict()
    assert (told["rows"], told["first_us"], told["last_us"]) == (2, DAY0, DAY0 + HOUR)
    found = {
        view["name"]: (view["keys"], view["events"], view["is_search"]) for view in told["views"]
    }
    users = int((SALES["user"] == "u1").sum())
    pairs = int(((SALES["user"] == "u1") & (SALES["item"] == 2)).sum())
    assert found == {
        "item": (1, 60, False),
        "user": (2, users, True),
        "user_x_item": (2, pairs, False),
    }
    assert told["left_out"] == {"worth": "popular_score"}
    assert set(told["features"]) == set(reader.plan.names) - {"worth"}
    assert told["events"] == "given: 300 of sales"
    json.dumps(told)


@pytest.mark.parametrize("memory_bytes", [100, 5_000, 1 << 30])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_read_has_the_parts_and_the_events_that_were_said(
    home: Path, memory_bytes: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = Reader(system, home=home, threads=threads)
    reader.memory_bytes = memory_bytes
    told = {view.name: (view.parts, view.events) for view in reader.explain(some_rows(20)).views}
    read: dict[str, list[int]] = {}
    part = histories.KeyedHistory.part

    def noted(self: histories.KeyedHistory, low: int, high: int):
        keyed = part(self, low, high)
        sizes = keyed.slices.ends - keyed.slices.begins
        read.setdefault(self.view.name, []).append(int(sizes.sum()))
        return keyed

    monkeypatch.setattr(offline.KeyedHistory, "part", noted)
    reader.features_at(some_rows(20))
    assert {name: (len(sizes), sum(sizes)) for name, sizes in read.items()} == told


def test_the_text_is_as_it_was(home: Path, root: Path) -> None:
    spine = home / "spine.parquet"
    pl.from_arrow(as_arrow(some_rows(20))).write_parquet(spine)
    command = ["features", str(SYSTEM), "--spine", str(spine), "--home", str(home), "--explain"]
    said = CliRunner().invoke(main, command)
    assert said.exit_code == 0, said.output
    golden = root / "tests" / "golden" / "cli" / "explain.txt"
    assert said.stdout.replace(str(home), "HOME") == golden.read_text("utf-8")
    told = json.loads(CliRunner().invoke(main, [*command, "--json"]).stdout)
    assert (told["rows"], told["spine_parts"]) == (20, 1)
    assert CliRunner().invoke(main, command[:-1]).exit_code == 2  # neither --out nor --explain


def test_a_file_is_looked_at_part_by_part(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spine = tmp_path / "spine.csv"
    pl.from_arrow(as_arrow(some_rows(20))).write_csv(spine)
    reader = Reader(system, home=home)
    whole = reader.explain(spine).as_dict()
    monkeypatch.setattr(Reader, "rows_at_once", lambda *_: 7)
    parts = reader.explain(spine).as_dict()
    assert (whole["spine_parts"], parts["spine_parts"]) == (1, 3)
    assert [parts[name] for name in ("rows", "first_us", "last_us")] == [
        whole[name] for name in ("rows", "first_us", "last_us")
    ]
    assert all(
        a["events"] <= b["events"] for a, b in zip(whole["views"], parts["views"], strict=True)
    )
    assert list(tmp_path.iterdir()) == [spine]


def test_no_rows_and_streams_are_said(home: Path) -> None:
    reader = Reader(system, home=home)
    none = {name: np.array(values)[:0] for name, values in some_rows(1).items()}
    assert reader.explain(none).as_dict()["first_us"] is None
    assert "0 in 1 part" in str(reader.explain(none))
    with pytest.raises(InputError, match="a look would use up"):
        reader.explain(as_reader(some_rows(3)))


def test_events_in_log_order_are_taken_as_they_are() -> None:
    given = Reader(system, events={"sales": SALES})._given
    assert given is not None
    batch = given["sales"]
    assert isinstance(batch, EventBatch)
    assert Reader(system, events={"sales": batch})._given == {"sales": batch}
