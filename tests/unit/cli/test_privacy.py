"""`sevenfold retain`, `forget` and `compact` on a home."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sevenfold.cli.main import main

ROWS = "line,sold_at,customer,item,pieces,basket\n" + "".join(
    f"l{i},2024-01-{1 + i // 24:02d} {i % 24:02d}:00:00,c{i % 7},{i % 5},{1 + i % 3},b{i}\n"
    for i in range(240)
)


def run(*arguments: object) -> Result:
    """What the command line answers."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def answer(*arguments: object) -> Any:
    """The object that a command that works prints with `--json`."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture
def home(tea: Path, tmp_path: Path) -> Path:
    """A home with 240 sales."""
    rows = tmp_path / "rows.csv"
    rows.write_text(ROWS, "utf-8")
    answer("ingest", tea, "sales", rows, "--home", tmp_path / "home")
    return tmp_path / "home"


def test_a_customer_is_forgotten_once(tea: Path, home: Path) -> None:
    done = answer("forget", tea, "--home", home, "--entity", "customer", "--key", "c3")
    assert (done["events"], done["predictions"], done["compacted"]) == (34, 0, True)
    assert done["states"] == 5, "with each of the five items"
    again = answer(
        "forget", tea, "--home", home, "--entity", "customer", "--key", "c3", "--no-compact"
    )
    assert (again["events"], again["states"], again["compacted"]) == (0, 0, False)
    text = run("forget", tea, "--home", home, "--entity", "customer", "--key", "c4").output
    assert text.startswith("one customer forgotten: 34 events, 0 predictions, 0 dead letters")


def test_who_is_not_declared_cannot_be_forgotten(tea: Path, home: Path) -> None:
    result = run("forget", tea, "--home", home, "--entity", "shop", "--key", "c3")
    assert result.exit_code == 2
    assert "no entity 'shop'; there are customer, item" in result.stderr


def test_what_is_older_than_its_retention_leaves(tea: Path, home: Path) -> None:
    assert answer("retain", tea, "--home", home)["events"] == 0, "nothing is declared"
    text = tea.read_text("utf-8").replace('timezone="UTC",', 'timezone="UTC", retention="90 d",')
    text = text.replace("sf.count(), sf.since_last()", 'sf.count(windows=["7 d"])')
    text = text.replace('"customer_x_item__count"', '"customer_x_item__count_7d"')
    tea.write_text(text, "utf-8")
    assert answer("retain", tea, "--home", home)["events"] == 240
    assert run("retain", tea, "--home", home).output == (
        "removed 0 events, 0 answers, 0 dead letters\n"
    )
    files = [home / "store" / "data.mdb", *(home / "store").glob("states-*/*")]
    sizes = [file.stat() for file in files]  # those of states have holes
    before = sum(min(one.st_size, 512 * one.st_blocks) for one in sizes)
    done = answer("compact", tea, "--home", home)
    assert done["bytes_after"] < done["bytes_before"] == before
    assert "bytes before" in run("compact", tea, "--home", home).output
