"""Every block of code in README and docs runs.

    ```python               runs alone, as a program; a text block right after it is what it prints
    ```python continue      runs after the python blocks before it on the page
    ```sh                   runs in a folder of the page, after the sh blocks before it
    ```LANGUAGE no-run: WHY is not run, and says why

Blocks in json, text, toml, sql and mermaid are for reading.
"""

import contextlib
import io
import os
import re
import runpy
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
READ_ONLY = {"json", "text", "toml", "sql", "html", "http"}


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: Path
    line: int
    language: str
    tag: str
    code: str


def blocks() -> list[Block]:
    """All blocks of all pages, in order."""
    found = []
    for page in PAGES:
        text = page.read_text("utf-8")
        for match in FENCE.finditer(text):
            language, _, tag = match["info"].strip().partition(" ")
            found.append(
                Block(
                    page,
                    text[: match.start()].count("\n") + 2,
                    language,
                    tag.strip(),
                    match["code"],
                )
            )
    return found


def chains() -> list[list[Block]]:
    """Python blocks that run as one program: a block and those after it that continue it."""
    found: list[list[Block]] = []
    for block in blocks():
        if block.language != "python" or block.tag.startswith("no-run:"):
            continue
        if block.tag == "continue":
            assert found, f"{block.page.name}:{block.line} continues nothing"
            assert found[-1][0].page == block.page, (
                f"{block.page.name}:{block.line} continues nothing"
            )
            found[-1].append(block)
        else:
            found.append([block])
    return found


def shells() -> list[list[Block]]:
    """The sh blocks of each page."""
    pages: dict[Path, list[Block]] = {}
    for block in blocks():
        if block.language == "sh" and not block.tag.startswith("no-run:"):
            pages.setdefault(block.page, []).append(block)
    return list(pages.values())


def following(block: Block) -> str | None:
    """What a page shows as printed: a text block with only blank lines between it and the program."""
    text = block.page.read_text("utf-8").split("\n", block.line - 1)[-1]
    after = re.match(
        r"\n*```text\n(.*?)^```$", text[len(block.code) + len("```") :], re.MULTILINE | re.DOTALL
    )
    return after[1] if after else None


def place(chain: list[Block]) -> str:
    return f"{chain[0].page.relative_to(ROOT).as_posix()}:{chain[0].line}"


def test_every_block_says_what_it_is() -> None:
    for block in blocks():
        where = f"{block.page.relative_to(ROOT)}:{block.line}"
        assert block.language in READ_ONLY | {"python", "sh"}, f"{where}: {block.language!r}"
        assert block.tag in ("", "continue") or re.fullmatch(r"no-run: \S.{8,}", block.tag), (
            f"{where}: {block.tag!r}"
        )


@pytest.mark.parametrize("chain", chains(), ids=place)
def test_python_runs(chain: list[Block], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines: list[str] = []
    for block in chain:  # each line at its own number, so that a traceback points into the page
        lines.extend([""] * (block.line - 1 - len(lines)))
        lines.extend(block.code.splitlines())
    program = tmp_path / f"{chain[0].page.stem.lower().replace('-', '_')}_page.py"
    program.write_text("\n".join(lines) + "\n", "utf-8")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        runpy.run_path(str(program))
    shown = following(chain[-1])
    assert shown is None or printed.getvalue() == shown


@pytest.mark.slow
@pytest.mark.parametrize("chain", shells(), ids=place)
def test_shell_runs(chain: list[Block], tmp_path: Path) -> None:
    # The command of this checkout, installed or not.
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "sevenfold"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m sevenfold "$@"\n', "utf-8")
    command.chmod(0o755)
    path = f"{command.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT / "src")}
    for block in chain:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.code],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert done.returncode == 0, f"{block.page.name}:{block.line}\n{done.stdout}\n{done.stderr}"
