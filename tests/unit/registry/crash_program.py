"""Kill a writer at every touch of the disk in turn, and look at what it left.

Each step of the loop forks: the child registers a version and promotes it, and dies without warning
just before its nth opening, renaming or making of a file; the parent then opens the registry.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from sevenfold.registry.registry import Registry

NAMES = ("signal", "noise", "holes", "constant", "never_known")
TOUCHES = {"open", "os.rename", "os.mkdir", "os.truncate", "shutil.copyfile"}


def work(registry: Registry, folder: Path, round_number: int) -> None:
    version = registry.register(
        folder,
        name="shop",
        feature_names=NAMES,
        feature_hashes=dict.fromkeys(NAMES, "hash"),
        metrics={},
        lineage={"round": round_number},
        created_us=round_number,
    )
    registry.set_alias("champion", version.version, f"round {round_number}", round_number)


def child(registry: Registry, folder: Path, n: int) -> None:
    touched = 0

    def die(event: str, _: object) -> None:
        nonlocal touched
        if event in TOUCHES:
            touched += 1
            if touched == n:
                os._exit(9)

    sys.addaudithook(die)
    work(registry, folder, n)
    os._exit(0)


def check(registry: Registry, known: list[int]) -> None:
    versions = registry.versions()
    if versions != list(range(1, len(versions) + 1)) or versions[: len(known)] != known:
        raise SystemExit(f"versions are {versions} after {known}")
    for version in versions:
        registry.load(version)
    history = registry.history()
    if registry.alias("champion") != (history[-1].version if history else None):
        raise SystemExit(
            f"champion is {registry.alias('champion')}, the history ends {history[-1:]}"
        )


def main(path: Path, folder: Path) -> None:
    registry = Registry(path)
    work(registry, folder, 0)
    for n in range(1, 500):
        known = registry.versions()
        pid = os.fork()
        if pid == 0:
            child(registry, folder, n)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code not in {0, 9}:
            raise SystemExit(f"the child of step {n} ended with {code}")
        for version in registry.versions():
            registry.verify(version)
        registry = Registry(path)
        check(registry, known)
        if code == 0:
            sys.stdout.write(f"{n - 1} kills, {len(registry.versions())} versions\n")
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
