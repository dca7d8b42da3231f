"""The house rules that no linter knows, checked on the syntax tree.

Run `python tools/check_source.py [FOLDER ...]`; it prints each fault as `path:line: rule: message` and ends with 1 if
there is one. The rules and why they exist:

    long-file      a file of more than 500 lines holds more than one noun
    vague-name     a module or class called utils, common, helpers or manager says nothing about what is in it
    salted-hash    the builtin hash() differs in every process; hashing.py has stable ones
    duck-typing    hasattr() hides which type is meant; say the type, or make it a protocol
    stray-print    only the command line prints; a library returns or logs
    machine-path   a path of one machine does not exist on another
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAX_LINES = 500
FOLDERS = ("src", "tests", "tools", "benchmarks", "docs", "scripts")
TEXTS = {".py", ".md", ".toml", ".sh", ".html", ".css", ".json", ".sql", ".yaml", ".yml", ""}
VAGUE = {"utils", "util", "common", "helpers", "helper", "manager", "managers", "misc", "stuff"}
CLASS_ENDINGS = ("Manager", "Helper", "Util", "Utils")
MACHINE_PATH = re.compile(r"(?<![\w.~$}/*-])/(?:home|root|Users|work|mnt|tmp)/[\w.-]")
PRINTS = ("src/sevenfold/cli/",)


@dataclass(frozen=True, slots=True)
class Fault:
    """One broken rule and where."""

    path: str
    line: int
    rule: str
    message: str

    def __str__(self) -> str:
        """The fault as compilers write it."""
        return f"{self.path}:{self.line}: {self.rule}: {self.message}"


def check_tree(root: Path, folders: tuple[str, ...] = FOLDERS) -> list[Fault]:
    """Every fault in the text files under `folders` of `root`, in path order."""
    faults: list[Fault] = []
    for folder in folders:
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and path.suffix in TEXTS and "__pycache__" not in path.parts:
                faults.extend(
                    check_file(path.relative_to(root).as_posix(), path.read_text("utf-8"))
                )
    return faults


def check_file(name: str, text: str) -> Iterator[Fault]:
    """The faults of one file, given its path from the repository's root and its text."""
    yield from _machine_paths(name, text)
    if not name.endswith(".py"):
        return
    lines = text.count("\n")
    if lines > MAX_LINES:
        yield Fault(
            name, MAX_LINES, "long-file", f"{lines} lines, {MAX_LINES} allowed: split it by noun"
        )
    for part in Path(name).with_suffix("").parts:
        if part in VAGUE:
            yield Fault(name, 1, "vague-name", f"{part!r} does not say what is inside")
    for node in ast.walk(ast.parse(text, name)):
        yield from _node_faults(name, node)


def _node_faults(name: str, node: ast.AST) -> Iterator[Fault]:
    if isinstance(node, ast.ClassDef) and node.name.endswith(CLASS_ENDINGS):
        yield Fault(name, node.lineno, "vague-name", f"class {node.name} does not say what it is")
    if not (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and name.startswith("src/")
    ):
        return
    match node.func.id:
        case "hash":
            yield Fault(
                name, node.lineno, "salted-hash", "use sevenfold.hashing, equal in every process"
            )
        case "hasattr":
            yield Fault(
                name, node.lineno, "duck-typing", "name the type or the protocol that is meant"
            )
        case "print" if not name.startswith(PRINTS):
            yield Fault(name, node.lineno, "stray-print", "only cli prints")


def _machine_paths(name: str, text: str) -> Iterator[Fault]:
    if name.endswith("check_source.py"):  # this file and its test spell the rule
        return
    for number, line in enumerate(text.splitlines(), 1):
        found = MACHINE_PATH.search(line)
        if found:
            yield Fault(
                name,
                number,
                "machine-path",
                f"{line[found.start() : found.start() + 40].strip()!r}",
            )


def main(arguments: list[str]) -> int:
    """The exit code: 0 when every rule holds."""
    root = Path(__file__).resolve().parent.parent
    faults = check_tree(root, tuple(arguments) or FOLDERS)
    for fault in faults:
        print(fault)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
