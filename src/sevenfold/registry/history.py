"""Why each alias points where it does: an append-only file, one JSON object a line.

The history is the truth and the alias files follow it: a promotion has happened once its line is on
disk. A last line without its newline is a write that a crash cut off: it never happened.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec

from sevenfold.errors import RegistryError
from sevenfold.stores.durable import sync_folder

__all__ = ["Promotion", "append", "current", "previous", "read_history", "trim"]


class Promotion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One move of an alias: from which version to which, when, and why.

    `kind` is `set`, `rollback`, or `clear` where the alias points nowhere from then on, which is version 0; `before`
    is None the first time.
    """

    kind: str
    alias: str
    before: int | None
    version: int
    at_us: int
    reason: str


def read_history(path: Path) -> list[Promotion]:
    """The promotions in the order they happened; RegistryError for a damaged line."""
    raw = path.read_bytes() if path.exists() else b""
    lines = raw[: raw.rfind(b"\n") + 1].splitlines()
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            found.append(msgspec.json.decode(line, type=Promotion))
        except msgspec.DecodeError as error:
            raise RegistryError(f"{path}, line {number}, is not a promotion: {error}") from error
    return found


def append(path: Path, promotion: Promotion) -> None:
    """Add a promotion; on disk when this returns."""
    is_new = not path.exists()
    with path.open("ab") as stream:
        stream.write(msgspec.json.encode(promotion) + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
    if is_new:
        sync_folder(path.parent)


def trim(path: Path) -> None:
    """Cut off a last line that a crash left unfinished, so that the next one starts on its own."""
    if not path.exists():
        return
    raw = path.read_bytes()
    whole = raw.rfind(b"\n") + 1
    if whole < len(raw):
        with path.open("r+b") as stream:
            stream.truncate(whole)
            os.fsync(stream.fileno())


def current(history: Iterable[Promotion]) -> dict[str, int]:
    """The version of every alias; 0 for one that was cleared.

    >>> current([Promotion("set", "champion", None, 1, 0, "first")])
    {'champion': 1}
    """
    return {promotion.alias: promotion.version for promotion in history}


def previous(history: Iterable[Promotion], alias: str) -> int | None:
    """The version that a roll-back of `alias` goes to; None when there is none.

    A roll-back undoes the last promotion that stands, so rolling back twice goes back two promotions
    and not to and fro.

    >>> steps = [Promotion("set", "champion", None, v, v, "better") for v in (1, 2, 3)]
    >>> previous(steps, "champion")
    2
    >>> previous([*steps, Promotion("rollback", "champion", 3, 2, 4, "worse")], "champion")
    1
    """
    standing: list[int] = []
    for promotion in history:
        if promotion.alias != alias:
            continue
        if promotion.kind == "rollback":
            standing = standing[:-1]
        elif promotion.kind == "clear":
            standing = []
        elif not standing or standing[-1] != promotion.version:
            standing.append(promotion.version)
    return standing[-2] if len(standing) > 1 else None
