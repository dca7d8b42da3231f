"""`sevenfold compile`."""

import json
from pathlib import Path

from click.testing import CliRunner

from sevenfold.cli.main import main


def test_it_compiles_and_leaves_nothing_else_behind(tea: Path) -> None:
    before = sorted(tea.parent.iterdir())
    result = CliRunner().invoke(main, ["compile", str(tea), "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout.splitlines()[-1])
    assert told["system"] == "tea"
    assert told["took_s"] >= 0
    assert sorted(tea.parent.iterdir()) == before


def test_what_is_no_system_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["compile", str(tmp_path / "none.py")])
    assert result.exit_code == 2
    assert "none.py" in result.output
