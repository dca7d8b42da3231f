import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sevenfold.cli.main import main


def run(*arguments: str | Path) -> Result:
    """What the command line answers."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def change(tea: Path, old: str, new: str) -> Path:
    """The file with one thing changed."""
    text = tea.read_text("utf-8")
    assert text.count(old) == 1
    tea.write_text(text.replace(old, new), "utf-8")
    return tea


def test_a_good_system_ends_with_0(tea: Path) -> None:
    result = run("check", tea, "--json")
    assert result.exit_code == 0, result.output
    body = json.loads(result.stdout.splitlines()[-1])
    assert body["ok"] is True
    assert body["counts"]["error"] == 0


def test_every_problem_is_listed_at_once_and_ends_with_1(tea: Path) -> None:
    change(tea, 'gap="1 d"', 'gap="1 h"')
    change(tea, 'primary="ndcg@10"', 'primary="accuracy"')
    result = run("check", tea)
    assert result.exit_code == 1
    assert "$.evaluation.split.gap  [C-06]" in result.stdout
    assert "$.evaluation.primary" in result.stdout
    assert "2 errors" in result.stdout.splitlines()[-1]


def test_the_text_is_as_it_was(tea: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(tea, 'guardrails=[sf.Guardrail("hit_rate@10", max_loss=0.02)],', "")
    change(tea, 'by="item__count_7d"', 'by="item__cuont_7d"')
    change(tea, 'within="2 h"', "within=2")
    monkeypatch.chdir(tea.parent)
    golden = root / "tests" / "golden" / "cli" / "check.txt"
    assert run("check", tea.name).stdout == golden.read_text("utf-8")


def test_warnings_fail_only_when_strict(tea: Path) -> None:
    change(tea, 'guardrails=[sf.Guardrail("hit_rate@10", max_loss=0.02)],', "")
    assert run("check", tea).exit_code == 0
    assert run("check", tea, "--strict").exit_code == 1


def test_json_names_each_problem(tea: Path) -> None:
    change(tea, 'within="2 h"', "within=2")
    result = run("check", tea, "--json")
    assert result.exit_code == 1
    problems = json.loads(result.stdout)["problems"]
    assert [p["path"] for p in problems if p["severity"] == "error"] == ["$.task.label.within"]
    assert set(problems[0]) == {"severity", "check", "path", "message", "remedy"}


@pytest.mark.parametrize("name", ["shp", "no.such.module", "nothing.py", "..", "a b", ""])
def test_a_name_that_nothing_has_ends_with_2(name: str) -> None:
    result = run("check", name)
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: ")
    assert "Traceback" not in result.output


def test_a_near_name_is_suggested() -> None:
    assert "did you mean 'shop'?" in run("check", "shp").stderr


def test_an_error_is_json_too() -> None:
    result = run("check", "nothing.py", "--json")
    assert result.exit_code == 2
    error = json.loads(result.stdout.splitlines()[-1])["error"]
    assert error["code"] == "NotFoundError"
    assert "nothing.py" in error["message"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1 / 0\n", "broken.py, line 1: ZeroDivisionError"),
        ("\n\ndef (:\n", "broken.py, line 3: SyntaxError"),
        ("x = 1\n", "holds no system"),
    ],
)
def test_a_broken_file_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "broken.py").write_text(text, "utf-8")
    result = run("check", tmp_path / "broken.py")
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.output


def test_of_several_systems_one_must_be_named(tea: Path) -> None:
    more = "\nimport dataclasses\nsecond = dataclasses.replace(system, name='second')\n"
    tea.write_text(tea.read_text("utf-8") + more, "utf-8")
    assert "tea.py:NAME, of system, second" in run("check", tea).stderr
    assert run("check", f"{tea}:second").exit_code == 0
    assert "there are system, second" in run("check", f"{tea}:third").stderr


def test_it_is_a_program_too(tea: Path, root: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(root / "src")}
    for name in (tea.name, "tea"):
        done = subprocess.run(
            [sys.executable, "-m", "sevenfold", "check", name],
            cwd=tea.parent,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1].startswith(f"{name}: ")
