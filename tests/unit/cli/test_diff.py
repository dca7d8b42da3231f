"""`sevenfold diff`: two files, or a file and a home."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sevenfold.cli.load import load_system
from sevenfold.cli.main import main
from sevenfold.features.plan import compile_plan
from sevenfold.models.rule import RuleModel
from sevenfold.registry.registry import Registry

ROWS = "line,sold_at,customer,item,pieces,basket\n" + "".join(
    f"l{i},2024-01-01 {i % 24:02d}:00:00,c{i % 7},{i % 5},{1 + i % 3},b{i}\n" for i in range(24)
)


def run(*arguments: object) -> Result:
    """What the command line answers."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def answer(code: int, *arguments: object) -> Any:
    """The object that `diff` prints."""
    result = run("diff", *arguments, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout.splitlines()[-1])


@pytest.fixture
def new(tea: Path) -> Path:
    """The tea shop with a window altered, a feature added and one dropped."""
    text = tea.read_text("utf-8")
    text = text.replace(
        'sf.count(windows=["1 h", "7 d"]), sf.sum("pieces", windows=["7 d"])',
        'sf.count(windows=["1 h", "7 d"], hop="1 h"), sf.max("pieces", windows=["7 d"])',
    ).replace("sf.count(), sf.since_last()", "sf.count(), sf.since_last(), name='pair'")
    text = text.replace('"item__sum_pieces_7d", "customer_x_item__count"', '"pair__count"')
    folder = tea.parent / "later"
    folder.mkdir()
    (folder / "tea.py").write_text(text, "utf-8")
    return folder / "tea.py"


def test_two_files_are_compared_by_feature_and_part(tea: Path, new: Path, tmp_path: Path) -> None:
    found = answer(1, tea, new, "--home", tmp_path / "none")
    assert found["added"] == ["item__max_pieces_7d"]
    assert found["dropped"] == ["item__sum_pieces_7d"]
    assert ["customer_x_item__count", "pair__count"] in found["renamed"]
    assert found["altered"]["item__count_1h"] == [{"part": "hop", "before": "-", "after": "1h"}]
    assert "item__count_7d" not in found["altered"], "an hour is its hop already"
    assert found["filled"] == ["item", "pair"]
    assert found["freed"] == ["item", "customer_x_item"]
    assert found["recomputed"] is None
    assert found["restart"] == []
    text = run("diff", tea, new, "--home", tmp_path / "none").output
    assert "~ item__count_1h\n    hop: - -> 1h" in text
    assert "= customer_x_item__count is now pair__count, the same definition" in text


def test_the_same_is_no_difference(tea: Path, tmp_path: Path) -> None:
    found = answer(0, tea, tea, "--home", tmp_path)
    assert found["same"]
    assert run("diff", tea, tea, "--home", tmp_path).output == "no difference\n"


def test_a_home_says_what_it_is_served_by_what_a_change_costs_and_which_versions_cannot_read_it(
    tea: Path, new: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    rows = tmp_path / "rows.csv"
    rows.write_text(ROWS, "utf-8")
    assert run("ingest", tea, "sales", rows, "--home", home).exit_code == 0
    assert answer(0, tea, "--home", home)["same"]
    registry = Registry(home / "registry")
    hashes = compile_plan(load_system(str(tea)).features).definition_hashes(["item__count_1h"])
    RuleModel("item__count_1h", None, ("item__count_1h",)).save(tmp_path / "model")
    version = registry.register(
        tmp_path / "model",
        name="rule",
        feature_names=["item__count_1h"],
        feature_hashes=hashes,
        metrics={},
        lineage={},
        created_us=0,
    ).version
    registry.set_alias("champion", version, "test", 0)
    found = answer(1, new, "--home", home)
    assert found["registered_models"] == [
        {"version": 1, "name": "rule", "serves": True, "features": ["item__count_1h"]}
    ]
    costs = {one["view"]: one for one in found["recomputed"]}
    assert (costs["item"]["events"], costs["item"]["keys"]) == (24, 5)
    assert costs["pair"]["exact"]
    text = run("diff", new, "--home", home).output
    assert "version 1 (rule), which serves cannot read item__count_1h" in text
    assert "to be filled  events  keys" in text


def test_a_home_that_knows_no_definition_says_so(tea: Path, tmp_path: Path) -> None:
    result = run("diff", tea, "--home", tmp_path)
    assert result.exit_code == 2
    assert "no store in" in result.stderr


def test_what_cannot_be_changed_is_said(tea: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.py"
    text = tea.read_text("utf-8").replace(
        '"pieces": sf.Integer(low=1)', '"pieces": sf.Number(low=1)'
    )
    other.write_text(text.replace("k=10", "k=12").replace("recall@10", "recall@12"), "utf-8")
    found = answer(1, tea, other, "--home", tmp_path / "none")
    assert found["refused"] == ["sales.pieces: the log holds it as Integer, now it is Number"]
    assert found["restart"] == ["$.task"]
