"""Machine code on disk: whatever two processes do at once, what is found for a list of types was compiled for it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from numba.core.caching import IndexDataCacheFile

import sevenfold
from sevenfold.compiled_files import CodeFiles

STEPS = 3  # of a save that touch the disk: a file, and the index read and written


class Turns:
    """Threads that each take a step when the order says so; one that is done passes its turns on."""

    def __init__(self, order: list[int]) -> None:
        self._order = order
        self._turn = threading.Condition()

    def take(self, who: int) -> None:
        with self._turn:
            assert self._turn.wait_for(lambda: self._order and self._order[0] == who, timeout=30)

    def give(self) -> None:
        with self._turn:
            self._order.pop(0)
            self._turn.notify_all()


def in_turns(given: Any, who: int, turns: Turns) -> Any:
    """The files, each step of their `save` in its turn."""
    files = given._files if isinstance(given, CodeFiles) else given

    def step(name: str) -> Any:
        done = getattr(files, name)

        def taken(*arguments: Any) -> Any:
            turns.take(who)
            try:
                return done(*arguments)
            finally:
                turns.give()

        return taken

    for name in ("_load_index", "_save_index", "_save_data"):
        setattr(files, name, step(name))
    return given


def orders() -> Iterator[list[int]]:
    for first in combinations(range(2 * STEPS), STEPS):
        yield [0 if at in first else 1 for at in range(2 * STEPS)]


def found_after(kind: type, folder: Path, order: list[int]) -> list[Any]:
    """What each of two lists of types finds after both were saved in this order of steps."""
    turns = Turns(list(order))
    writers = [in_turns(kind(str(folder), "kernel", "stamp"), who, turns) for who in range(2)]
    threads = [
        threading.Thread(target=files.save, args=(("types", who), f"code for {who}"))
        for who, files in enumerate(writers)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reader = kind(str(folder), "kernel", "stamp")
    return [reader.load(("types", who)) for who in range(2)]


def test_two_that_save_at_once_are_never_found_for_each_other(tmp_path: Path) -> None:
    for n, order in enumerate(orders()):
        folder = tmp_path / str(n)
        folder.mkdir()
        found = found_after(CodeFiles, folder, order)
        assert all(one in (None, f"code for {who}") for who, one in enumerate(found)), order
        assert any(found), order


def test_numbers_would_be(tmp_path: Path) -> None:
    """That the orders above are those that matter: with the library's own files, code is found for other types."""
    wrong = 0
    for n, order in enumerate(orders()):
        folder = tmp_path / str(n)
        folder.mkdir()
        found = found_after(IndexDataCacheFile, folder, order)
        wrong += found[0] == "code for 1" or found[1] == "code for 0"
    if not wrong:
        pytest.skip("this numba gives each file a name of its own")


def test_what_is_left_of_other_sources_goes(tmp_path: Path) -> None:
    old = CodeFiles(str(tmp_path), "kernel", "of old")
    for key in "ab":
        old.save(key, key)
    other = CodeFiles(str(tmp_path), "kernel2", "of old")
    other.save("a", "of another kernel")
    for path in tmp_path.glob("*.nbc"):
        os.utime(path, (1, 1))
    new = CodeFiles(str(tmp_path), "kernel", "of new")
    assert new.load("a") is None
    new.save("a", "new")
    new.save("b", "newer")
    assert [new.load(key) for key in "ab"] == ["new", "newer"]
    assert len(list(tmp_path.glob("kernel.*.nbc"))) == 2
    assert other.load("a") == "of another kernel"


def test_code_whose_file_is_gone_is_compiled_again(tmp_path: Path) -> None:
    files = CodeFiles(str(tmp_path), "kernel", "stamp")
    files.save("a", 1)
    for path in tmp_path.glob("*.nbc"):
        path.unlink()
    assert files.load("a") is None
    files.save("a", 2)
    assert files.load("a") == 2


PROGRAM = """
import sys
import numpy as np
from sevenfold.hashing import siphash128
from sevenfold.compiled import kernel
from sums import total
print(total(np.ones(100, dtype=sys.argv[1])), sum(total.stats.cache_hits.values()))
"""
SUMS = """
from sevenfold.compiled import kernel


@kernel
def total(numbers):
    s = numbers[0]
    for at in range(len(numbers)):
        s += numbers[at]
    return s
"""


def test_many_processes_that_compile_at_once_all_give_what_is_right(tmp_path: Path) -> None:
    (tmp_path / "sums.py").write_text(SUMS)
    path = f"{tmp_path}{os.pathsep}{Path(sevenfold.__file__).parent.parent}"
    environment = {**os.environ, "PYTHONPATH": path}
    kinds = ["int64", "float64", "int32", "float32"]

    def given() -> list[str]:
        running = [
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM, kind],
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
            )
            for kind in kinds
        ]
        return [one.communicate(timeout=120)[0] for one in running]

    # Each round at least one more is in the index, whoever wrote it last.
    for _ in range(len(kinds) + 1):
        answers = [said.split() for said in given()]
        assert [answer[0] for answer in answers] == ["101", "101.0", "101", "101.0"]
        if all(answer[1] == "1" for answer in answers):
            return
    pytest.fail(f"compiled again each time: {answers}")
