"""`sevenfold lineage` and `sevenfold search`."""

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from sevenfold.cli.load import load_system
from sevenfold.cli.main import main
from sevenfold.features.plan import compile_plan
from sevenfold.models.rule import RuleModel
from sevenfold.registry.registry import Registry


def answer(code: int, *arguments: object) -> Any:
    """The object that a command prints."""
    result = CliRunner().invoke(main, [*map(str, arguments), "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout.splitlines()[-1])


def test_a_thing_is_followed_both_ways_up_to_the_versions(tea: Path, tmp_path: Path) -> None:
    names = ["item__count_7d"]
    registry = Registry(tmp_path / "registry")
    hashes = compile_plan(load_system(str(tea)).features).definition_hashes(names)
    RuleModel("item__count_7d", None, ("item__count_7d",)).save(tmp_path / "model")
    for name, known in (("rule", hashes), ("of old", {"item__count_7d": "another"})):
        registry.register(
            tmp_path / "model", name=name, feature_names=names, feature_hashes=known, metrics={}, lineage={}, created_us=0
        )  # fmt: skip
    registry.set_alias("champion", 1, "test", 0)
    picture = tmp_path / "tea.svg"
    found = answer(
        0, "lineage", tea, "--home", tmp_path, "--of", "item__count_7d", "--svg", picture
    )
    assert found["upstream"] == ["entity:item", "stream:sales", "view:item"]
    assert found["downstream"][-2:] == ["version:1", "version:2"]
    assert ["model:rule", "version:1"] in found["edges"]
    versions = {node["name"]: node["description"] for node in found["nodes"]}
    assert versions["1"] == "rule, 1 features; it serves"
    assert "of other definitions of item__count_7d" in versions["2"]
    assert picture.read_text("utf-8").startswith("<svg ")


def test_without_a_home_it_is_the_declaration(tea: Path, tmp_path: Path) -> None:
    text = CliRunner().invoke(main, ["lineage", str(tea), "--home", str(tmp_path / "none")]).output
    assert "feature   item__sum_pieces_7d  <- item, sales.pieces" in text
    assert "model     lightgbm  <- features of lightgbm, taken" in text
    text = CliRunner().invoke(main, ["lineage", str(tea), "--of", "lightgbm"]).output
    assert text.splitlines()[0] == "model:lightgbm"
    assert text.splitlines()[-1] == "made of it: nothing"


def test_words_find_what_is_declared(tea: Path) -> None:
    found = answer(0, "search", tea, "pieces", "kind:feature")
    assert [one["name"] for one in found["found"]] == ["item__sum_pieces_7d"]
    assert answer(1, "search", tea, "nothing_of_that_name")["found"] == []
    assert CliRunner().invoke(main, ["search", str(tea), "x:y"]).exit_code == 2
