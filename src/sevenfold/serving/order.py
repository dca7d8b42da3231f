"""What a running server is told to become: a file in its home, so that only who may write there can say.

The HTTP route that sets a change off names no code to load; it says "look", and this is what is looked at.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from sevenfold.errors import RunError

__all__ = [
    "ChangeOrder",
    "keep_declared",
    "read_declared",
    "read_order",
    "withdraw_declared",
    "withdraw_order",
    "write_order",
]

_FILE = "change.json"
_DECLARED = "declared"


class ChangeOrder(msgspec.Struct, forbid_unknown_fields=True):
    """The declaration to change to, as `sevenfold serve` would be given it, and whether without a model."""

    system: str
    force: bool = False


def write_order(home: Path, order: ChangeOrder) -> None:
    """Leave the order in the home, whole or not at all."""
    partial = home / f".{_FILE}"
    partial.write_bytes(msgspec.json.encode(order))
    partial.replace(home / _FILE)


def read_order(home: Path) -> ChangeOrder | None:
    """The order of a home, if there is one; raises RunError when it is not one."""
    try:
        return msgspec.json.decode((home / _FILE).read_bytes(), type=ChangeOrder)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise RunError(f"{home / _FILE} is no order to change: {error}; remove it") from error


def withdraw_order(home: Path) -> None:
    """Take the order out of the home: it is done, or given up."""
    (home / _FILE).unlink(missing_ok=True)


def keep_declared(home: Path, system: str) -> None:
    """Note for the other processes of a server what it has changed to since it was started."""
    partial = home / f".{_DECLARED}"
    partial.write_text(system, "utf-8")
    partial.replace(home / _DECLARED)


def read_declared(home: Path) -> str | None:
    """What the server of a home has changed to since it was started; None when it has not changed."""
    try:
        return (home / _DECLARED).read_text("utf-8")
    except FileNotFoundError:
        return None


def withdraw_declared(home: Path) -> None:
    """Forget it: a server begins with what it is started with."""
    (home / _DECLARED).unlink(missing_ok=True)
