"""Style, types and the law of imports, each checked by its own program."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.tooling


def run(root: Path, *command: str, source: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The finished program, started beside this Python with the source folder importable."""
    beside = Path(sys.executable).parent
    environment = os.environ | {
        "PYTHONPATH": str(source or root / "src"),
        "PATH": f"{beside}:{os.environ['PATH']}",
    }
    return subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )


def test_style(root: Path) -> None:
    done = run(root, "ruff", "check", "--no-cache", "--output-format", "concise", ".")
    assert done.returncode == 0, done.stdout + done.stderr


def test_types(root: Path, tmp_path: Path) -> None:
    done = run(root, "mypy", "--cache-dir", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr


def test_imports_point_down(root: Path) -> None:
    done = run(root, "lint-imports", "--no-cache")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("types.py", "import sevenfold.hashing", "imports point down only"),
        ("spec/entity.py", "import sevenfold.algebra", "imports point down only"),
        ("features/__init__.py", "import duckdb", "the pure core touches no engine"),
        (
            "engines/offline.py",
            "import sevenfold.engines.online",
            "offline and online meet in the algebra",
        ),
        ("models/__init__.py", "import sevenfold.testing", "nobody imports the test kit"),
        ("testing/oracle.py", "import sevenfold.algebra.layout", "the oracle shares no code"),
        ("surprise/__init__.py", "'''A room in no layer.'''", "imports point down only"),
    ],
)
def test_a_planted_import_is_caught(
    root: Path, tmp_path: Path, module: str, line: str, contract: str
) -> None:
    ignore = shutil.ignore_patterns("__pycache__", "*.parquet")
    shutil.copytree(root / "src" / "sevenfold", tmp_path / "sevenfold", ignore=ignore)
    planted = tmp_path / "sevenfold" / module
    planted.parent.mkdir(exist_ok=True)
    before = planted.read_text("utf-8") if planted.exists() else ""
    planted.write_text(f"{before}\n{line}\n", "utf-8")
    done = run(root, "lint-imports", "--no-cache", source=tmp_path)
    assert done.returncode != 0
    assert contract in done.stdout
