"""The version, the changelog, the decisions and the wheel say the same as the code."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

import sevenfold


@pytest.fixture(scope="module")
def project(root: Path) -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads((root / "pyproject.toml").read_text("utf-8"))


def dependencies() -> list[str]:
    """The names of what is installed with Sevenfold."""
    path = Path(__file__).resolve().parents[2] / "pyproject.toml"
    listed = tomllib.loads(path.read_text("utf-8"))["project"]["dependencies"]
    return [re.split(r"[<>=;\s]", line)[0] for line in listed]


def test_the_newest_heading_of_the_changelog_is_the_version(root: Path) -> None:
    headings = re.findall(r"^## (\S+)", (root / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert next(heading for heading in headings if heading != "Unreleased") == sevenfold.__version__


@pytest.mark.parametrize("name", dependencies())
def test_a_dependency_has_a_record_with_reason_and_licence(root: Path, name: str) -> None:
    records = {
        path.name: path.read_text("utf-8") for path in (root / "docs" / "decisions").glob("0*.md")
    }
    mine = [
        text
        for text in records.values()
        if re.search(rf"^\| `{re.escape(name)}` \|", text, re.MULTILINE)
    ]
    assert len(mine) == 1, f"{name}: one line in one decision record, found {len(mine)}"


@pytest.mark.parametrize("name", dependencies())
def test_a_dependency_is_used(root: Path, name: str) -> None:
    if name in {"httptools", "uvloop"}:  # taken up by uvicorn when they are there
        return
    pattern = re.compile(rf"^\s*(?:import|from) {name.replace('-', '_')}\b", re.MULTILINE)
    assert any(pattern.search(path.read_text("utf-8")) for path in (root / "src").rglob("*.py"))


def test_a_dependency_has_a_floor_and_a_ceiling(project: dict[str, Any]) -> None:
    lists = [
        project["project"]["dependencies"],
        *project["project"]["optional-dependencies"].values(),
    ]
    for line in (line for listed in lists for line in listed):
        assert re.search(r">=[\d.]+,<\d+", line), line


def test_decisions_are_numbered_without_a_gap(root: Path) -> None:
    numbers = sorted(int(path.name[:4]) for path in (root / "docs" / "decisions").glob("0*.md"))
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.tooling
def test_the_wheel_holds_the_code_and_the_data(root: Path, tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=root,
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    in_tree = {
        path.relative_to(root / "src").as_posix()
        for path in (root / "src" / "sevenfold").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert in_tree <= names
    assert "sevenfold/blueprints/shop/data/online_retail_ii.parquet" in names
