"""From a file to the log, from the log to features, and who serves: the commands on a real store."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import duckdb
import numpy as np
import pytest
from click.testing import CliRunner, Result

from sevenfold.cli.load import load_system
from sevenfold.cli.main import main
from sevenfold.features.plan import compile_plan
from sevenfold.models.dataset import Dataset
from sevenfold.models.rule import RuleModel
from sevenfold.registry.registry import Registry
from sevenfold.stores import history

SALES = """
    select 'l' || i as line, 'c' || (i % 7) as customer, i % 5 as item, 1 + i % 3 as pieces,
           'b' || (i // 3) as basket, timestamp '2024-01-01' + interval (i) hour as sold_at
    from range(300) t(i)
"""
SPINE = """
    select timestamptz '2024-01-05 00:00:00+00' + interval (40 - i) hour as t, 'c' || (i % 8) as customer,
           i % 5 as item, i * 1.5 as mine, null as nothing
    from range(41) t(i)
"""


def write(query: str, path: Path) -> Path:
    """The rows of a query as a file."""
    duckdb.sql(f"set TimeZone = 'UTC'; copy ({query}) to '{path}'")
    return path


@pytest.fixture
def sales(tmp_path: Path) -> Path:
    """300 lines of a shop, one an hour."""
    return write(SALES, tmp_path / "sales.csv")


@pytest.fixture
def spine(tmp_path: Path) -> Path:
    """41 rows to fill, latest first."""
    return write(SPINE, tmp_path / "spine.parquet")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home that is not there yet."""
    return tmp_path / "home"


def run(*arguments: object) -> Result:
    """What the command line answers."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def answer(*arguments: object) -> Any:
    """The object that a command that works prints with `--json`."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])


def refusal(*arguments: object) -> str:
    """The message of a command that does not work."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return result.stderr.removeprefix("Error: ").strip()


def test_a_file_goes_into_the_log_row_by_row(tea: Path, sales: Path, home: Path) -> None:
    bad = "select 'x' || i, 'c1', 1, case i when 0 then -4 else 1 end, 'b', case i when 1 then null else timestamp '2024-03-01' end from range(3) t(i)"
    write(f"select * from ({SALES}) union all {bad}", sales)
    taken = answer("ingest", tea, "sales", sales, "--home", home)
    assert taken["rows"] == 303 == taken["events"] + taken["duplicates"] + taken["dead_letters"]
    assert (taken["events"], taken["dead_letters"]) == (301, 2)
    assert sum(taken["dead_letters_by_reason"].values()) == 2
    data = answer("data", tea, "--home", home, "--dead", 5)
    assert data["streams"] == [
        {
            "stream": "sales",
            "rows_in": 303,
            "events": 301,
            "duplicates": 0,
            "dead_letters": 2,
            "first": "2024-01-01T00:00:00Z",
            "last": "2024-03-01T00:00:00Z",
        }
    ]
    assert (data["position"], len(data["dead_letters"])) == (301, 2)


def test_the_text_of_data_is_as_it_was(tea: Path, sales: Path, home: Path, root: Path) -> None:
    run("ingest", tea, "sales", sales, "--home", home)
    golden = root / "tests" / "golden" / "cli" / "data.txt"
    assert run("data", tea, "--home", home).stdout == golden.read_text("utf-8")


def test_rows_from_before_the_logs_end_need_a_word(tea: Path, sales: Path, home: Path) -> None:
    answer("ingest", tea, "sales", sales, "--home", home)
    assert "Give --late if so it was, or --resume" in refusal(
        "ingest", tea, "sales", sales, "--home", home
    )
    again = answer("ingest", tea, "sales", sales, "--home", home, "--resume")
    assert (again["events"], again["position"]) == (0, 300)
    late = answer("ingest", tea, "sales", sales, "--home", home, "--late")
    assert late["events"] == 300


def test_an_interrupted_ingest_goes_on(tea: Path, sales: Path, home: Path, tmp_path: Path) -> None:
    part = write(
        f"select * from ({SALES}) where sold_at < timestamp '2024-01-08 03:00'",
        tmp_path / "part.csv",
    )
    assert answer("ingest", tea, "sales", part, "--home", home)["events"] == 171
    assert answer("ingest", tea, "sales", sales, "--home", home, "--resume")["position"] == 300


def test_columns_may_be_renamed(tea: Path, sales: Path, home: Path) -> None:
    write(f"select * rename (pieces as quantity) from ({SALES})", sales)
    assert "'pieces'" in refusal("ingest", tea, "sales", sales, "--home", home)
    assert "has no 'peices'" in refusal(
        "ingest", tea, "sales", sales, "--home", home, "--column", "peices=quantity"
    )
    taken = answer("ingest", tea, "sales", sales, "--home", home, "--column", "pieces=quantity")
    assert taken["events"] == 300


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ingest", "sale", "sales.csv"), "no stream 'sale'"),
        (("ingest", "sales", "nothing.csv"), "no file"),
        (("data",), "no store in"),
        (("models",), "no registry in"),
        (("promote", "1", "--reason", "x"), "no registry in"),
        (("features", "--spine", "spine.parquet", "--out", "o.parquet"), "no store in"),
        (("features", "--spine", "nothing.parquet", "--out", "o.parquet"), "nothing.parquet"),
        (("features", "--spine", "sales.csv", "--out", "o.parquet"), "no column 't'"),
        (
            ("features", "--spine", "spine.parquet", "--out", "o.parquet", "--feature", "ghost"),
            "no feature named 'ghost'",
        ),
        (
            ("features", "--spine", "spine.parquet", "--out", "o.parquet", "--events", "sales"),
            "STREAM=FILE",
        ),
    ],
)
def test_what_is_not_there_is_said(
    tea: Path, sales: Path, spine: Path, home: Path, arguments: tuple[str, ...], said: str
) -> None:
    name, *rest = arguments
    found = [tea.parent / word if word.endswith((".csv", ".parquet")) else word for word in rest]
    assert said in refusal(name, tea, *found, "--home", home)


def filled(path: Path) -> list[tuple[Any, ...]]:
    """The rows of a file, in its order."""
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.execute("set TimeZone = 'UTC'")
        return connection.execute(
            "select * replace (epoch_us(t) as t) from read_parquet(?)", [str(path)]
        ).fetchall()


def test_rows_are_filled_in_their_order_from_the_log_and_from_a_file(
    tea: Path, sales: Path, spine: Path, home: Path, tmp_path: Path
) -> None:
    answer("ingest", tea, "sales", sales, "--home", home)
    first, second = tmp_path / "first.parquet", tmp_path / "second.parquet"
    told = answer("features", tea, "--spine", spine, "--out", first, "--home", home)
    assert told["rows"] == 41
    assert told["left_out"] == []
    answer("features", tea, "--spine", spine, "--out", second, "--events", f"sales={sales}")
    rows, own = filled(first), filled(spine)
    assert filled(second) == rows
    assert [row[: len(own[0])] for row in rows] == own
    counts = duckdb.sql(f"""
        select (select count(*) from ({SALES}) s where s.item = p.item and s.sold_at < p.t::timestamp
                and s.sold_at >= date_trunc('hour', p.t::timestamp - interval 7 day))
        from read_parquet('{spine}') p order by p.t desc
    """).fetchall()
    place = len(own[0]) + told["features"].index("item__count_7d")
    assert [row[place] for row in rows] == [count for (count,) in counts]


def test_a_history_is_kept_verified_and_made_again(
    tea: Path, sales: Path, spine: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no store" in refusal("history", tea, "--home", home)
    answer("ingest", tea, "sales", sales, "--home", home)
    assert "300 in the log" in run("history", tea, "--home", home).output
    before, after = tmp_path / "before.parquet", tmp_path / "after.parquet"
    answer("features", tea, "--spine", spine, "--out", before, "--home", home)
    monkeypatch.setattr(history, "HEAD_EVENTS", 1)
    told = answer("history", tea, "--home", home)
    one = {"segments": 1, "events": 300, "head": 0}
    assert told["kept"] == {"sales": {"item": one, "customer+item": one}}
    files = [*home.glob("history/sales/item/*/field.pieces")]
    raw = bytearray(files[0].read_bytes())
    raw[8] ^= 1
    files[0].write_bytes(raw)
    assert len(answer("history", tea, "--home", home, "--verify")["damaged"]) == 1
    assert answer("history", tea, "--home", home, "--verify")["damaged"] == []
    assert answer("history", tea, "--home", home, "--drop")["kept"] == told["kept"]
    answer("features", tea, "--spine", spine, "--out", after, "--home", home, "--memory", 1)
    assert filled(after) == filled(before)


def test_a_time_without_a_zone_is_refused_or_read_as_told(
    tea: Path, sales: Path, tmp_path: Path
) -> None:
    spine = write("select timestamp '2024-01-05' as t, 1 as item", tmp_path / "naive.parquet")
    command = (
        "features",
        tea,
        "--spine",
        spine,
        "--out",
        tmp_path / "o.parquet",
        "--events",
        f"sales={sales}",
    )
    assert "row 0" in refusal(*command)
    told = answer(*command, "--timezone", "UTC")
    assert told["features"] == ["item__count_1h", "item__count_7d", "item__sum_pieces_7d"]
    assert told["left_out"] == ["customer_x_item__count", "customer_x_item__since_last"]


def test_a_column_named_as_a_feature_is_not_overwritten(
    tea: Path, sales: Path, tmp_path: Path
) -> None:
    spine = write(
        "select timestamptz '2024-01-05 00:00:00+00' as t, 1 as item, 7 as item__count_1h",
        tmp_path / "s.parquet",
    )
    out = tmp_path / "o.parquet"
    said = refusal("features", tea, "--spine", spine, "--out", out, "--events", f"sales={sales}")
    assert "has a column 'item__count_1h' already" in said
    assert list(tmp_path.glob("*o.parquet*")) == []


def test_a_null_key_is_refused_or_read_as_unknown(tea: Path, sales: Path, tmp_path: Path) -> None:
    rows = "select 1704412800000000 as at, case i when 1 then null else i end as item from range(3) t(i)"
    command = ("features", tea, "--spine", write(rows, tmp_path / "s.csv"), "--time", "at")
    command = (*command, "--out", tmp_path / "o.parquet", "--events", f"sales={sales}", "--float64")
    assert "$[1].item: the key is null" in refusal(*command)
    assert answer(*command, "--null-keys", "empty")["rows"] == 3
    counts = duckdb.sql(f"select item__count_7d from '{tmp_path / 'o.parquet'}'")
    assert (counts.types[0], counts.fetchall()[1]) == ("DOUBLE", (0.0,))


def test_events_that_were_refused_are_told(tea: Path, sales: Path, spine: Path) -> None:
    write(
        f"select * replace (case line when 'l3' then -1 else pieces end as pieces) from ({SALES})",
        sales,
    )
    command = ("features", tea, "--spine", spine, "--out", spine.with_name("o.parquet"))
    told = answer(*command, "--events", f"sales={sales}")
    assert told["refused"] == {"sales": {"out_of_range": 1}}
    said = run(*command, "--events", f"sales={sales}").stderr
    assert "1 rows of sales refused, such as: $[3].pieces: -1 is below the lowest allowed" in said


def register(tea: Path, home: Path) -> None:
    """Two versions of a rule that the declared features can feed."""
    features = compile_plan(load_system(str(tea)).features)
    names = ["item__count_7d"]
    dataset = Dataset.of([[1.0], [2.0]], [0, 1], feature_names=names)
    registry = Registry(home / "registry")
    for version in (1, 2):
        folder = home / f"saved{version}"
        RuleModel(by=names[0]).fit(dataset, np.random.default_rng(0)).save(folder)
        registry.register(
            folder,
            name="rule",
            feature_names=names,
            feature_hashes=features.definition_hashes(names),
            metrics={},
            lineage={},
            created_us=version,
        )


def test_a_population_is_scored_as_of_then(tea: Path, sales: Path, home: Path) -> None:
    answer("ingest", tea, "sales", sales, "--home", home)
    out, command = home / "out.parquet", ("score", tea, "--home", home, "--as-of")
    assert "there is nobody" in refusal(*command, "2023-12-31T00:00:00Z")
    said = answer(*command, "2024-01-10T00:00:00+01:00", "--k", 2, "--out", out)
    assert said["as_of"] == "2024-01-09T23:00:00Z"
    assert (said["keys"], said["slates"], said["k"], said["version"]) == (7, 7, 2, 0)
    assert duckdb.sql(f"select count(*), max(position) from '{out}'").fetchall() == [(14, 2)]
    assert "7 slates of 7 keys, up to 10 items" in run("score", tea, "--home", home).stdout
    assert "is no instant" in refusal(*command, "soon")
    assert "active" in refusal("score", tea, "--home", home, "--population", "active=x")


def test_a_version_is_promoted_and_taken_back(tea: Path, home: Path) -> None:
    register(tea, home)
    for version in (1, 2):
        moved = answer("promote", tea, version, "--home", home, "--reason", "it won")
    assert (moved["before"], moved["version"]) == (1, 2)
    assert (
        answer("promote", tea, "--rollback", "--home", home, "--reason", "it lost")["version"] == 1
    )
    listed = answer("models", tea, "--home", home)
    assert [version["aliases"] for version in listed["versions"]] == [["champion"], []]
    assert [move["reason"] for move in listed["history"]] == ["it won", "it won", "it lost"]
    assert "version 7 is not in" in refusal("promote", tea, 7, "--home", home, "--reason", "x")
    assert run("promote", tea, "--home", home, "--reason", "x").exit_code == 2


def test_a_model_of_other_features_is_not_promoted(tea: Path, home: Path) -> None:
    register(tea, home)
    text = tea.read_text("utf-8").replace(
        'sf.count(windows=["1 h", "7 d"])', 'sf.count(windows=["1 h", "7 d"], hop="1 min")'
    )
    changed = tea.with_name("changed.py")
    changed.write_text(text, "utf-8")
    said = refusal("promote", changed, 1, "--home", home, "--reason", "x")
    assert "other definitions of ['item__count_7d']" in said


def test_a_server_answers_until_it_is_asked_to_stop(
    tea: Path, sales: Path, home: Path, root: Path
) -> None:
    answer("ingest", tea, "sales", sales, "--home", home)
    environment = os.environ | {"PYTHONPATH": str(root / "src")}
    command = [
        sys.executable,
        "-m",
        "sevenfold",
        "serve",
        str(tea),
        "--home",
        str(home),
        "--port",
        "0",
        "--json",
    ]
    server = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        while not (home / "server.json").exists():
            assert server.poll() is None, server.communicate()
            time.sleep(0.05)
        port = json.loads((home / "server.json").read_text("utf-8"))["port"]
        address = f"http://127.0.0.1:{port}"
        with urlopen(f"{address}/healthz", timeout=30) as reply:
            assert reply.status == 200
        assert "runs on" in refusal("ingest", tea, "sales", sales, "--home", home)
        body = {
            "stream": "sales",
            "events": [
                {
                    "line": "new",
                    "customer": "c1",
                    "item": "1",
                    "pieces": 2,
                    "basket": "b",
                    "sold_at": "2024-06-01T00:00:00Z",
                }
            ],
        }
        token = (home / "token").read_text("utf-8").strip()
        request = Request(
            f"{address}/v1/events", json.dumps(body).encode(), {"Authorization": f"Bearer {token}"}
        )
        with urlopen(request, timeout=30) as reply:
            assert json.loads(reply.read())["events"] == 1
        assert answer("data", tea, "--home", home)["position"] == 301
    finally:
        server.send_signal(signal.SIGTERM)
        out, err = server.communicate(timeout=30)
    assert server.returncode == 0, err
    assert json.loads(out.splitlines()[-1])["system"] == "tea"


def test_a_folder_is_taken_in_and_gone_on_with(tea: Path, home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "incoming"
    folder.mkdir()
    for name, rows in (("a.csv", "i < 100"), ("b.parquet", "i >= 100 and i < 200")):
        write(SALES + f" where {rows}", folder / name)
    address = f"folder:{folder}?settle=0 s"
    taken = answer("ingest", tea, "sales", address, "--home", home)
    assert (taken["rows"], taken["events"], taken["notes"]) == (200, 200, [])
    write(SALES + " where i >= 200", folder / "c.csv")
    (folder / "d.parquet").write_bytes(b"PAR1 and nothing of the kind PAR1")
    again = answer("ingest", tea, "sales", address, "--home", home)
    assert (again["events"], again["duplicates"], again["position"]) == (100, 0, 300)
    assert "d.parquet is set aside" in again["notes"][0]


def test_json_lines_are_taken_in(tea: Path, home: Path, tmp_path: Path) -> None:
    line = '{"line": "l1", "customer": "c1", "item": 1, "pieces": 2, "basket": "b", "sold_at": "2024-01-01T00:00:00Z"}'
    file = tmp_path / "sales.jsonl"
    file.write_text(f"{line}\nnot json\n", "utf-8")
    taken = answer("ingest", tea, "sales", file, "--home", home)
    assert (taken["events"], taken["dead_letters_by_reason"]) == (1, {"not_json": 1})
    assert answer("ingest", tea, "sales", file, "--home", home)["rows"] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("folder:nowhere",), "no folder nowhere"),
        (("folder:.", "--resume"), "--resume is for a file"),
        (("sales.csv", "--follow"), "--follow is for an address"),
    ],
)
def test_a_source_that_cannot_be_read_is_refused(
    tea: Path,
    sales: Path,
    home: Path,
    arguments: tuple[str, ...],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tea.parent)
    assert said in refusal("ingest", tea.name, "sales", *arguments, "--home", home)


BAD_SALES = [
    {"line": "l1", "customer": "c1", "item": 1, "pieces": 0, "sold_at": "2024-01-01T00:00:00Z"},
    {"line": "l2", "customer": None, "item": 1, "pieces": 1, "sold_at": "2024-01-01T00:00:00Z"},
    {"line": "l3", "customer": "c1", "item": 1, "pieces": 1, "sold_at": "2024-01-01T00:00:00Z"},
]


def test_dead_letters_are_listed_tried_again_and_purged(
    tea: Path, home: Path, tmp_path: Path
) -> None:
    file = tmp_path / "sales.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in BAD_SALES) + "no json\n", "utf-8")
    assert answer("ingest", tea, "sales", file, "--home", home)["events"] == 1
    listed = answer("dead-letters", "list", tea, "--home", home)
    assert listed["count"] == 3
    assert {one["reason"] for one in listed["by_reason"]} == {
        "out_of_range",
        "missing_customer",
        "not_json",
    }
    assert listed["letters"][0]["origin"] == {"file": "sales.jsonl", "line": 2}
    assert listed["letters"][0]["row"]["line"] == "l2"
    same = answer("dead-letters", "redrive", tea, "--home", home)
    assert (same["letters"], same["events"], same["refused"], same["kept"]) == (3, 0, 2, 1)
    tea.write_text(tea.read_text().replace("sf.Integer(low=1)", "sf.Integer(low=0)"), "utf-8")
    mended = answer("dead-letters", "redrive", tea, "--home", home, "--reason", "out_of_range")
    assert (mended["letters"], mended["events"]) == (1, 1)
    data = answer("data", tea, "--home", home)["streams"][0]
    assert (data["rows_in"], data["events"], data["dead_letters"]) == (4, 2, 2)
    again = answer("dead-letters", "list", tea, "--home", home, "--reason", "missing_customer")
    assert again["letters"][0]["origin"] == {"file": "sales.jsonl", "line": 2}
    told = answer("dead-letters", "purge", tea, "--home", home)
    assert (told["letters"], told["removed"]) == (2, False)
    old = answer("dead-letters", "purge", tea, "--home", home, "--older-than", "1 d", "--yes")
    assert old["letters"] == 0
    assert answer("dead-letters", "purge", tea, "--home", home, "--yes")["letters"] == 2
    assert run("dead-letters", "list", tea, "--home", home).stdout == "no dead letters\n"
    assert answer("data", tea, "--home", home)["streams"][0]["dead_letters"] == 2


@pytest.mark.parametrize("what", ["list", "redrive", "purge"])
def test_dead_letters_of_no_stream_are_refused(what: str, tea: Path, home: Path) -> None:
    assert "no stream" in refusal("dead-letters", what, tea, "--home", home, "--stream", "sails")
    assert "no store in" in refusal("dead-letters", what, tea, "--home", home)
